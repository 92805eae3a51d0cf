//! Workers of Celery that run tasks in threads of their own: found by what they have imported, told to the kernel half, and
//! given breakpoints where their tasks begin and end. Everybody else is left as it is.

use crate::frameworks::{imported_modules, task_code};
use crate::probes::{Probes, Tables, TaskProbe};
use crate::python::{Interpreter, ProcessMemory};
use crate::targets::{ProcFs, pool_pipes};
use pyapm_wire::target::pipes;
use std::collections::{HashMap, HashSet};

#[derive(Debug, Default)]
pub(super) struct TaskWorkers {
    known: HashMap<u32, Known>,
}

#[derive(Debug)]
enum Known {
    /// No worker, or none that can be followed.
    Other,
    /// A worker that had so many modules when it was looked at last, and has no such pool so far.
    Worker {
        modules: u64,
    },
    Followed(TaskProbe),
    /// It has ended, or runs another program, since.
    Left(TaskProbe),
}

impl TaskWorkers {
    /// Looks at one process. What cannot be followed is said once, and left.
    pub(super) fn follow(
        &mut self,
        probes: &mut Probes,
        tables: &mut Tables,
        pid: u32,
        interpreter: &Interpreter,
    ) {
        let known = self.known.remove(&pid);
        let known = self.look(probes, tables, pid, interpreter, known);
        self.known.insert(pid, known);
    }

    fn look(
        &self,
        probes: &mut Probes,
        tables: &mut Tables,
        pid: u32,
        interpreter: &Interpreter,
        known: Option<Known>,
    ) -> Known {
        let procfs = ProcFs::new();
        let before = match known {
            Some(Known::Worker { modules }) => Some(modules),
            Some(Known::Left(probe)) => {
                probes.detach_tasks(probe);
                return Known::Worker { modules: 0 };
            }
            Some(known) => return known,
            None => None,
        };
        // Children of a pool of processes have pipes for this.
        if before.is_none_or(|modules| modules == 0) && pool_pipes(&procfs, pid) != pipes::CHILDREN {
            return Known::Other;
        }
        let memory = ProcessMemory::new(pid);
        let modules = imported_modules(&memory, interpreter).unwrap_or(0);
        if before == Some(modules) {
            return Known::Worker { modules };
        }
        let code = match task_code(&memory, interpreter, pid) {
            Ok(Some(code)) => code,
            Ok(None) => return Known::Worker { modules },
            Err(error) => {
                tracing::warn!(pid, "the tasks that this worker runs in its threads are not told: {error}");
                return Known::Other;
            }
        };
        let attached = tables
            .set_tasks(pid, code.sites)
            .and_then(|()| probes.attach_tasks(&code.addresses, || procfs.tasks(pid).unwrap_or_default()));
        match attached {
            Ok(probe) => {
                tracing::info!(pid, breakpoints = code.addresses.len(), "tasks in threads are followed");
                Known::Followed(probe)
            }
            Err(error) => {
                tables.forget_tasks(pid);
                let error = anyhow::Error::from(error);
                tracing::warn!(pid, "the tasks that this worker runs in its threads are not told: {error:#}");
                Known::Other
            }
        }
    }

    /// Processes that are watched no longer.
    pub(super) fn keep_only(&mut self, probes: &mut Probes, tables: &mut Tables, members: &[u32]) {
        let members: HashSet<&u32> = members.iter().collect();
        let gone: Vec<u32> = self.known.keys().filter(|pid| !members.contains(pid)).copied().collect();
        for pid in gone {
            match self.known.remove(&pid) {
                Some(Known::Followed(probe) | Known::Left(probe)) => {
                    tables.forget_tasks(pid);
                    probes.detach_tasks(probe);
                }
                Some(Known::Other | Known::Worker { .. }) | None => {}
            }
        }
    }

    /// The process has ended, or runs another program: nothing is where it was. Its breakpoints go at the next look.
    pub(super) fn forget(&mut self, tables: &mut Tables, pid: u32) {
        if let Some(Known::Followed(probe) | Known::Left(probe)) = self.known.remove(&pid) {
            tables.forget_tasks(pid);
            self.known.insert(pid, Known::Left(probe));
        }
    }
}
