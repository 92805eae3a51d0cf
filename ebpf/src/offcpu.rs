//! Time off the CPU: the raw tracepoint `sched_switch` (kernel `include/trace/events/sched.h`: whether the thread was
//! preempted, the task that leaves, the task that comes), in the scheduler, as the thread that leaves.
//!
//! A thread that leaves takes its own stack and says what it is in; the one that comes sends what it had said, with the
//! time that has passed. One record for each time away, none left out: sums are exact.
//!
//! It runs with interrupts off, so nothing interrupts it, and it neither waits nor wakes. Raw, because programs on
//! ordinary tracepoints are skipped while another program, or a map's system call, is active on the CPU (kernel
//! `kernel/trace/bpf_trace.c`, `trace_call_bpf`), and a switch that is not seen would be a wait that never ends.

use crate::connection;
use crate::deep;
use crate::emit;
use crate::maps::{OFF_CPU_SCRATCH, OffCpuScratch, SLEEPERS, TARGETS, setting};
use crate::memory::{kernel, user};
use crate::stack::{self, Gil, Walked};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use pyapm_wire::count;
use pyapm_wire::event::{Header, OffCpu, Sleeper, call, gil, kind};
use pyapm_wire::python::status;
use pyapm_wire::scope::Scope;

/// `TASK_RUNNING` and `TASK_DEAD` of the kernel's `include/linux/sched.h`.
const TASK_RUNNING: u32 = 0;
const TASK_DEAD: u32 = 0x80;
/// Process id of what runs where nothing has to.
const IDLE: u32 = 0;

const POLL: i32 = 7;
const SELECT: i32 = 23;
const NANOSLEEP: i32 = 35;
const CONNECT: i32 = 42;
const ACCEPT: i32 = 43;
const SENDTO: i32 = 44;
const RECVFROM: i32 = 45;
const SENDMSG: i32 = 46;
const RECVMSG: i32 = 47;
const WAIT4: i32 = 61;
const FUTEX: i32 = 202;
const CLOCK_NANOSLEEP: i32 = 230;
const EPOLL_WAIT: i32 = 232;
const PSELECT6: i32 = 270;
const PPOLL: i32 = 271;
const EPOLL_PWAIT: i32 = 281;
const ACCEPT4: i32 = 288;

/// With stacks.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch(context: RawTracePointContext) -> i32 {
    come(context.arg(2));
    leave(context.arg(0), true);
    0
}

/// Without: how long and why, at a fraction of the cost. A program of its own, because a choice in front of the walk
/// makes the verifier walk it four times.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch_times(context: RawTracePointContext) -> i32 {
    come(context.arg(2));
    leave(context.arg(0), false);
    0
}

/// The current thread leaves the CPU.
///
/// What is known before the walk is kept in scratch memory, or asked for again after it: in registers it would
/// multiply the states that the verifier walks through.
#[inline(always)]
fn leave(preempted: u64, stacks: bool) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if tgid == IDLE {
        return;
    }
    // SAFETY: entries are written whole; a value changed under us can only spoil this one record.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return };
    let Some(scratch) = OFF_CPU_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: map values stay valid while the program runs, here and below; the helper has no preconditions.
    unsafe {
        (*scratch).preempted = preempted;
        (*scratch).now_ns = bpf_ktime_get_ns();
    }
    if task_state() & TASK_DEAD != 0 {
        let _absent_is_fine = SLEEPERS.remove(bpf_get_current_pid_tgid() as u32);
        return;
    }
    let walked = if stacks {
        let Some(walk) = deep::scratch() else { return };
        deep::take(target, walk, deep::SWITCH_CALLS)
    } else {
        Walked { stack: 0, status: status::NOT_ASKED }
    };
    // SAFETY: as above. Through memory, because the ways in which a walk ends would each be followed to the end.
    let walked = unsafe {
        let place = &raw mut (*scratch).walked;
        place.write_volatile(walked);
        place.read_volatile()
    };
    let id = bpf_get_current_pid_tgid();
    let Some(sleeper) = entry(id as u32) else { return };
    // SAFETY: as above. Only this thread's switches touch the entry, and they come one after the other.
    let record = unsafe { &mut (*sleeper).record };
    record.header.flags = 0;
    record.header.tgid = (id >> 32) as u32;
    record.header.tid = id as u32;
    record.stack = walked.stack;
    record.stack_status = walked.status;
    record.scope = Scope::default();
    record.call = call::NONE;
    record.fd = -1;
    record.mode = 0;
    // A thread that was on its way to sleep when its time slice ended has not gone to sleep yet.
    // SAFETY: as above.
    record.state = if unsafe { (*scratch).preempted } & 1 != 0 { TASK_RUNNING } else { task_state() };
    if record.state != TASK_RUNNING {
        place(record, scratch);
    }
    let tstate = if stacks {
        // SAFETY: as above.
        deep::scratch().map_or(0, |walk| unsafe { (*walk).walk.tstate })
    } else if record.call == FUTEX {
        stack::thread_state(&target.layout).unwrap_or(0)
    } else {
        // Whether it waits for the lock is all that is asked.
        0
    };
    if let Some(lock) = Gil::of(&target.layout, tstate) {
        if lock.is_held_by_it {
            record.header.flags |= gil::HOLDS;
        }
        if record.call == FUTEX && lock.has(record.arguments[0]) {
            record.header.flags |= gil::WAITS;
        }
    }
    // SAFETY: as above.
    unsafe {
        (*sleeper).run_delay_ns = run_delay(bpf_get_current_task());
        (*sleeper).since_ns = (*scratch).now_ns;
    }
}

/// The state of the current task. A thread that is woken while it is on its way to sleep is running again: from then
/// on it waits for a CPU and for nothing else.
#[inline(always)]
fn task_state() -> u32 {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    kernel::<u32>(task + setting!(task_state)).unwrap_or(TASK_RUNNING)
}

/// The entry of a thread, made at its first switch.
#[inline(always)]
fn entry(tid: u32) -> Option<*mut Sleeper> {
    if let Some(known) = SLEEPERS.get_ptr_mut(tid) {
        return Some(known);
    }
    let scratch = OFF_CPU_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: map values stay valid while the program runs; nothing writes to `blank`.
    if SLEEPERS.insert(tid, unsafe { &(*scratch).blank }, 0).is_err() {
        emit::add(count::SLEEPERS_FULL, 1);
        return None;
    }
    SLEEPERS.get_ptr_mut(tid)
}

/// Fills in which system call the thread is in, and on which kind of file.
#[inline(always)]
fn place(record: &mut OffCpu, scratch: *mut OffCpuScratch) {
    // SAFETY: map values stay valid while the program runs.
    let registers = unsafe { &mut (*scratch).registers };
    if registers.read().is_none() {
        record.call = call::UNKNOWN;
        emit::add(count::REGISTERS_UNKNOWN, 1);
        return;
    }
    record.call = registers.orig_ax as i32;
    record.arguments = [registers.di, registers.si, registers.dx];
    let fd = match record.call {
        call::NONE
        | FUTEX
        | NANOSLEEP
        | CLOCK_NANOSLEEP
        | WAIT4
        | SELECT
        | PSELECT6
        | EPOLL_WAIT
        | EPOLL_PWAIT => None,
        // `struct pollfd` begins with the descriptor; with several of them there is no one to name.
        POLL | PPOLL if registers.si == 1 => user::<i32>(registers.di),
        POLL | PPOLL => None,
        // Of a call that takes none it is a number that userspace does not look at.
        _ => Some(registers.di as i32),
    };
    if let Some(fd) = fd
        && fd >= 0
    {
        record.fd = fd;
        record.mode = match record.call {
            // These take nothing else, and have been entered: no need to follow the descriptor.
            CONNECT | ACCEPT | ACCEPT4 | SENDTO | RECVFROM | SENDMSG | RECVMSG => connection::S_IFSOCK,
            _ => connection::mode(fd as u32).unwrap_or(0),
        };
    }
}

/// A thread comes back to the CPU; the current one is still that which leaves.
#[inline(always)]
fn come(next: u64) {
    // They are neighbours on every known kernel; the verifier drops the other arm, because it knows the settings.
    let ids = if setting!(task_tgid) == setting!(task_pid) + 4 {
        kernel::<[u32; 2]>(next + setting!(task_pid))
    } else {
        kernel::<u32>(next + setting!(task_pid))
            .zip(kernel::<u32>(next + setting!(task_tgid)))
            .map(<[u32; 2]>::from)
    };
    let Some([tid, tgid]) = ids else { return };
    if tgid == IDLE || TARGETS.get_ptr(tgid).is_none() {
        return;
    }
    let Some(sleeper) = entry(tid) else { return };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: map values stay valid while the program runs, and only this thread's switches touch the entry.
    let sleeper = unsafe { &mut *sleeper };
    let record = &mut sleeper.record;
    let is_known = sleeper.since_ns != 0 && record.header.tgid == tgid;
    record.duration_ns = if is_known { now - sleeper.since_ns } else { 0 };
    record.queued_ns = if is_known { queued(next, sleeper.run_delay_ns) } else { 0 };
    if record.queued_ns > record.duration_ns {
        record.queued_ns = record.duration_ns;
    }
    let flags = if is_known { record.header.flags } else { 0 };
    record.header =
        Header { kind: kind::OFF_CPU, flags, len: size_of::<OffCpu>() as u32, time_ns: now, tgid, tid };
    sleeper.since_ns = 0;
    emit::send(record);
}

/// How long a task has waited for a CPU in its life, as far as the kernel has added it up.
#[inline(always)]
fn run_delay(task: u64) -> u64 {
    if setting!(task_run_delay) == 0 {
        return 0;
    }
    kernel::<u64>(task + setting!(task_run_delay)).unwrap_or(0)
}

/// How long the task that is about to run has waited for a CPU since it left one with that much of `run_delay`. The
/// kernel adds up what it waited on other CPUs' queues; what it waited on this one's is added right after this (kernel
/// `kernel/sched/stats.h`, `sched_info_arrive`), by the clock of the queue.
#[inline(always)]
fn queued(task: u64, run_delay_then: u64) -> u64 {
    if setting!(task_run_delay) == 0 {
        return 0;
    }
    let elsewhere = run_delay(task).saturating_sub(run_delay_then);
    elsewhere + queued_here(task).unwrap_or(0)
}

#[inline(always)]
fn queued_here(task: u64) -> Option<u64> {
    let since = kernel::<u64>(task + setting!(task_last_queued)).filter(|since| *since != 0)?;
    let group = kernel::<u64>(task + setting!(task_cfs_rq))?;
    let queue = kernel::<u64>(group + setting!(cfs_rq_rq))?;
    let clock = kernel::<u64>(queue + setting!(rq_clock))?;
    Some(clock.saturating_sub(since))
}
