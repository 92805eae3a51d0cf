//! Plaintext of TLS: uprobes where a library's `SSL_read`, `SSL_write`, `SSL_read_ex` or `SSL_write_ex` begins,
//! and where its result is known; OpenSSL `include/openssl/ssl.h`:
//!
//! - `int SSL_read(SSL *, void *buf, int num)`, `int SSL_write(SSL *, const void *buf, int num)`: bytes moved, or not
//!   positive
//! - `int SSL_read_ex(SSL *, void *buf, size_t num, size_t *count)`, `SSL_write_ex` alike: 1, with the bytes moved
//!   in `*count`, or 0
//!
//! There are no return probes. The result is seen at an instruction behind the call, in the library or in its
//! caller, at which the result is still in its register: userspace finds those (`agent/src/probes/tls.rs`).
//!
//! A session gets a connection id of its own, and its plaintext comes in the records of the socket program. If
//! the library itself moves the bytes below, they are moved inside the call, which tells the connection.

use crate::connection::{manner, next_id};
use crate::emit;
use crate::io::moved;
use crate::lifecycle::header;
use crate::maps::{
    Connection, IoScratch, TARGETS, TLS_BLANK, TLS_CALLS, TLS_ROOM, TLS_SCRATCH, TLS_SESSIONS, TlsCall,
    TlsKey,
};
use crate::memory::user;
use crate::scope;
use crate::stack::{self, outcome};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::{ConnectionClosed, TlsSession, io, kind};
use pyapm_wire::target::Target;

#[uprobe]
fn tls_read(context: ProbeContext) -> u32 {
    enter(&context, false, 0);
    0
}

#[uprobe]
fn tls_write(context: ProbeContext) -> u32 {
    enter(&context, true, 0);
    0
}

#[uprobe]
fn tls_read_ex(context: ProbeContext) -> u32 {
    enter(&context, false, context.arg::<u64>(3).unwrap_or(0));
    0
}

#[uprobe]
fn tls_write_ex(context: ProbeContext) -> u32 {
    // From OpenSSL 3.3 on the function passes its arguments on with flags (0) before the count's address; the
    // probe may lie behind that.
    let (Some(fourth), Some(fifth)) = (context.arg::<u64>(3), context.arg::<u64>(4)) else { return 0 };
    enter(&context, true, if fourth == 0 { fifth } else { fourth });
    0
}

/// A call begins; `count` is the address of the number of bytes, or 0.
#[inline(always)]
fn enter(context: &ProbeContext, outbound: bool, count: u64) {
    let thread = bpf_get_current_pid_tgid();
    let Some(target) = TARGETS.get_ptr_mut((thread >> 32) as u32) else { return };
    // SAFETY: map values stay valid while the program runs; one aligned word. Userspace that writes the entry anew at this
    // moment may take it back until the next call.
    unsafe {
        if (*target).tls == 0 {
            (*target).tls = 1;
        }
    }
    let (Some(handle), Some(buffer), Some(size)) =
        (context.arg::<u64>(0), context.arg::<u64>(1), context.arg::<u64>(2))
    else {
        return;
    };
    // Without a count's address the size is an `int`.
    let size = if count == 0 { size & 0x7fff_ffff } else { size };
    let call = TlsCall { handle, buffer, size, count, outbound: u64::from(outbound), carrier: 0 };
    if let Some(entry) = TLS_CALLS.get_ptr_mut(thread) {
        // SAFETY: the entry is this thread's own.
        unsafe {
            if (*entry).handle != 0 {
                emit::add(count::TLS_UNFINISHED, 1);
            }
            *entry = call;
        }
    } else if TLS_CALLS.insert(thread, call, 0).is_err() {
        emit::add(count::TLS_FULL, 1);
    }
}

/// Bytes moved on a connection just now: if that was inside a call into a TLS library, they were its own.
#[inline(always)]
pub(crate) fn carried_by(target: &Target, thread: u64, connection: u64) {
    if target.tls == 0 {
        return;
    }
    if let Some(call) = TLS_CALLS.get_ptr_mut(thread) {
        // SAFETY: the entry is this thread's own.
        unsafe {
            if (*call).handle != 0 {
                (*call).carrier = connection;
            }
        }
    }
}

/// A call has returned. Behind other calls of the same code the register means something else, but then the
/// thread is in none.
#[uprobe]
fn tls_result(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let tgid = thread >> 32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid as u32) }) else { return 0 };
    let Some(entry) = TLS_CALLS.get_ptr_mut(thread) else { return 0 };
    // SAFETY: the entry is this thread's own.
    let call = unsafe { *entry };
    if call.handle == 0 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*entry).handle = 0 };
    // SAFETY: the registers are valid while the program runs.
    let result = unsafe { (*context.regs).rax } as i32;
    if result <= 0 {
        return 0;
    }
    let count = if call.count == 0 { Some(result as u64) } else { user::<u64>(call.count) };
    let count = count.unwrap_or(0);
    if count == 0 || count > call.size {
        emit::add(count::TLS_IMPLAUSIBLE, 1);
        return 0;
    }
    let Some(scratch) = thread_scratch(thread) else {
        emit::add(count::SCRATCH_FULL, 1);
        return 0;
    };
    let key = TlsKey { tgid, handle: call.handle };
    let Some(session) = find(key, target, call.carrier) else { return 0 };
    // SAFETY: `scratch` is this thread's own entry.
    unsafe { (*scratch).call.set_buffer(call.buffer, call.outbound != 0) };
    moved(target, session, count as i64, io::TLS, scratch, || tls_frames(), || tls_steps());
    0
}

/// Goes on with a walk in this thread's working space; see `stack::go_on`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tls_steps() -> u64 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((thread >> 32) as u32) }) else { return outcome::FAILED };
    let Some(scratch) = TLS_SCRATCH.get_ptr_mut(thread) else { return outcome::FAILED };
    // SAFETY: `scratch` is this thread's own entry.
    stack::steps(target, unsafe { &raw mut (*scratch).stack })
}

/// Goes on with a walk in this thread's working space; see `scope::take`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tls_frames() -> u64 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((thread >> 32) as u32) }) else { return outcome::FAILED };
    let Some(scratch) = TLS_SCRATCH.get_ptr_mut(thread) else { return outcome::FAILED };
    // SAFETY: `scratch` is this thread's own entry.
    scope::frames(target, unsafe { &raw mut (*scratch).stack.walk })
}

/// `void SSL_free(SSL *)`.
#[uprobe]
fn tls_free(context: ProbeContext) -> u32 {
    let tgid = bpf_get_current_pid_tgid() >> 32;
    if TARGETS.get_ptr(tgid as u32).is_none() {
        return 0;
    }
    let Some(handle) = context.arg::<u64>(0) else { return 0 };
    let key = TlsKey { tgid, handle };
    let Some(found) = TLS_SESSIONS.get_ptr(key) else { return 0 };
    // SAFETY: map values stay valid while the program runs.
    let connection = unsafe { (*found).id };
    let _absent_is_fine = TLS_SESSIONS.remove(key);
    let header = header(kind::CONNECTION_CLOSED, size_of::<ConnectionClosed>());
    emit::send(&ConnectionClosed { header, connection });
    0
}

/// The session's entry, made when it is met.
#[inline(always)]
fn find(key: TlsKey, target: &Target, carrier: u64) -> Option<*mut Connection> {
    if let Some(found) = TLS_SESSIONS.get_ptr_mut(key) {
        // SAFETY: map values stay valid while the program runs.
        let entry = unsafe { &mut *found };
        if entry.generation == target.generation {
            if carrier != 0 && entry.inode != carrier {
                entry.inode = carrier;
                announce(entry);
            }
            return Some(found);
        }
    }
    let entry = Connection {
        id: next_id(),
        generation: target.generation,
        inode: carrier,
        in_offset: 0,
        out_offset: 0,
        is_stream: 1,
        manner: manner::UNDECIDED,
    };
    if TLS_SESSIONS.insert(key, entry, 0).is_err() {
        emit::add(count::TLS_FULL, 1);
        return None;
    }
    announce(&entry);
    TLS_SESSIONS.get_ptr_mut(key)
}

#[inline(always)]
fn announce(entry: &Connection) {
    let header = header(kind::TLS_SESSION, size_of::<TlsSession>());
    emit::send(&TlsSession { header, connection: entry.id, carrier: entry.inode });
}

/// This thread's working space, made on its first use.
#[inline(always)]
fn thread_scratch(thread: u64) -> Option<*mut IoScratch<TLS_ROOM>> {
    if let Some(scratch) = TLS_SCRATCH.get_ptr_mut(thread) {
        return Some(scratch);
    }
    let blank = TLS_BLANK.get(0)?;
    TLS_SCRATCH.insert(thread, blank, 0).ok()?;
    TLS_SCRATCH.get_ptr_mut(thread)
}
