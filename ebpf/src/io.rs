//! Bytes on sockets: tracepoints `syscalls:sys_exit_*` of the calls that move them (any 5.10 kernel; format:
//! `int __syscall_nr` at 8, `long ret` at 16). The registers that the call was made with are still saved at
//! the top of the task's kernel stack, so nothing needs to run when a call begins, and what is reported is
//! what moved.
//!
//! Up to Linux 6.x these run with preemption off. From 7.0 on they can be preempted, and the kernel skips a
//! program that is already active on this CPU: a thread that is preempted inside it would make the kernel
//! drop other threads' calls. There the program is attached in several copies, one after the other, and a
//! copy handles what those before it were kept from.
//!
//! System call numbers are those of x86-64 (kernel `arch/x86/entry/syscalls/syscall_64.tbl`).

// Long because one call goes through all of it, and each part is a few lines.

use crate::connection::{self, Passed, manner};
use crate::emit;
use crate::lifecycle::header;
use crate::maps::{Connection, HANDLED, HINTS, IO_SCRATCH, IoScratch, TARGETS, setting};
use crate::memory::{copy_user, opaque, user};
use crate::registers::Arguments;
use crate::stack::{self, outcome};
use crate::{handed, met, scope, tls};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use pyapm_wire::connection::{DEFAULT_CAPTURE, MAX_CAPTURE, TAIL_CAPTURE, hint_slot};
use pyapm_wire::count;
use pyapm_wire::event::{Io, io, kind};
use pyapm_wire::python::status;
use pyapm_wire::scope::Scope;
use pyapm_wire::settings::IO_COPIES;
use pyapm_wire::target::Target;

const READ: u64 = 0;
const WRITE: u64 = 1;
const CLOSE: u64 = 3;
const READV: u64 = 19;
const WRITEV: u64 = 20;
const DUP2: u64 = 33;
const SENDFILE: u64 = 40;
const SENDTO: u64 = 44;
const RECVFROM: u64 = 45;
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;
const DUP3: u64 = 292;

const MSG_PEEK: u64 = 2;
const EPIPE: i64 = -32;
const ECONNRESET: i64 = -104;
const ENOTCONN: i64 = -107;
const ETIMEDOUT: i64 = -110;

/// Vectors looked at in one call; servers use two or three.
const MAX_VECTORS: u32 = 8;
/// Most bytes taken of one vector.
const VECTOR_CAPTURE: u64 = 4096;

/// Values of [`Call::place`]: where a call's bytes lie.
mod place {
    /// In one buffer, at `address`.
    pub(super) const BUFFER: u64 = 0;
    /// In the `vectors` entries of the `struct iovec` array at `address`.
    pub(super) const VECTORS: u64 = 1;
    /// Not in user memory.
    pub(super) const NOWHERE: u64 = 2;
}

/// One system call on its way through this file. It is kept in scratch memory and not in registers: what
/// the verifier knows of a register on each path into a loop multiplies the states that it must walk.
#[repr(C)]
pub(crate) struct Call {
    place: u64,
    address: u64,
    vectors: u64,
    outbound: u64,
    /// Bytes that moved.
    length: u64,
    /// Bytes from the start that are not wanted.
    skip: u64,
    /// Most bytes that are still wanted after those.
    want: u64,
    /// Bytes that records have spoken of so far.
    done: u64,
    /// The call site is known from elsewhere, or does not matter.
    no_stacks: u64,
    arguments: Arguments,
}

impl Call {
    /// For bytes in one buffer that no system call moved.
    #[inline(always)]
    pub(crate) fn set_buffer(&mut self, address: u64, outbound: bool) {
        self.place = place::BUFFER;
        self.address = address;
        self.vectors = 0;
        self.outbound = u64::from(outbound);
    }
}

// Inlined: Linux 5.10 counts each call's stack in steps of 32 bytes, and a function around another is one, too.
#[tracepoint]
#[inline(always)]
fn syscall_exit(context: TracePointContext) -> u32 {
    run(&context, 0)
}

#[tracepoint]
#[inline(always)]
fn syscall_exit_second(context: TracePointContext) -> u32 {
    run(&context, 1)
}

#[tracepoint]
#[inline(always)]
fn syscall_exit_third(context: TracePointContext) -> u32 {
    run(&context, 2)
}

/// What each copy does.
#[inline(always)]
fn run(context: &TracePointContext, copy: u32) -> u32 {
    // SAFETY: both fields lie inside the record of every `sys_exit_*` tracepoint.
    let (id, result) = unsafe {
        let record = context.as_ptr().cast::<u8>();
        (u64::from(record.add(8).cast::<u32>().read()), record.add(16).cast::<i64>().read())
    };
    if result < 0 && result != EPIPE && result != ECONNRESET && result != ENOTCONN && result != ETIMEDOUT {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid();
    let tgid = (thread >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return 0 };
    if setting!(io_copies) > 1 && !is_ours(thread, copy) {
        return 0;
    }
    let Some(scratch) = IO_SCRATCH.get_ptr_mut(copy) else { return 0 };
    // SAFETY: map values stay valid while the program runs.
    let call = unsafe { &mut (*scratch).call };
    if call.arguments.read(id).is_none() {
        emit::add(count::REGISTERS_UNKNOWN, 1);
        return 0;
    }
    let outbound = match id {
        READ | READV | RECVFROM | RECVMSG => false,
        WRITE | WRITEV | SENDTO | SENDMSG | SENDFILE => true,
        CLOSE | DUP2 | DUP3 => {
            let fd = if id == CLOSE { call.arguments.di } else { call.arguments.si };
            connection::closed(tgid, fd as u32);
            return 0;
        }
        _ => return 0,
    };
    let fd = call.arguments.di;
    if locate(call, id).is_none() {
        return 0;
    }
    call.outbound = u64::from(outbound);
    let passed = Passed { bytes: result, outbound };
    let Some(entry) = connection::find(tgid, fd as u32, target, passed) else {
        if id == WRITE && result == 1 {
            handed::back(target, fd as u32, call.address);
        }
        return 0;
    };
    // SAFETY: map values stay valid while the program runs.
    tls::carried_by(target, thread, unsafe { (*entry).id });
    moved(
        target,
        entry,
        result,
        0,
        scratch,
        || socket_frames(u64::from(copy)),
        || socket_steps(u64::from(copy)),
    );
    0
}

/// Whether this copy is the first that could run for this call. The last one takes the mark away again.
#[inline(always)]
fn is_ours(thread: u64, copy: u32) -> bool {
    let taken = copy > 0 && HANDLED.get_ptr(thread).is_some();
    if copy + 1 == IO_COPIES {
        let _absent_is_fine = HANDLED.remove(thread);
        return !taken;
    }
    // Without room for the mark the next copy could not know: leave the call to the last one.
    !taken && HANDLED.insert(thread, copy, 0).is_ok()
}

/// Fills in where the call's bytes are; `None` for a call that moved none, whatever it returned.
#[inline(always)]
fn locate(call: &mut Call, id: u64) -> Option<()> {
    let (second, third) = (call.arguments.si, call.arguments.dx);
    call.vectors = 0;
    match id {
        READV | WRITEV => {
            call.place = place::VECTORS;
            call.address = second;
            call.vectors = third;
        }
        SENDMSG | RECVMSG => {
            if id == RECVMSG && third & MSG_PEEK != 0 {
                return None;
            }
            // `struct user_msghdr`: name, namelen, iov at 16, iovlen at 24 (kernel include/linux/socket.h).
            call.place = place::VECTORS;
            call.address = user::<u64>(second + 16)?;
            call.vectors = user::<u64>(second + 24)?;
        }
        SENDFILE => call.place = place::NOWHERE,
        _ => {
            if id == RECVFROM && call.arguments.r10 & MSG_PEEK != 0 {
                return None;
            }
            if third == 0 {
                return None; // Nothing was asked for; 0 does not mean the end.
            }
            call.place = place::BUFFER;
            call.address = second;
        }
    }
    Some(())
}

/// Goes on with a walk in the working space of one copy; see `stack::go_on`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn socket_steps(copy: u64) -> u64 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return outcome::FAILED };
    let Some(scratch) = IO_SCRATCH.get_ptr_mut(copy as u32) else { return outcome::FAILED };
    // SAFETY: map values stay valid while the program runs.
    stack::steps(target, unsafe { &raw mut (*scratch).stack })
}

/// Goes on with a walk in the working space of one copy; see `scope::take`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn socket_frames(copy: u64) -> u64 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return outcome::FAILED };
    let Some(scratch) = IO_SCRATCH.get_ptr_mut(copy as u32) else { return outcome::FAILED };
    // SAFETY: map values stay valid while the program runs.
    scope::frames(target, unsafe { &raw mut (*scratch).stack.walk })
}

/// One call that moved `result` bytes (or ended the stream) on a stream socket. `frames` and `steps` go on with walks in
/// `scratch`.
#[inline(always)]
pub(crate) fn moved<const ROOM: usize>(
    target: &Target,
    entry: *mut Connection,
    result: i64,
    flags: u16,
    scratch: *mut IoScratch<ROOM>,
    frames: impl Fn() -> u64,
    steps: impl Fn() -> u64,
) {
    // SAFETY: map values stay valid while the program runs.
    let (call, record, entry) = unsafe { (&mut (*scratch).call, &mut (*scratch).record, &mut *entry) };
    let outbound = call.outbound != 0;
    let offset = if outbound { entry.out_offset } else { entry.in_offset };
    let mut header = header(kind::IO, size_of::<Io>());
    header.flags = if outbound { flags | io::OUT } else { flags };
    // Zeroes that the compiler does not know to be some: it would call a function that writes them byte by byte.
    let zero = opaque(0);
    let none = zero as u32;
    *record = Io {
        header,
        connection: entry.id,
        offset,
        moved: none,
        head: none,
        tail: none,
        unreadable: none,
        scope: Scope { context: zero, task: zero, flags: none, padding: none },
        stack: zero,
        stack_status: status::NOT_ASKED,
        padding: none as u16,
        padding_2: none,
    };
    if result <= 0 {
        if result < 0 {
            record.header.flags |= io::FAILED;
        } else if outbound {
            return;
        } else {
            record.header.flags |= io::END_OF_STREAM;
        }
        emit::send(record);
        return;
    }
    let length = result as u64;
    call.length = length;
    call.done = 0;
    // Two threads that read one socket at once have no order to keep.
    if outbound {
        entry.out_offset = offset + length;
    } else {
        entry.in_offset = offset + length;
    }
    if entry.manner == manner::UNDECIDED {
        entry.manner = judge(call);
    }
    wanted(entry, call, offset, header.time_ns);
    if outbound || entry.manner == manner::REQUESTS {
        // SAFETY: `scratch` is valid, and this copy's own.
        record.scope = scope::take(target, unsafe { &raw mut (*scratch).stack }, frames);
    }
    if outbound && entry.manner != manner::REQUESTS && call.no_stacks == 0 {
        // What a client sends: Python code is on its way through a driver just now.
        // SAFETY: `scratch` is valid, and this copy's own.
        let walked = met::take(target, unsafe { &raw mut (*scratch).stack }, steps);
        record.stack = walked.stack;
        record.stack_status = walked.status;
    }
    if call.skip >= call.length || call.want == 0 {
        record.moved = length as u32;
        emit::send(record);
        return;
    }
    if call.place == place::BUFFER {
        send_buffer(scratch, offset);
    } else {
        send_vectors(scratch);
    }
}

/// What the first bytes of a connection make of it: could they be a request that comes in?
#[inline(always)]
fn judge(call: &Call) -> u32 {
    if call.place == place::NOWHERE {
        return manner::OTHER;
    }
    // Too few to tell: assume that the request is trickling in.
    let unknown = if call.outbound != 0 { manner::OTHER } else { manner::REQUESTS };
    if call.length < 3 {
        return unknown;
    }
    let mut address = call.address;
    if call.place == place::VECTORS {
        let Some(first) = user::<u64>(address) else { return unknown };
        address = first;
    }
    let Some([a, b, c]) = user::<[u8; 3]>(address) else { return unknown };
    if call.outbound != 0 {
        // The preface of HTTP/2 (RFC 9113 section 3.4).
        return if [a, b, c] == *b"PRI" { manner::STREAMS } else { manner::OTHER };
    }
    // The uwsgi protocol: modifier 0, then the size of the variables, little endian. MySQL's packets, with their
    // size first, begin with 0 only if they are of 256, 512 ... bytes.
    let is_packet = a == 0 && (b, c) != (0, 0);
    if is_packet || (a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_uppercase()) {
        manner::REQUESTS
    } else {
        manner::OTHER
    }
}

/// Payload bytes that one record carries at most, without its tail, when there is `room` for both.
const fn capture(room: usize) -> u64 {
    room as u64 - TAIL_CAPTURE as u64
}

/// Fills in which bytes of this call are wanted.
#[inline(always)]
fn wanted(entry: &Connection, call: &mut Call, offset: u64, now_ns: u64) {
    call.skip = 0;
    call.no_stacks = 0;
    call.want = u64::from(if entry.manner == manner::OTHER { DEFAULT_CAPTURE } else { MAX_CAPTURE });
    if is_young(entry.id, now_ns) {
        return;
    }
    let Some(slot) = HINTS.get_ptr(hint_slot(entry.id)) else { return };
    // SAFETY: map values stay valid while the program runs. Userspace may write at the same time, another
    // connection's hint even: it clears the id first and sets it last, so an id that is the same before and
    // after says that what lies between was this connection's.
    let hint = unsafe { slot.read_volatile() };
    if hint.connection == entry.id && unsafe { (&raw const (*slot).connection).read_volatile() } == entry.id {
        let (until, want) =
            if call.outbound != 0 { (hint.skip_out, hint.want_out) } else { (hint.skip_in, hint.want_in) };
        call.skip = until.saturating_sub(offset);
        call.no_stacks = u64::from(hint.no_stacks);
        call.want = u64::from(if want > MAX_CAPTURE { MAX_CAPTURE } else { want });
    }
}

/// Whether a connection has only just been met: userspace can hardly have said anything of it yet, and its slot is in
/// nobody's cache.
#[inline(always)]
fn is_young(connection: u64, now_ns: u64) -> bool {
    /// Less than half of the time that records wait in the ring on average.
    const YOUNG_NS: u64 = 4_000_000;
    // What the id was made of, `connection::next_id`.
    (now_ns << 10).wrapping_sub(connection) < YOUNG_NS << 10
}

/// Sends a call's bytes in as many records as its length and the wish for them need.
#[inline(always)]
fn send_buffer<const ROOM: usize>(scratch: *mut IoScratch<ROOM>, start: u64) {
    let most = const { capture(ROOM) };
    // SAFETY: map values stay valid while the program runs, here and below.
    unsafe {
        if (*scratch).call.skip > 0 {
            let skip = (*scratch).call.skip;
            (*scratch).record.moved = skip as u32;
            emit::send(&(*scratch).record);
            (*scratch).call.done = skip;
        }
    }
    // As many full records as make MAX_CAPTURE.
    for _ in 0..u64::from(MAX_CAPTURE) / most {
        // SAFETY: as above.
        let (done, length, want) =
            unsafe { ((*scratch).call.done, (*scratch).call.length, (*scratch).call.want) };
        if done >= length {
            return;
        }
        let left = length - done;
        let mut take = if left > want { want } else { left };
        if take > most {
            take = most;
        }
        // The last record of this call also speaks of what will not be copied, and carries its end.
        let last = take == left || take == want;
        // SAFETY: as above.
        unsafe {
            (*scratch).call.want = want - take;
            (*scratch).record.offset = start + done;
            (*scratch).record.moved = if last { left as u32 } else { take as u32 };
            (*scratch).call.done = done + u64::from((*scratch).record.moved);
            let address = (*scratch).call.address + done;
            send_part(scratch, address, take);
        }
    }
}

/// One record: `head` bytes from `address`, and the last bytes of `record.moved` if the head leaves some out.
///
/// # Safety
/// `scratch` is valid.
#[inline(always)]
unsafe fn send_part<const ROOM: usize>(scratch: *mut IoScratch<ROOM>, address: u64, head: u64) {
    let most = const { capture(ROOM) };
    // SAFETY: promised by the caller, here and below.
    let record = unsafe { &mut (*scratch).record };
    let payload = unsafe { &raw mut (*scratch).payload }.cast::<u8>();
    record.unreadable = 0;
    let mut head = opaque(head);
    if head > most {
        head = most;
    }
    // SAFETY: `head` is at most `most`, and the payload has room for that and a tail.
    if !unsafe { copy_user(payload, head as u32, address) } {
        emit::add(count::PAYLOAD_UNREADABLE, head);
        record.unreadable = head as u32;
        finish(scratch, 0, 0);
        return;
    }
    let rest = u64::from(record.moved) - head;
    let mut tail = opaque(rest);
    if tail > u64::from(TAIL_CAPTURE) {
        tail = u64::from(TAIL_CAPTURE);
    }
    if tail != 0 {
        let from = address + u64::from(record.moved) - tail;
        // SAFETY: `head + tail` fits the payload.
        if !unsafe { copy_user(payload.add(head as usize), tail as u32, from) } {
            emit::add(count::PAYLOAD_UNREADABLE, tail);
            record.unreadable = tail as u32;
            tail = 0;
        }
    }
    finish(scratch, head, tail);
}

/// Gathers a vectored call into one record. A call whose bytes are not in user memory goes this way too,
/// with no vectors.
#[inline(always)]
fn send_vectors<const ROOM: usize>(scratch: *mut IoScratch<ROOM>) {
    let most = const { capture(ROOM) };
    // SAFETY: map values stay valid while the program runs, here and below.
    let payload = unsafe { &raw mut (*scratch).payload }.cast::<u8>();
    let length = unsafe { (*scratch).call.length };
    unsafe {
        (*scratch).record.moved = length as u32;
        if (*scratch).call.want > most {
            (*scratch).call.want = most;
        }
    }
    for index in 0..MAX_VECTORS {
        // SAFETY: as above.
        let (vectors, filled, want, array) = unsafe {
            ((*scratch).call.vectors, (*scratch).call.done, (*scratch).call.want, (*scratch).call.address)
        };
        if u64::from(index) >= vectors || filled >= want || filled >= length {
            break;
        }
        // `struct iovec { void *base; size_t length; }`
        let Some([base, size]) = user::<[u64; 2]>(array + u64::from(index) * 16) else { break };
        let room = if want < length { want - filled } else { length - filled };
        let mut take = opaque(if size > room { room } else { size });
        if take > VECTOR_CAPTURE {
            take = VECTOR_CAPTURE;
        }
        let mut position = opaque(filled);
        if position > ROOM as u64 - VECTOR_CAPTURE {
            break;
        }
        // SAFETY: `position + take` is at most the payload's size.
        if !unsafe { copy_user(payload.add(position as usize), take as u32, base) } {
            emit::add(count::PAYLOAD_UNREADABLE, take);
            // SAFETY: as above.
            unsafe { (*scratch).record.unreadable = take as u32 };
            break;
        }
        position += take;
        // SAFETY: as above.
        unsafe { (*scratch).call.done = position };
        if take < size {
            break; // Bytes left out here: what follows would not be at its place.
        }
    }
    // SAFETY: as above.
    let filled = unsafe { (*scratch).call.done };
    finish(scratch, filled, 0);
}

#[inline(always)]
fn finish<const ROOM: usize>(scratch: *mut IoScratch<ROOM>, head: u64, tail: u64) {
    let mut total = opaque(size_of::<Io>() as u64 + head + tail);
    if total > (size_of::<Io>() + ROOM) as u64 {
        total = size_of::<Io>() as u64;
    }
    // SAFETY: the payload lies directly behind the record, and `total` stays inside both.
    unsafe {
        (*scratch).record.head = head as u32;
        (*scratch).record.tail = tail as u32;
        (*scratch).record.header.len = total as u32;
        emit::output((&raw const (*scratch).record).cast(), total);
    }
}
