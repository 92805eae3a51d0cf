//! What is told of each application: kept as long as the engine has it, and one `Arc` for all who are told, until
//! something of it changes.

use crate::pipeline::engine::{Engine, Instance};
use crate::targets::{ApplicationId, ProcFs, Residence};
use pyapm_model::service::{ApplicationInfo, ApplicationState};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Catalog {
    entries: HashMap<ApplicationId, Entry>,
    procfs: ProcFs,
}

#[derive(Debug)]
struct Entry {
    info: Arc<ApplicationInfo>,
    /// When nothing of it was left, monotonic.
    ended_ns: Option<u64>,
}

impl Catalog {
    /// As of the last refresh; made when it is new.
    pub(super) fn info(&mut self, engine: &Engine, id: ApplicationId) -> Option<Arc<ApplicationInfo>> {
        if let Some(entry) = self.entries.get(&id) {
            return Some(Arc::clone(&entry.info));
        }
        let instance = engine.instance(id)?;
        let info = Arc::new(self.describe(engine, instance));
        self.entries.insert(id, Entry { info: Arc::clone(&info), ended_ns: None });
        Some(info)
    }

    /// Once a second: brings everything up to date, and gives the applications that have been over for so long.
    pub(super) fn refresh(&mut self, engine: &Engine, now_ns: u64, keep_ns: u64) -> Vec<ApplicationId> {
        let mut over = Vec::new();
        for id in engine.applications() {
            let (Some(before), Some(instance)) = (self.info(engine, id), engine.instance(id)) else {
                continue;
            };
            let alive = engine.is_alive(id);
            let processes = engine.members(id).len() as u64;
            let state = if alive { ApplicationState::Running } else { ApplicationState::Ended };
            let is_same = before.pid == instance.application.master.pid
                && before.name == instance.application.name
                && (before.processes, before.state) == (processes, state)
                && (before.python.is_some() || !alive);
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.ended_ns = if alive { None } else { Some(entry.ended_ns.unwrap_or(now_ns)) };
            if entry.ended_ns.is_some_and(|ended| now_ns.saturating_sub(ended) >= keep_ns) {
                over.push(id);
            }
            if !is_same {
                let mut info = self.describe(engine, instance);
                if !alive {
                    // What could be told of it while it lived.
                    info.python.clone_from(&before.python);
                    info.unit.clone_from(&before.unit);
                    info.container.clone_from(&before.container);
                    info.pod.clone_from(&before.pod);
                }
                info.since_ns = before.since_ns;
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.info = Arc::new(info);
                }
            }
        }
        self.entries.retain(|id, _| engine.instance(*id).is_some());
        over
    }

    fn describe(&self, engine: &Engine, instance: &Instance) -> ApplicationInfo {
        let (id, application) = (instance.id, &instance.application);
        let residence = Residence::of(&self.procfs, application.master.pid);
        let now = crate::pipeline::clock::monotonic_ns();
        ApplicationInfo {
            id: id.0,
            name: application.name.clone(),
            server: application.server.map(|server| server.to_string()),
            python: engine.python_version(id),
            pid: application.master.pid,
            processes: engine.members(id).len() as u64,
            since_ns: engine.clock.wall_ns(now),
            state: if engine.is_alive(id) { ApplicationState::Running } else { ApplicationState::Ended },
            unit: residence.unit,
            container: residence.container,
            pod: residence.pod,
        }
    }
}
