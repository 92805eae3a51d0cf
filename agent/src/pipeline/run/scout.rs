//! Who becomes an application. The kernel half announces each program that is started and each socket that is listened on,
//! of the whole host; those that may be Python are looked at a few times, ever more seldom, until they are watched or
//! plainly nothing to watch. A scan of `/proc`, now and then, finds what was not announced: what ran before, a program that
//! loads an interpreter late, an announcement that was lost.

use crate::pipeline::clock::monotonic_ns;
use crate::pipeline::engine::{Announcement, Engine, Lines};
use crate::targets::{Application, ApplicationId, ProcFs, ProcessKey, Rules, Verdict};
use pyapm_wire::python::route;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;
/// The first look comes so long after the announcement, the next ones after twice the time each.
const FIRST_LOOK_NS: u64 = 10 * MILLISECOND;
/// So long a process is looked at that is Python, and one that is not.
const PYTHON_NS: u64 = 60 * SECOND;
const OTHER_NS: u64 = 3 * SECOND;
/// How long an interpreter has to come up, before its application is watched without stacks.
const INTERPRETER_NS: u64 = 10 * SECOND;
/// Between two scans.
const SCAN_NS: u64 = 10 * SECOND;
/// Processes that are looked at, at most: what is more is left to the scan.
const MAX_CANDIDATES: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    since_ns: u64,
    next_ns: u64,
}

#[derive(Debug, Default)]
pub(super) struct Scout {
    rules: Rules,
    most: usize,
    candidates: HashMap<u32, Candidate>,
    /// Looked at for long enough, and no Python.
    settled: HashSet<ProcessKey>,
    procfs: ProcFs,
    next_scan_ns: u64,
    /// Applications that were left out because there were too many.
    pub(super) overflow: u64,
}

impl Scout {
    /// From now on by these rules; whom they name now and did not before is found by the next scan, which comes at
    /// once. Gives the applications that are watched and that they do not name.
    pub(super) fn set_rules(&mut self, rules: Rules, most: u32, engine: &mut Engine) -> Vec<ApplicationId> {
        self.rules = rules;
        self.most = most as usize;
        self.settled.clear();
        self.next_scan_ns = 0;
        engine.applications().into_iter().filter(|id| !self.still_named(*id, engine)).collect()
    }

    fn still_named(&self, id: ApplicationId, engine: &mut Engine) -> bool {
        let Some(instance) = engine.instance(id) else { return true };
        if !engine.is_alive(id) {
            return true;
        }
        let name = instance.application.name.clone();
        let Ok(found) = engine.discovery.application(instance.application.master.pid) else { return true };
        let traits = engine.discovery.traits(&found, &self.rules.variables());
        match self.rules.verdict(&found, &traits) {
            Verdict::Watch { name: given } => given.unwrap_or(found.name) == name,
            Verdict::Leave => false,
        }
    }

    pub(super) fn announced(&mut self, announcements: Vec<Announcement>) {
        let now = monotonic_ns();
        for Announcement { pid, listens } in announcements {
            let next_ns = if listens { now } else { now + FIRST_LOOK_NS };
            self.add(pid, Candidate { since_ns: now, next_ns });
        }
    }

    fn add(&mut self, pid: u32, candidate: Candidate) {
        if self.candidates.len() < MAX_CANDIDATES || self.candidates.contains_key(&pid) {
            self.candidates.insert(pid, candidate);
        }
    }

    /// Scans when it is due, looks at whom it is time for, and has the engine watch what is found.
    pub(super) fn look(&mut self, engine: &mut Engine, lines: &mut Lines) {
        let now = monotonic_ns();
        if now >= self.next_scan_ns {
            self.scan(now);
        }
        let due: Vec<(u32, Candidate)> = self
            .candidates
            .iter()
            .filter(|(_, candidate)| candidate.next_ns <= now)
            .map(|(pid, candidate)| (*pid, *candidate))
            .collect();
        for (pid, candidate) in due {
            let again = self.look_at(pid, candidate, engine, lines, now);
            match (again, self.candidates.get_mut(&pid)) {
                (true, Some(candidate)) => {
                    let age = now.saturating_sub(candidate.since_ns);
                    candidate.next_ns = now + age.max(FIRST_LOOK_NS);
                }
                _ => {
                    self.candidates.remove(&pid);
                }
            }
        }
    }

    fn scan(&mut self, now: u64) {
        let first = self.next_scan_ns == 0;
        self.next_scan_ns = now + SCAN_NS;
        let mut alive = HashSet::new();
        let pids = self.procfs.pids().unwrap_or_default();
        let stats: Vec<_> = pids.into_iter().filter_map(|pid| self.procfs.stat(pid).ok()).collect();
        for stat in stats {
            if stat.is_kernel_thread() || stat.is_zombie() {
                continue;
            }
            let key = ProcessKey { pid: stat.pid, start_time: stat.start_time };
            alive.insert(key);
            if !self.settled.contains(&key) && !self.candidates.contains_key(&stat.pid) {
                // What ran before has had its time to come up.
                let since_ns = if first { now.saturating_sub(INTERPRETER_NS) } else { now };
                self.add(stat.pid, Candidate { since_ns, next_ns: now });
            }
        }
        self.settled.retain(|key| alive.contains(key));
    }

    /// `true`: look again.
    fn look_at(
        &mut self,
        pid: u32,
        candidate: Candidate,
        engine: &mut Engine,
        lines: &mut Lines,
        now: u64,
    ) -> bool {
        if engine.registry.get(pid).is_some() {
            return false;
        }
        let Ok(stat) = self.procfs.stat(pid) else { return false };
        if stat.is_zombie() {
            return false;
        }
        let key = ProcessKey { pid, start_time: stat.start_time };
        let age = now.saturating_sub(candidate.since_ns);
        match engine.discovery.is_python_now(pid) {
            None => return false,
            Some(false) if age >= OTHER_NS => {
                self.settled.insert(key);
                return false;
            }
            Some(false) => return true,
            Some(true) => {}
        }
        let parent = engine.registry.get(stat.ppid);
        let is_promising =
            parent.is_some() || self.rules.may_watch_others() || engine.discovery.is_server(pid);
        if !is_promising {
            // It is Python and may begin to listen; the next scan finds it again.
            return age < PYTHON_NS;
        }
        let Ok(mut application) = engine.discovery.application(pid) else { return age < PYTHON_NS };
        let joined = application.members.iter().find_map(|member| engine.registry.get(member.key.pid));
        // An interpreter that is not up yet has no stacks to give, nor serves anybody.
        if age < INTERPRETER_NS && !is_up(engine, pid) {
            return true;
        }
        if let Some(watched) = joined {
            engine.join(watched.application, pid, lines);
            return false;
        }
        let traits = engine.discovery.traits(&application, &self.rules.variables());
        match self.rules.verdict(&application, &traits) {
            Verdict::Leave => {
                engine.interpreters.remove(&pid);
                age < PYTHON_NS
            }
            Verdict::Watch { name } => {
                if let Some(name) = name {
                    application.name = name;
                }
                self.adopt(&application, engine);
                false
            }
        }
    }

    fn adopt(&mut self, application: &Application, engine: &mut Engine) {
        let name = &application.name;
        if engine.applications().len() >= self.most {
            let ended = engine.applications().into_iter().find(|id| !engine.is_alive(*id));
            let Some(ended) = ended else {
                self.overflow += 1;
                if self.overflow == 1 {
                    tracing::error!(%name, "there are too many applications: raise `discovery.max_applications`");
                }
                return;
            };
            engine.forget_application(ended);
        }
        match engine.adopt(application) {
            Ok(id) => {
                let processes = engine.members(id).len();
                tracing::info!(%name, pid = application.master.pid, processes, id = id.0, "application watched");
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(%name, pid = application.master.pid, "application not watched: {error:#}");
            }
        }
    }
}

/// Whether the process's interpreter can be read; what was found is kept for when it is watched.
fn is_up(engine: &mut Engine, pid: u32) -> bool {
    match engine.inspector.inspect(pid) {
        Ok(interpreter) if interpreter.layout.route != route::NONE => {
            engine.interpreters.insert(pid, Arc::new(interpreter));
            true
        }
        Ok(_) | Err(_) => false,
    }
}
