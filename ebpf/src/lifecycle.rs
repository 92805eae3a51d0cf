//! Processes that come and go. Tracepoints of the kernel's `include/trace/events/task.h` and `sched.h`:
//!
//! - `task:task_newtask`, in the parent, before the child runs: `pid_t pid` at 8, `unsigned long clone_flags` at 32
//! - `sched:sched_process_exec`, in the process, as its new program
//! - `sched:sched_process_exit`, in the thread that ends
//!
//! The first adds the child to the targets itself, before its first instruction.

use crate::emit;
use crate::maps::{SLEEPERS, SQLITE_CALLS, TARGETS, THREAD_SCRATCH, TLS_CALLS, TLS_SCRATCH, setting};
use crate::memory::kernel;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns};
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use aya_log_ebpf::warn;
use pyapm_wire::count;
use pyapm_wire::event::{Fork, Header, kind};
use pyapm_wire::python::route;
use pyapm_wire::target::pipes;

/// The header of a record about the current thread, now.
#[inline(always)]
pub(crate) fn header(kind: u16, length: usize) -> Header {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: the helper has no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    Header { kind, flags: 0, len: length as u32, time_ns, tgid: (id >> 32) as u32, tid: id as u32 }
}

/// `CLONE_THREAD` of the kernel's `include/uapi/linux/sched.h`.
const CLONE_THREAD: u64 = 0x0001_0000;

#[tracepoint]
fn process_fork(context: TracePointContext) -> u32 {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is copied at once; entries are written whole by userspace before they are used.
    let Some(target) = (unsafe { TARGETS.get(parent) }) else { return 0 };
    // SAFETY: both fields lie inside the record.
    let (tgid, flags) = unsafe {
        let record = context.as_ptr().cast::<u8>();
        (record.add(8).cast::<u32>().read(), record.add(32).cast::<u64>().read())
    };
    if flags & CLONE_THREAD != 0 {
        return 0;
    }
    let mut child = *target;
    // SAFETY: the helper has no preconditions.
    child.generation = unsafe { bpf_ktime_get_ns() };
    child.pipes = if target.pipes == pipes::CHILDREN { pipes::OWN } else { pipes::NONE };
    if TARGETS.insert(tgid, child, 0).is_err() {
        emit::add(count::TARGETS_FULL, 1);
        warn!(&context, "the target map is full: process {} is not followed", tgid);
        return 0;
    }
    let header = header(kind::FORK, size_of::<Fork>());
    emit::send(&Fork { header, child_tgid: tgid, padding: 0 });
    0
}

#[tracepoint]
fn process_exec(_context: TracePointContext) -> u32 {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(target) = TARGETS.get_ptr_mut(pid) else { return 0 };
    // What runs from now on is another program: userspace decides whether, and how, it is watched.
    // SAFETY: map values stay valid while the program runs; each field is one aligned word.
    let stays = unsafe { (*target).follow_exec != 0 };
    if stays {
        // SAFETY: as above.
        unsafe {
            (*target).layout.route = route::NONE;
            (*target).pipes = pipes::NONE;
            (*target).generation = bpf_ktime_get_ns();
        }
    }
    if stays || TARGETS.remove(pid).is_ok() {
        emit::send(&header(kind::EXEC, size_of::<Header>()));
    }
    0
}

#[tracepoint]
fn process_exit(_context: TracePointContext) -> u32 {
    let id = bpf_get_current_pid_tgid();
    let pid = (id >> 32) as u32;
    if TARGETS.get_ptr(pid).is_none() {
        return 0;
    }
    let _absent_is_fine = THREAD_SCRATCH.remove(id);
    let _absent_is_fine = TLS_CALLS.remove(id);
    let _absent_is_fine = SQLITE_CALLS.remove(id);
    let _absent_is_fine = TLS_SCRATCH.remove(id);
    let _absent_is_fine = SLEEPERS.remove(id as u32);
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    // `do_exit` has already taken this thread off the count of live ones (kernel/exit.c).
    let live = kernel::<u64>(task + setting!(task_signal))
        .and_then(|signal| kernel::<i32>(signal + setting!(signal_live)));
    if live == Some(0) {
        let _absent_is_fine = TARGETS.remove(pid);
        emit::send(&header(kind::EXIT, size_of::<Header>()));
    }
    0
}
