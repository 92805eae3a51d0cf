//! Descriptors of targets: is it a stream socket, to whom, and how much of its bytes is wanted. A process that is
//! handed its work through pipes has those looked at too.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::{CONNECTIONS, Connection, setting};
use crate::memory::{kernel, opaque};
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns,
};
use pyapm_wire::connection::Key;
use pyapm_wire::count;
use pyapm_wire::event::{ConnectionClosed, ConnectionOpened, FAMILY_PIPE, kind, opened as flag};
use pyapm_wire::target::{Target, pipes};

/// What the first bytes made of a connection, until a hint says more.
pub(crate) mod manner {
    /// No byte seen yet.
    pub(crate) const UNDECIDED: u32 = 0;
    /// The peer spoke first, with three capital letters or a packet's header: it may be an HTTP or uwsgi request.
    pub(crate) const REQUESTS: u32 = 1;
    /// Anything else: only the first bytes of each call are carried.
    pub(crate) const OTHER: u32 = 2;
    /// The process has begun to speak HTTP/2 as a client: messages begin anywhere in what one call moves.
    pub(crate) const STREAMS: u32 = 3;
}

pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFSOCK: u16 = 0o140_000;
const S_IFIFO: u16 = 0o010_000;
const SOCK_STREAM: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The entry of a stream socket, or of a pipe of a process whose pipes matter, made at its first use. `None` for any
/// other descriptor.
///
/// The file behind the descriptor is looked up each time: descriptors are closed and given anew by any
/// thread, by dup2, close_range and exec, and only the inode number tells one socket from the next.
#[inline(always)]
pub(crate) fn find(tgid: u32, fd: u32, target: &Target, passed: Passed) -> Option<*mut Connection> {
    let key = Key { tgid, fd };
    let generation = target.generation;
    let file = open_file(fd)?;
    if let Some(found) = CONNECTIONS.get_ptr_mut(key) {
        // SAFETY: map values stay valid while the program runs.
        let entry = unsafe { &*found };
        if entry.generation == generation && entry.inode == file.inode_number {
            return (entry.is_stream != 0).then_some(found);
        }
        forget(key, entry.generation == generation);
    }
    meet(key, target, &file, passed)
}

/// What the call has moved at which a connection is looked up.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    /// Bytes; 0 or less for none.
    pub(crate) bytes: i64,
    pub(crate) outbound: bool,
}

impl Passed {
    pub(crate) const NOTHING: Self = Self { bytes: 0, outbound: false };

    /// So far TCP has come in one direction because of this call.
    #[inline(always)]
    fn of(self, outbound: bool) -> u32 {
        if self.outbound == outbound && self.bytes > 0 { self.bytes as u32 } else { 0 }
    }
}

/// Remembers what a descriptor is.
#[inline(always)]
fn meet(key: Key, target: &Target, file: &OpenFile, passed: Passed) -> Option<*mut Connection> {
    let sock = stream_sock(file);
    let is_pipe = target.pipes == pipes::OWN && sock.is_none() && is_pipe(file);
    let entry = Connection {
        id: next_id(),
        generation: target.generation,
        inode: file.inode_number,
        in_offset: 0,
        out_offset: 0,
        is_stream: u32::from(sock.is_some() || is_pipe),
        manner: manner::UNDECIDED,
    };
    if CONNECTIONS.insert(key, entry, 0).is_err() {
        emit::add(count::CONNECTIONS_FULL, 1);
        return None;
    }
    if sock.is_none() && !is_pipe {
        return None;
    }
    let sock = sock.unwrap_or(0);
    let family = if is_pipe { FAMILY_PIPE } else { kernel::<u16>(sock + setting!(sock_family)).unwrap_or(0) };
    // As in `io::moved`: zeroes that are not written byte by byte.
    let zero = opaque(0);
    let nowhere = [zero, zero];
    let mut opened = ConnectionOpened {
        header: header(kind::CONNECTION_OPENED, size_of::<ConnectionOpened>()),
        connection: entry.id,
        fd: key.fd,
        family,
        local_port: zero as u16,
        peer_port: zero as u16,
        padding: zero as u16,
        unread_us: zero as u32,
        sent: zero as u32,
        received: zero as u32,
        // SAFETY: two words are sixteen bytes.
        local_address: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(nowhere) },
        // SAFETY: as above.
        peer_address: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(nowhere) },
    };
    if family == AF_INET || family == AF_INET6 {
        opened.local_port = kernel::<u16>(sock + setting!(sock_local_port)).unwrap_or(0);
        opened.peer_port = u16::from_be(kernel::<u16>(sock + setting!(sock_peer_port)).unwrap_or(0));
        // `struct tcp_sock` begins with its `struct sock` (kernel `include/linux/tcp.h`).
        let sent = kernel::<u32>(sock + setting!(tcp_write_seq));
        let received = kernel::<u32>(sock + setting!(tcp_copied_seq));
        if let (Some(sent), Some(received)) = (sent, received) {
            opened.header.flags = flag::SEQUENCE;
            opened.sent = sent.wrapping_sub(passed.of(true));
            opened.received = received.wrapping_sub(passed.of(false));
            if passed.of(false) > 0 && setting!(tick_us) > 0 {
                unread(sock, &mut opened);
            }
        }
    }
    if family == AF_INET {
        let local = kernel::<[u8; 4]>(sock + setting!(sock_local_v4)).unwrap_or([0; 4]);
        let peer = kernel::<[u8; 4]>(sock + setting!(sock_peer_v4)).unwrap_or([0; 4]);
        opened.local_address[..4].copy_from_slice(&local);
        opened.peer_address[..4].copy_from_slice(&peer);
    } else if family == AF_INET6 {
        opened.local_address = kernel(sock + setting!(sock_local_v6)).unwrap_or([0; 16]);
        opened.peer_address = kernel(sock + setting!(sock_peer_v6)).unwrap_or([0; 16]);
    }
    emit::send(&opened);
    CONNECTIONS.get_ptr_mut(key)
}

/// Fills in how long what has just been read had lain there. The kernel notes when the latest data came, by the clock of
/// its ticks (`net/ipv4/tcp_input.c`, `tcp_event_data_recv`); a connection that nobody has accepted yet has it as well.
#[inline(always)]
fn unread(sock: u64, opened: &mut ConnectionOpened) {
    let Some(came) = kernel::<u32>(sock + setting!(tcp_last_received)) else { return };
    // SAFETY: the helper has no preconditions.
    let ticks = (unsafe { bpf_jiffies64() } as u32).wrapping_sub(came);
    opened.unread_us = (u64::from(ticks) * setting!(tick_us)).min(u64::from(u32::MAX)) as u32;
    opened.header.flags |= flag::UNREAD;
}

/// A close (or a dup2 over it) of this descriptor has just returned. By now another thread may already
/// have been given it anew, and may have used it: then the entry is that thread's.
#[inline(always)]
pub(crate) fn closed(tgid: u32, fd: u32) {
    let key = Key { tgid, fd };
    let Some(found) = CONNECTIONS.get_ptr(key) else { return };
    if let Some(file) = open_file(fd)
        // SAFETY: map values stay valid while the program runs.
        && file.inode_number == unsafe { (*found).inode }
    {
        return;
    }
    forget(key, true);
}

/// Drops an entry; `announced` is whether userspace knows it as a connection of this process.
#[inline(always)]
fn forget(key: Key, announced: bool) {
    let Some(found) = CONNECTIONS.get_ptr(key) else { return };
    // SAFETY: map values stay valid while the program runs.
    let (id, is_stream) = unsafe { ((*found).id, (*found).is_stream) };
    let _absent_is_fine = CONNECTIONS.remove(key);
    if is_stream != 0 && announced {
        let header = header(kind::CONNECTION_CLOSED, size_of::<ConnectionClosed>());
        emit::send(&ConnectionClosed { header, connection: id });
    }
}

/// Time and CPU: no two programs give out a number on one CPU in one nanosecond. Repeats after 208 days.
#[inline(always)]
pub(crate) fn next_id() -> u64 {
    // SAFETY: the helpers have no preconditions.
    unsafe { bpf_ktime_get_ns() << 10 | u64::from(bpf_get_smp_processor_id()) & 0x3ff }
}

/// The open file behind a descriptor of the current process.
pub(crate) struct OpenFile {
    /// Address of its `struct file`.
    file: u64,
    /// Address of its `struct inode`.
    inode: u64,
    /// Sockets take theirs from a counter (kernel `fs/inode.c`, `get_next_ino`).
    inode_number: u64,
}

/// Follows `task->files->fdt->fd[fd]` (kernel `include/linux/fdtable.h`).
#[inline(always)]
pub(crate) fn open_file(fd: u32) -> Option<OpenFile> {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files = kernel::<u64>(task + setting!(task_files))?;
    let table = kernel::<u64>(files + setting!(files_fdt))?;
    // They are neighbours on every known kernel; the verifier drops the other arm, because it knows the settings.
    let (most, array) = if setting!(fdtable_fd) == setting!(fdtable_max_fds) + 8 {
        let [most, array] = kernel::<[u64; 2]>(table + setting!(fdtable_max_fds))?;
        (most as u32, array)
    } else {
        (kernel(table + setting!(fdtable_max_fds))?, kernel(table + setting!(fdtable_fd))?)
    };
    if fd >= most {
        return None;
    }
    let file = kernel::<u64>(array + u64::from(fd) * 8)?;
    let inode = kernel::<u64>(file + setting!(file_inode))?;
    let inode_number = kernel::<u64>(inode + setting!(inode_number))?;
    Some(OpenFile { file, inode, inode_number })
}

/// `i_mode` of the open file behind a descriptor of the current process.
#[inline(always)]
pub(crate) fn mode(fd: u32) -> Option<u16> {
    kernel::<u16>(open_file(fd)?.inode + setting!(inode_mode))
}

#[inline(always)]
fn is_pipe(file: &OpenFile) -> bool {
    kernel::<u16>(file.inode + setting!(inode_mode)).is_some_and(|mode| mode & S_IFMT == S_IFIFO)
}

/// The `struct sock` of a stream socket's file: `file->private_data` is its `struct socket` (kernel
/// `net/socket.c`).
#[inline(always)]
pub(crate) fn stream_sock(file: &OpenFile) -> Option<u64> {
    if kernel::<u16>(file.inode + setting!(inode_mode))? & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket = kernel::<u64>(file.file + setting!(file_private_data))?;
    if kernel::<u16>(socket + setting!(socket_type))? != SOCK_STREAM {
        return None;
    }
    kernel::<u64>(socket + setting!(socket_sk)).filter(|sock| *sock != 0)
}
