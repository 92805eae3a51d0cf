//! Event loops while they turn: a loop that has not come back for long is read where it sleeps, from outside; how its time
//! went is read once a second.

use super::Engine;
use crate::pipeline::clock;
use crate::python::{ProcessMemory, parked_stack};
use crate::store::LoopTimes;

/// Between two looks.
const LOOK_NS: u64 = 20_000_000;

impl Engine {
    /// Looks for loops in the middle of a long turn.
    pub(super) fn look_at_loops(&mut self) {
        let now = clock::monotonic_ns();
        if now.saturating_sub(self.looked_ns) < LOOK_NS {
            return;
        }
        self.looked_ns = now;
        for instance in self.instances.values_mut() {
            let threads: Vec<(u32, u32)> = instance.store.loops.threads().collect();
            for (pid, tid) in threads {
                let Some(turns) = self.tables.turns(pid, tid) else { continue };
                if turns.waits != 0 || now.saturating_sub(turns.since_ns) < self.blocked_ns {
                    continue;
                }
                let Some(interpreter) = self.interpreters.get(&pid).cloned() else { continue };
                let memory = ProcessMemory::new(pid);
                // One that works is met by samples.
                let Some(frames) = parked_stack(pid, tid, &interpreter, &memory) else { continue };
                let named = self.symbols.resolve(pid, &interpreter, &memory, &frames);
                instance.store.loops.parked(pid, tid, now, named);
            }
        }
    }

    /// How the time of each loop went.
    pub(super) fn read_turns(&mut self) {
        let now = clock::monotonic_ns();
        for instance in self.instances.values_mut() {
            let threads: Vec<(u32, u32)> = instance.store.loops.threads().collect();
            for (pid, tid) in threads {
                let Some(turns) = self.tables.turns(pid, tid) else { continue };
                let open = now.saturating_sub(turns.since_ns);
                let (busy, waits) = if turns.waits == 0 { (open, 0) } else { (0, open) };
                let times = LoopTimes { busy_ns: turns.busy_ns + busy, waited_ns: turns.waited_ns + waits };
                instance.store.loops.times(pid, tid, times);
            }
        }
    }
}
