//! The interpreter's lock: how long threads have waited for it, and of each process how much of the time it was used, and
//! how many waited. What holds it on a CPU is known by samples; a thread that keeps it while it sleeps is not seen.

use pyapm_model::definition;
use pyapm_model::metric::Family;
use std::collections::HashMap;

/// Processes that are followed at once.
const MOST_PROCESSES: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct Gil {
    /// Since the start, of all; `None` where it is not told.
    waited_ns: Option<u64>,
    processes: HashMap<u32, Process>,
    settled_ns: Option<u64>,
    /// A share of time could be made at the last [`Gil::settle`].
    is_known: bool,
}

#[derive(Debug, Default)]
struct Process {
    held_ns: u64,
    waited_ns: u64,
    use_: Use,
}

/// Of one process, between the last two times that it was settled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Use {
    /// Share of the time that a thread held it on a CPU, 0.0 to 1.0.
    pub held: f64,
    /// Threads that waited for it, on average.
    pub waiting: f64,
}

impl Gil {
    /// A thread was met on a CPU with the lock; the sample stands for so much time.
    pub fn held(&mut self, pid: u32, sample_ns: u64) {
        if let Some(process) = self.process(pid) {
            process.held_ns = process.held_ns.saturating_add(sample_ns);
        }
    }

    /// A thread comes back to a CPU, after it has waited for the lock for so long.
    pub fn waited(&mut self, pid: u32, waited_ns: u64) {
        let sum = self.waited_ns.get_or_insert(0);
        *sum = sum.saturating_add(waited_ns);
        if waited_ns > 0
            && let Some(process) = self.process(pid)
        {
            process.waited_ns = process.waited_ns.saturating_add(waited_ns);
        }
    }

    /// The time since the last call is over: [`Gil::use_of`] is of it.
    pub fn settle(&mut self, now_ns: u64) {
        let elapsed_ns = self.settled_ns.map_or(0, |settled_ns| now_ns.saturating_sub(settled_ns));
        self.settled_ns = Some(now_ns);
        self.is_known = elapsed_ns > 0;
        for process in self.processes.values_mut() {
            let (held_ns, waited_ns) =
                (std::mem::take(&mut process.held_ns), std::mem::take(&mut process.waited_ns));
            let share = |ns: u64| if elapsed_ns == 0 { 0.0 } else { ns as f64 / elapsed_ns as f64 };
            // Samples do not fall evenly: of a lock that is always held there can be one too many.
            process.use_ = Use { held: share(held_ns).min(1.0), waiting: share(waited_ns) };
        }
    }

    /// `None` until it was settled twice.
    #[must_use]
    pub fn use_of(&self, pid: u32) -> Option<Use> {
        let known = self.processes.get(&pid).map(|process| process.use_);
        self.is_known.then(|| known.unwrap_or_default())
    }

    pub fn exited(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    #[must_use]
    pub fn family(&self) -> Family {
        let family = definition::GIL_WAIT.family();
        match self.waited_ns {
            Some(waited_ns) => family.with(&[], waited_ns as f64 / 1e9),
            None => family,
        }
    }

    fn process(&mut self, pid: u32) -> Option<&mut Process> {
        if self.processes.len() >= MOST_PROCESSES && !self.processes.contains_key(&pid) {
            return None;
        }
        Some(self.processes.entry(pid).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn shares_are_of_the_time_between_two_looks_and_the_sum_is_of_all() {
        let mut gil = Gil::default();
        assert!(gil.family().points.is_empty());
        gil.held(1, 10 * MS);
        gil.settle(1_000 * MS);
        assert_eq!(gil.use_of(1), None);
        for _ in 0..30 {
            gil.held(1, 10 * MS);
        }
        gil.waited(1, 500 * MS);
        gil.waited(1, 2_000 * MS);
        gil.waited(2, 0);
        gil.settle(2_000 * MS);
        assert_eq!(gil.use_of(1), Some(Use { held: 0.3, waiting: 2.5 }));
        assert_eq!(gil.use_of(2), Some(Use::default()));
        for _ in 0..101 {
            gil.held(1, 10 * MS);
        }
        gil.settle(3_000 * MS);
        assert_eq!(gil.use_of(1), Some(Use { held: 1.0, waiting: 0.0 }));
        gil.exited(1);
        gil.settle(3_000 * MS);
        assert_eq!(gil.use_of(1), None);
        assert_eq!(gil.family(), definition::GIL_WAIT.family().with(&[], 2.5));
    }
}
