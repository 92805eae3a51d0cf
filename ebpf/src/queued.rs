//! uvloop before 0.23 puts every write off to the end of its turn, when no coroutine runs any more. What is written
//! then was asked for when the stream was added to the loop's set of streams to be flushed: a uprobe on `PySet_Add`,
//! attached only where such a uvloop is imported. Anything else that is added to a set is told by its type.
//!
//! uvloop 0.19 to 0.22, x86-64: `UVHandle._handle` at 24 (a `uv_stream_t *`), `uv_stream_t.io_watcher.fd` at 184
//! (libuv 1.x `include/uv/unix.h`).

use crate::connection::{self, Passed};
use crate::drivers::{statement_frames, thread_scratch};
use crate::emit;
use crate::lifecycle::header;
use crate::maps::TARGETS;
use crate::memory::user;
use crate::objects::{OB_TYPE, TP_NAME};
use crate::scope;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::{Queued, kind};
use pyapm_wire::scope::flag;

const HANDLE: u64 = 24;
const DESCRIPTOR: u64 = 184;

#[uprobe]
fn write_queued(context: ProbeContext) -> u32 {
    let _nothing_to_tell = queued(&context);
    0
}

#[inline(always)]
fn queued(context: &ProbeContext) -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let target = unsafe { TARGETS.get(tgid) }?;
    if target.contexts.on == 0 || target.contexts.always & flag::DEFERS == 0 {
        return None;
    }
    if !is_stream(context.arg::<u64>(1)?) {
        return None;
    }
    let Some(scratch) = thread_scratch(id) else {
        emit::add(count::SCRATCH_FULL, 1);
        return None;
    };
    // Before anything else is known: what the verifier knows on the way into a walk multiplies its states.
    // SAFETY: `scratch` is this thread's own entry.
    let scope = scope::take(target, unsafe { &raw mut (*scratch).stack }, || statement_frames());
    let handle = user::<u64>(context.arg::<u64>(1)? + HANDLE).filter(|handle| *handle != 0)?;
    let fd = user::<u32>(handle + DESCRIPTOR)?;
    let entry = connection::find(tgid, fd, target, Passed::NOTHING)?;
    // SAFETY: map values stay valid while the program runs.
    let connection = unsafe { (*entry).id };
    let header = header(kind::WRITE_QUEUED, size_of::<Queued>());
    emit::send(&Queued { header, connection, scope });
    Some(())
}

/// Whether the object is one of uvloop's.
#[inline(always)]
fn is_stream(object: u64) -> bool {
    user::<u64>(object + OB_TYPE)
        .and_then(|class| user::<u64>(class + TP_NAME))
        .and_then(user::<[u8; 8]>)
        .is_some_and(|name| name == *b"uvloop.l")
}
