//! Processes that come and go. Raw tracepoints (Linux 4.17), whose arguments are in the kernel's
//! `include/trace/events/sched.h`:
//!
//! - `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, in the parent
//! - `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! - `sched_process_exit(struct task_struct *p)`, in the thread that ends
//!
//! The fork program adds the child to the targets itself, before the child runs its first instruction.

use crate::emit;
use crate::maps::{TARGETS, THREAD_SCRATCH, setting};
use crate::memory::kernel;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::warn;
use pyapm_wire::count;
use pyapm_wire::event::{Fork, Header, kind};

/// The header of a record about the current thread, now.
#[inline(always)]
pub(crate) fn header(kind: u16, length: usize) -> Header {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: the helper has no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    Header { kind, flags: 0, len: length as u32, time_ns, tgid: (id >> 32) as u32, tid: id as u32 }
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(context: RawTracePointContext) -> i32 {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is copied at once; entries are written whole by userspace before they are used.
    let Some(target) = (unsafe { TARGETS.get(parent) }) else { return 0 };
    let task: u64 = context.arg(1);
    let (Some(tgid), Some(tid)) =
        (kernel::<u32>(task + setting!(task_tgid)), kernel::<u32>(task + setting!(task_pid)))
    else {
        return 0;
    };
    if tgid != tid {
        return 0; // A new thread of the same process.
    }
    let mut child = *target;
    // SAFETY: the helper has no preconditions.
    child.generation = unsafe { bpf_ktime_get_ns() };
    if TARGETS.insert(tgid, child, 0).is_err() {
        emit::add(count::TARGETS_FULL, 1);
        warn!(&context, "the target map is full: process {} is not followed", tgid);
        return 0;
    }
    let header = header(kind::FORK, size_of::<Fork>());
    emit::send(&Fork { header, child_tgid: tgid, padding: 0 });
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(_context: RawTracePointContext) -> i32 {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // What runs from now on is another program: userspace decides whether it is watched.
    if TARGETS.remove(pid).is_ok() {
        emit::send(&header(kind::EXEC, size_of::<Header>()));
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(context: RawTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    let pid = (id >> 32) as u32;
    if TARGETS.get_ptr(pid).is_none() {
        return 0;
    }
    let _absent_is_fine = THREAD_SCRATCH.remove(id);
    let task: u64 = context.arg(0);
    // `do_exit` has already taken this thread off the count of live ones (kernel/exit.c).
    let live = kernel::<u64>(task + setting!(task_signal))
        .and_then(|signal| kernel::<i32>(signal + setting!(signal_live)));
    if live == Some(0) {
        let _absent_is_fine = TARGETS.remove(pid);
        emit::send(&header(kind::EXIT, size_of::<Header>()));
    }
    0
}
