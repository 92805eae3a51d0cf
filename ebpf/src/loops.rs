//! Turns of event loops: from the return of `epoll_wait` to the next time it is called, a loop works off what has come; one
//! callback that does not come back holds up everybody else's. Attached once some target has an event loop. Tracepoints:
//!
//! - `syscalls:sys_enter_epoll_wait`, `sys_enter_epoll_pwait`
//! - `syscalls:sys_exit_epoll_wait`, `sys_exit_epoll_pwait`
//!
//! Sums are kept in a map that userspace reads now and then; only turns that were too long are told.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::{LOOPS, TARGETS, setting};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use pyapm_wire::event::{Header, LoopBlocked, LoopTurns, kind};

#[tracepoint]
fn loop_waits(_context: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // Only threads that have come back from a wait are in it.
    let Some(entry) = LOOPS.get_ptr_mut(thread) else { return 0 };
    // SAFETY: map values stay valid while the program runs, and only this thread writes to its entry; the helper has
    // no preconditions.
    let (turns, now) = unsafe { (&mut *entry, bpf_ktime_get_ns()) };
    if turns.waits != 0 {
        return 0;
    }
    let busy = now - turns.since_ns;
    let started_ns = turns.since_ns;
    turns.busy_ns += busy;
    turns.turns += 1;
    turns.waits = 1;
    turns.since_ns = now;
    if busy >= u64::from(setting!(loop_blocked_ms)) * 1_000_000 {
        let header = header(kind::LOOP_BLOCKED, size_of::<LoopBlocked>());
        emit::send(&LoopBlocked { header, started_ns });
    }
    0
}

#[tracepoint]
fn loop_turns(_context: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((thread >> 32) as u32) }) else { return 0 };
    if target.contexts.on == 0 {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(entry) = LOOPS.get_ptr_mut(thread) {
        // SAFETY: as in `loop_waits`.
        let turns = unsafe { &mut *entry };
        if turns.generation == target.generation {
            if turns.waits != 0 {
                turns.waited_ns += now - turns.since_ns;
            }
            turns.waits = 0;
            turns.since_ns = now;
            return 0;
        }
    }
    let turns = LoopTurns {
        generation: target.generation,
        since_ns: now,
        busy_ns: 0,
        waited_ns: 0,
        turns: 0,
        waits: 0,
    };
    if LOOPS.insert(thread, turns, 0).is_ok() {
        emit::send(&header(kind::LOOP_SEEN, size_of::<Header>()));
    }
    0
}
