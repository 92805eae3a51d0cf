//! One [`Snapshot`] of an application from everything that the engine owns.

use super::clock;
use super::dump::Surroundings;
use super::engine::Engine;
use crate::python::{Gil, Interpreter, Objects, ProcessMemory, needs_gil, parked_stack, while_parked};
use crate::targets::{ApplicationId, Descriptors, Place, ProcFs};
use crate::transactions::callsite::from_application;
use pyapm_model::dump::State;
use pyapm_model::snapshot::{Active, Doing, Snapshot, Worker};
use std::collections::HashMap;

/// Active transactions whose thread is read from outside in one snapshot, at most.
const MAX_READ: usize = 32;
/// Processes whose open files are looked up in one snapshot, at most: their tables may be long.
const MAX_FILES: usize = 8;

/// What a snapshot says of the threads that serve: each step costs more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Threads {
    /// Nothing but what the transactions know.
    Unread,
    /// Where those are in Python that do not run.
    Stacks,
    /// Where the kernel has them, too, by the tables of all sockets.
    States,
}

impl Engine {
    /// `None` when there is no such application. `keeps`: from now on more is kept of it, for whoever looks into it later.
    pub(super) fn snapshot(
        &mut self,
        application: ApplicationId,
        keeps: bool,
        threads: Threads,
    ) -> Option<Snapshot> {
        let now = clock::monotonic_ns();
        self.instance_mut(application)?.store.watch(keeps);
        let mut active = self.instance(application)?.transactions.active(now);
        active.sort_by_key(|active| std::cmp::Reverse(active.elapsed_ns));
        self.read_collections(application);
        if threads >= Threads::Stacks {
            self.look_at_parked(application, &mut active, threads >= Threads::States);
        }
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
    /// outside, and only believed when the thread provably did not run meanwhile. What a thread does that serves
    /// several at once is none of theirs in particular, and what an event loop's does may be for none at all.
    fn look_at_parked(&mut self, application: ApplicationId, active: &mut [Active], with_states: bool) {
        let mut served: HashMap<(u32, u32), usize> = HashMap::new();
        for one in &*active {
            *served.entry((one.pid, one.tid)).or_default() += 1;
        }
        if let Some(instance) = self.instance(application) {
            served.retain(|(pid, tid), _| !instance.transactions.is_shared(*pid, *tid));
        }
        let procfs = ProcFs::new();
        let mut files: HashMap<u32, Descriptors> = HashMap::new();
        let alone = active.iter_mut().filter(|one| served.get(&(one.pid, one.tid)) == Some(&1));
        for active in alone.take(MAX_READ) {
            let Some(interpreter) = self.interpreters.get(&active.pid).cloned() else { continue };
            let memory = ProcessMemory::new(active.pid);
            if let Some(frames) = parked_stack(active.pid, active.tid, &interpreter, &memory) {
                let named = self.symbols.resolve(active.pid, &interpreter, &memory, &frames);
                if let Some(innermost) = named.first()
                    && !matches!(active.doing, Doing::Statement { .. })
                {
                    active.doing = Doing::Function(innermost.clone());
                }
                active.stack = named;
                active.place = from_application(active.stack.clone()).first().cloned();
            }
            if with_states {
                if files.len() < MAX_FILES {
                    files.entry(active.pid).or_insert_with(|| Descriptors::of(active.pid));
                }
                let descriptors = files.get(&active.pid);
                active.state = state(&procfs, active.pid, active.tid, &interpreter, &memory, descriptors);
            }
        }
    }

    /// Whether its threads need the lock: a free-threaded build may go without.
    fn has_gil(&self, pid: u32) -> bool {
        let Some(interpreter) = self.interpreters.get(&pid) else { return false };
        interpreter.offsets.free_threaded.is_none()
            || needs_gil(&ProcessMemory::new(pid), interpreter).unwrap_or(false)
    }

    fn workers(&mut self, application: ApplicationId, now: u64, active: &[Active]) -> Vec<Worker> {
        let mut in_flight: HashMap<u32, u64> = HashMap::new();
        for one in active {
            *in_flight.entry(one.pid).or_default() += 1;
        }
        let pids = self.members(application);
        let Some(instance) = self.instance_mut(application) else { return Vec::new() };
        let usages: HashMap<u32, _> = instance.usage.read(&pids, now).into_iter().collect();
        instance.store.gil.settle(now);
        let Some(instance) = self.instance(application) else { return Vec::new() };
        pids.iter()
            .map(|pid| {
                let usage = usages.get(pid);
                let gil = instance.store.gil.use_of(*pid).filter(|_| self.has_gil(*pid));
                Worker {
                    pid: *pid,
                    is_master: self.registry.get(*pid).is_some_and(|watched| watched.is_master),
                    transactions: instance.store.worker_transactions(*pid),
                    active: in_flight.get(pid).copied().unwrap_or(0),
                    cpu_cores: usage.and_then(|usage| usage.cpu_cores),
                    rss_bytes: usage.map(|usage| usage.rss_bytes),
                    threads: usage.map(|usage| usage.threads),
                    gil_held: gil.map(|gil| gil.held),
                    gil_waiting: gil.filter(|_| self.waits).map(|gil| gil.waiting),
                    collections: instance.store.collections.per_second(*pid),
                }
            })
            .collect()
    }
}

/// Where the kernel has a thread; `None` when that changes too fast to be told.
fn state(
    procfs: &ProcFs,
    pid: u32,
    tid: u32,
    interpreter: &Interpreter,
    memory: &ProcessMemory,
    descriptors: Option<&Descriptors>,
) -> Option<State> {
    let surroundings =
        Surroundings { procfs, pid, descriptors: descriptors?, gil: main_gil(interpreter, memory) };
    while_parked(pid, tid, |_| surroundings.state(tid))
        .or_else(|| matches!(procfs.task_place(pid, tid), Ok(Place::Running)).then_some(State::Running))
}

fn main_gil(interpreter: &Interpreter, memory: &ProcessMemory) -> Option<Gil> {
    let objects = Objects::new(memory, &interpreter.offsets, interpreter.version.minor)?;
    let main = objects.main_interpreter(interpreter.runtime_address).ok()?;
    objects.gil(interpreter.runtime_address, main).ok()
}
