//! Processes that are watched but have no interpreter yet: just started by exec, or not Python at all. They are looked
//! at again and again, eagerly at first: until their interpreter is understood, their samples have no stacks.

use std::collections::HashMap;

/// Processes that are looked at, at most.
const MAX: usize = 4096;
const MILLISECOND: u64 = 1_000_000;

/// When each was first met and when it is looked at next, `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    since: HashMap<u32, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since_ns: u64,
    next_ns: u64,
}

impl Newcomers {
    pub(super) fn add(&mut self, pid: u32, now_ns: u64) {
        if self.since.len() < MAX || self.since.contains_key(&pid) {
            self.since.insert(pid, Waiting { since_ns: now_ns, next_ns: now_ns });
        }
    }

    pub(super) fn remove(&mut self, pid: u32) {
        self.since.remove(&pid);
    }

    /// Those to look at now. Each comes again until it is removed: every millisecond while an interpreter is likely
    /// to come up, then ever more seldom.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<u32> {
        let mut due = Vec::new();
        for (pid, waiting) in &mut self.since {
            if waiting.next_ns <= now_ns {
                let age = now_ns.saturating_sub(waiting.since_ns);
                waiting.next_ns = now_ns + (age / 20).clamp(MILLISECOND, 1000 * MILLISECOND);
                due.push(*pid);
            }
        }
        due
    }

    /// Whether one of them came so lately that it may still turn out to be Python.
    pub(super) fn is_hopeful(&self, now_ns: u64) -> bool {
        self.since.values().any(|waiting| now_ns.saturating_sub(waiting.since_ns) < 2000 * MILLISECOND)
    }

    /// Whether one of them came so lately that its interpreter may come up any moment.
    pub(super) fn is_urgent(&self, now_ns: u64) -> bool {
        self.since.values().any(|waiting| now_ns.saturating_sub(waiting.since_ns) < 200 * MILLISECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eager_at_first_and_seldom_later() {
        let mut newcomers = Newcomers::default();
        newcomers.add(7, 0);
        let mut looked = Vec::new();
        for now in 0..100_000 {
            if !newcomers.due(now * MILLISECOND).is_empty() {
                looked.push(now);
            }
        }
        assert_eq!(looked[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let late = looked.iter().filter(|at| **at > 60_000).count();
        assert_eq!(late, 40);
        assert!(newcomers.is_urgent(0) && !newcomers.is_urgent(1000 * MILLISECOND));
        assert!(newcomers.is_hopeful(1999 * MILLISECOND) && !newcomers.is_hopeful(2000 * MILLISECOND));
        newcomers.remove(7);
        assert!(newcomers.due(200_000 * MILLISECOND).is_empty() && !newcomers.is_urgent(0));
    }
}
