//! When an application is looked through for other agents inside it: at the attach, and then ever more seldom, because
//! they may come up late, and workers may have one that the master has not.

use crate::frameworks::running_agents;
use crate::python::{Interpreter, ProcessMemory};
use std::collections::BTreeSet;
use std::sync::Arc;

const SOONEST_NS: u64 = 2_000_000_000;
const LATEST_NS: u64 = 600_000_000_000;
/// Processes that are looked into at once.
const MOST_PROCESSES: usize = 3;

#[derive(Debug, Default)]
pub(super) struct AgentFinder {
    next_ns: u64,
    wait_ns: u64,
    found: BTreeSet<&'static str>,
}

impl AgentFinder {
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// Looks into the processes. The names of those that were not known before.
    pub(super) fn look(
        &mut self,
        now_ns: u64,
        processes: impl Iterator<Item = (u32, Arc<Interpreter>)>,
    ) -> Vec<&'static str> {
        self.wait_ns = (self.wait_ns * 2).clamp(SOONEST_NS, LATEST_NS);
        self.next_ns = now_ns.saturating_add(self.wait_ns);
        let read = |(pid, interpreter): (u32, Arc<Interpreter>)| {
            running_agents(&ProcessMemory::new(pid), &interpreter)
        };
        let names = processes.take(MOST_PROCESSES).filter_map(read).flatten();
        names.filter(|name| self.found.insert(name)).collect()
    }

    /// All that were found so far.
    pub(super) fn names(&self) -> Vec<String> {
        self.found.iter().map(|name| (*name).to_owned()).collect()
    }
}
