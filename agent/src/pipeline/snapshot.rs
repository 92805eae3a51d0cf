//! One [`Snapshot`] of an application from everything that the engine owns.

use super::clock;
use super::engine::Engine;
use crate::python::{ProcessMemory, parked_stack};
use crate::targets::ApplicationId;
use pyapm_model::snapshot::{Active, Doing, Snapshot, Worker};
use std::collections::HashMap;

/// Active transactions whose thread is read from outside in one snapshot, at most.
const MAX_READ: usize = 32;

impl Engine {
    /// `None` when there is no such application.
    pub(super) fn snapshot(&mut self, application: ApplicationId) -> Option<Snapshot> {
        let now = clock::monotonic_ns();
        let mut active = self.instance(application)?.transactions.active(now);
        active.sort_by_key(|active| std::cmp::Reverse(active.elapsed_ns));
        self.look_at_parked(&mut active);
        let workers = self.workers(application, now, &active);
        let instance = self.instance(application)?;
        let mut snapshot = instance.store.snapshot(self.clock.wall_ns(now));
        snapshot.application.clone_from(&instance.application.name);
        snapshot.server = instance.application.server.map(|server| server.to_string());
        snapshot.python = self.python_version(application);
        snapshot.agents = self.agents(application);
        snapshot.totals.cpu_cores =
            workers.iter().filter_map(|worker| worker.cpu_cores).reduce(|sum, cores| sum + cores);
        snapshot.active = active;
        snapshot.workers = workers;
        snapshot.losses = self.losses(std::iter::once(instance));
        Some(snapshot)
    }

    pub(super) fn python_version(&self, application: ApplicationId) -> Option<String> {
        let members = self.members(application);
        let known = members.iter().filter_map(|pid| self.interpreters.get(pid));
        let mut versions: Vec<_> = known.map(|known| known.version.to_string()).collect();
        versions.sort();
        versions.dedup();
        (!versions.is_empty()).then(|| versions.join(", "))
    }

    /// What threads are doing that no sample has met, because they wait: their frames are read from
    /// outside, and only believed when the thread provably did not run meanwhile.
    fn look_at_parked(&mut self, active: &mut [Active]) {
        let waiting = active.iter_mut().filter(|active| !matches!(active.doing, Doing::Statement { .. }));
        for active in waiting.take(MAX_READ) {
            let Some(interpreter) = self.interpreters.get(&active.pid).cloned() else { continue };
            let memory = ProcessMemory::new(active.pid);
            let Some(frames) = parked_stack(active.pid, active.tid, &interpreter, &memory) else { continue };
            let named = self.symbols.resolve(active.pid, &interpreter, &memory, &frames);
            if let Some(innermost) = named.first() {
                active.doing = Doing::Function(innermost.clone());
            }
        }
    }

    fn workers(&mut self, application: ApplicationId, now: u64, active: &[Active]) -> Vec<Worker> {
        let mut in_flight: HashMap<u32, u64> = HashMap::new();
        for one in active {
            *in_flight.entry(one.pid).or_default() += 1;
        }
        let pids = self.members(application);
        let Some(instance) = self.instance_mut(application) else { return Vec::new() };
        let usages: HashMap<u32, _> = instance.usage.read(&pids, now).into_iter().collect();
        let Some(instance) = self.instance(application) else { return Vec::new() };
        pids.iter()
            .map(|pid| {
                let usage = usages.get(pid);
                Worker {
                    pid: *pid,
                    is_master: self.registry.get(*pid).is_some_and(|watched| watched.is_master),
                    transactions: instance.store.worker_transactions(*pid),
                    active: in_flight.get(pid).copied().unwrap_or(0),
                    cpu_cores: usage.and_then(|usage| usage.cpu_cores),
                    rss_bytes: usage.map(|usage| usage.rss_bytes),
                    threads: usage.map(|usage| usage.threads),
                }
            })
            .collect()
    }
}
