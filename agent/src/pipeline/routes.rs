//! When the routes of the application are read: at the attach, and again when requests come in that none of them takes, for
//! frameworks build their tables late and applications may be reloaded.

use crate::frameworks::{RouteTable, read_routes};
use crate::python::{Interpreter, ProcessMemory};
use std::sync::Arc;

/// After a look that was not enough, the next may come so soon, and then half as often each time.
const SOONEST_NS: u64 = 2_000_000_000;
const LATEST_NS: u64 = 600_000_000_000;
/// Processes that are looked into at once.
const MOST_PROCESSES: usize = 3;

#[derive(Debug, Default)]
pub(super) struct RouteReader {
    next_ns: u64,
    wait_ns: u64,
    /// At the last look; `None` before the first.
    missed: Option<u64>,
}

impl RouteReader {
    /// Whether to look: `missed` is how many requests no route has taken so far.
    pub(super) fn is_due(&self, now_ns: u64, missed: u64) -> bool {
        now_ns >= self.next_ns && self.missed != Some(missed)
    }

    /// Looks into the processes until one has routes.
    pub(super) fn read(
        &mut self,
        now_ns: u64,
        missed: u64,
        processes: impl Iterator<Item = (u32, Arc<Interpreter>)>,
    ) -> Option<RouteTable> {
        self.missed = Some(missed);
        self.wait_ns = (self.wait_ns * 2).clamp(SOONEST_NS, LATEST_NS);
        self.next_ns = now_ns.saturating_add(self.wait_ns);
        let mut found = processes
            .take(MOST_PROCESSES)
            .filter_map(|(pid, interpreter)| read_routes(&ProcessMemory::new(pid), &interpreter));
        let table = found.next();
        if let Some(table) = &table {
            tracing::info!(routes = table.len(), "the application's routes are known");
        }
        table
    }
}
