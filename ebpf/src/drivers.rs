//! Database client libraries: the text of a statement before it goes to the wire, with the Python stack
//! that asks for it. Entry probes only: how a statement ended is seen in the replies on its connection.
//!
//! `mysql_real_query(MYSQL *, const char *text, unsigned long length)` and `mysql_send_query` of the same
//! shape: MariaDB Connector/C `include/mysql.h`, MySQL `include/mysql.h`.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::{BLANK, StatementScratch, TARGETS, THREAD_SCRATCH};
use crate::memory::{copy_user, opaque};
use crate::met;
use crate::scope;
use crate::stack::{self, outcome};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::{STATEMENT_CAPTURE, Statement, kind, library};

#[uprobe]
fn mysql_query(context: ProbeContext) -> u32 {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return 0 };
    let (Some(handle), Some(text), Some(length)) =
        (context.arg::<u64>(0), context.arg::<u64>(1), context.arg::<u64>(2))
    else {
        return 0;
    };
    let Some(scratch) = thread_scratch(id) else {
        emit::add(count::SCRATCH_FULL, 1);
        return 0;
    };
    // The statement began now, not after the walk.
    let mut header = header(kind::STATEMENT, 0);
    // SAFETY: `scratch` is this thread's own entry.
    let scope = scope::take(target, unsafe { &raw mut (*scratch).stack }, || statement_frames());
    // SAFETY: as above.
    let walked = met::take(target, unsafe { &raw mut (*scratch).stack }, || statement_steps());
    let mut captured = opaque(length);
    if captured > u64::from(STATEMENT_CAPTURE) {
        captured = u64::from(STATEMENT_CAPTURE);
    }
    // SAFETY: `captured` is at most the size of `text`.
    if !unsafe { copy_user((&raw mut (*scratch).text).cast(), captured as u32, text) } {
        emit::add(count::PAYLOAD_UNREADABLE, captured);
        captured = 0;
    }
    let total = size_of::<Statement>() as u64 + captured;
    header.len = total as u32;
    // SAFETY: the text lies directly behind the record, and `captured` is at most its size.
    unsafe {
        (*scratch).record = Statement {
            header,
            stack: walked.stack,
            handle,
            text_len: if length > u64::from(u32::MAX) { u32::MAX } else { length as u32 },
            captured: captured as u32,
            library: library::MYSQL,
            stack_status: walked.status,
            padding: 0,
            scope,
        };
        emit::output((&raw const (*scratch).record).cast(), total);
    }
    0
}

/// Goes on with a walk in this thread's working space; see `stack::go_on`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn statement_steps() -> u64 {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((id >> 32) as u32) }) else { return outcome::FAILED };
    let Some(scratch) = THREAD_SCRATCH.get_ptr_mut(id) else { return outcome::FAILED };
    // SAFETY: `scratch` is this thread's own entry.
    stack::steps(target, unsafe { &raw mut (*scratch).stack })
}

/// Goes on with a walk in this thread's working space; see `scope::take`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn statement_frames() -> u64 {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((id >> 32) as u32) }) else { return outcome::FAILED };
    let Some(scratch) = THREAD_SCRATCH.get_ptr_mut(id) else { return outcome::FAILED };
    // SAFETY: `scratch` is this thread's own entry.
    scope::frames(target, unsafe { &raw mut (*scratch).stack.walk })
}

/// This thread's working space, made on its first use.
#[inline(always)]
pub(crate) fn thread_scratch(id: u64) -> Option<*mut StatementScratch> {
    if let Some(scratch) = THREAD_SCRATCH.get_ptr_mut(id) {
        return Some(scratch);
    }
    let blank = BLANK.get(0)?;
    THREAD_SCRATCH.insert(id, blank, 0).ok()?;
    THREAD_SCRATCH.get_ptr_mut(id)
}
