//! When an application is looked through for other agents inside it: at the attach, and then ever more seldom, because
//! they may come up late, and workers may have one that the master has not.

use crate::frameworks::{imported_modules, running_agents};
use crate::python::{Interpreter, ProcessMemory};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Of the processes that were looked into last, those that have no module of any agent, and how many they have.
    without: BTreeMap<u32, u64>,
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
        let before = std::mem::take(&mut self.without);
        let mut news = Vec::new();
        for (pid, interpreter) in processes.take(MOST_PROCESSES) {
            let memory = ProcessMemory::new(pid);
            if let Some(modules) = before.get(&pid)
                && imported_modules(&memory, &interpreter) == Some(*modules)
            {
                self.without.insert(pid, *modules);
                continue;
            }
            let Some(agents) = running_agents(&memory, &interpreter) else { continue };
            self.without.extend(agents.without.map(|modules| (pid, modules)));
            news.extend(agents.running.into_iter().filter(|name| self.found.insert(name)));
        }
        news
    }

    /// All that were found so far.
    pub(super) fn names(&self) -> Vec<String> {
        self.found.iter().map(|name| (*name).to_owned()).collect()
    }
}
