//! From any one pid to the whole application, and from the host to all of its applications. Reads `/proc`
//! once into a table and decides on that; what it decides by is in [`Discovery::same_application`].

use super::application::{Application, Member, Server};
use super::environment::Environments;
use super::error::TargetError;
use super::interpreter::Interpreters;
use super::invocation::{Invocation, as_given, printable};
use super::listening::{Listening, Tables};
use super::process::ProcessKey;
use super::procfs::{ProcFs, Stat};
use super::residence::Residence;
use super::rules::Traits;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

/// Parents climbed from one process at most; also stops at a table that is no tree.
const MAX_DEPTH: usize = 64;
/// Launchers, one started by the other, that are looked below for a Python process.
const MAX_LAUNCHERS: usize = 4;

/// Finds applications. Keep it: it remembers which files hold an interpreter.
#[derive(Debug, Default)]
pub struct Discovery {
    procfs: ProcFs,
    interpreters: Interpreters,
    environments: Environments,
    listening: Tables,
}

/// What was found on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By master's pid.
    pub applications: Vec<Application>,
    /// Processes that could not be looked into for want of privilege: some may be Python.
    pub unreadable: usize,
}

/// All processes at about one moment.
#[derive(Debug, Default)]
struct Table {
    stats: HashMap<u32, Stat>,
    children: HashMap<u32, Vec<u32>>,
    cmdlines: HashMap<u32, Vec<String>>,
    python: HashMap<u32, bool>,
}

impl Discovery {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The application that this process is part of: its master, a worker, or a thread of either.
    ///
    /// # Errors
    /// One for each reason why it is none: see [`TargetError`].
    pub fn application(&mut self, pid: u32) -> Result<Application, TargetError> {
        let pid = match self.procfs.process_of_thread(pid) {
            Ok(process) => process,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(TargetError::NoSuchProcess { pid });
            }
            Err(source) => return Err(TargetError::reading(pid, source)),
        };
        let stat = self.procfs.stat(pid).map_err(|source| TargetError::reading(pid, source))?;
        if stat.is_kernel_thread() {
            return Err(TargetError::KernelThread { pid, name: printable(&stat.comm) });
        }
        if stat.is_zombie() {
            return Err(TargetError::Ended { pid });
        }
        if !self.interpreters.is_python(pid).map_err(|source| TargetError::reading(pid, source))? {
            let exe = self.procfs.exe(pid).map_err(|source| TargetError::reading(pid, source))?;
            let mut table = self.table()?;
            return Err(TargetError::NotPython { pid, exe, below: self.python_below(&mut table, pid) });
        }
        let mut table = self.table()?;
        if !table.stats.contains_key(&pid) {
            return Err(TargetError::Ended { pid });
        }
        let master = self.climb(&mut table, pid);
        self.assemble(&mut table, master).ok_or(TargetError::Ended { pid })
    }

    /// Every Python application of the host. What ends meanwhile is left out.
    ///
    /// # Errors
    /// [`TargetError::List`] when processes cannot be listed.
    pub fn all(&mut self) -> Result<Survey, TargetError> {
        let mut table = self.table()?;
        let mut pids: Vec<u32> = table.stats.keys().copied().collect();
        pids.sort_unstable();
        let mut survey = Survey::default();
        let mut masters = BTreeSet::new();
        for pid in pids {
            if !table.stats.get(&pid).is_some_and(|stat| !stat.is_kernel_thread() && !stat.is_zombie()) {
                continue;
            }
            match self.interpreters.is_python(pid) {
                Ok(answer) => {
                    table.python.insert(pid, answer);
                    if answer {
                        masters.insert(self.climb(&mut table, pid));
                    }
                }
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => survey.unreadable += 1,
                // Ended since it was listed.
                Err(_) => {}
            }
        }
        survey.applications =
            masters.into_iter().filter_map(|master| self.assemble(&mut table, master)).collect();
        Ok(survey)
    }

    /// Whether a process that has just changed its program by exec is still part of its parent's
    /// application.
    ///
    /// # Errors
    /// [`TargetError::Ended`] when either has gone, [`TargetError::Denied`].
    pub fn belongs(&mut self, parent: u32, child: u32) -> Result<bool, TargetError> {
        let mut table = Table::default();
        for pid in [parent, child] {
            let stat = self.procfs.stat(pid).map_err(|source| TargetError::reading(pid, source))?;
            table.stats.insert(pid, stat);
        }
        Ok(self.is_python(&mut table, child) && self.same_application(&mut table, parent, child))
    }

    /// Whether a process holds an interpreter now; `None` when it has gone, or may not be looked into.
    pub fn is_python_now(&mut self, pid: u32) -> Option<bool> {
        self.interpreters.is_python(pid).ok()
    }

    /// Whether a process is a server by itself: it listens, or its command line is that of a known one.
    pub fn is_server(&mut self, pid: u32) -> bool {
        let cmdline = as_given(self.procfs.cmdline(pid).unwrap_or_default());
        Invocation::parse(&cmdline).is_some_and(|invocation| invocation.server().is_some())
            || Listening::of(&self.procfs, pid, &mut self.listening).is_any()
    }

    /// What rules go by. What cannot be read is absent.
    pub fn traits(&mut self, application: &Application, variables: &[&str]) -> Traits {
        let mut traits = Traits::default();
        for member in &application.members {
            let pid = member.key.pid;
            let executable = self.procfs.exe(pid).map(|path| path.to_string_lossy().into_owned());
            traits.processes.push((executable.unwrap_or_default(), member.cmdline.join(" ")));
            let listening = Listening::of(&self.procfs, pid, &mut self.listening);
            traits.listening.ports.extend(listening.ports);
            traits.listening.unix |= listening.unix;
        }
        let master = application.master.pid;
        traits.residence = Residence::of(&self.procfs, master);
        for name in variables {
            if let Some((_, value)) = self.environments.first(&self.procfs, master, &[name]) {
                traits.environment.push(((*name).to_owned(), value));
            }
        }
        traits
    }

    fn table(&self) -> Result<Table, TargetError> {
        let pids = self
            .procfs
            .pids()
            .map_err(|source| TargetError::List { root: self.procfs.root().to_owned(), source })?;
        let mut table = Table::default();
        // One that ends between the listing and this has no stat.
        for stat in pids.into_iter().filter_map(|pid| self.procfs.stat(pid).ok()) {
            table.children.entry(stat.ppid).or_default().push(stat.pid);
            table.stats.insert(stat.pid, stat);
        }
        Ok(table)
    }

    fn is_python(&mut self, table: &mut Table, pid: u32) -> bool {
        if let Some(known) = table.python.get(&pid) {
            return *known;
        }
        let answer = self.interpreters.is_python(pid).unwrap_or(false);
        table.python.insert(pid, answer);
        answer
    }

    fn cmdline<'table>(&self, table: &'table mut Table, pid: u32) -> &'table [String] {
        table.cmdlines.entry(pid).or_insert_with(|| as_given(self.procfs.cmdline(pid).unwrap_or_default()))
    }

    fn climb(&mut self, table: &mut Table, pid: u32) -> u32 {
        let mut at = pid;
        for _ in 0..MAX_DEPTH {
            let Some(parent) = table.stats.get(&at).map(|stat| stat.ppid) else { break };
            if !self.same_application(table, parent, at) {
                break;
            }
            at = parent;
        }
        at
    }

    /// Whether a parent and its child are one application:
    ///
    /// 1. the child was forked and never replaced by exec: its memory layout is its parent's (gunicorn,
    ///    uwsgi, Celery's prefork pool, `multiprocessing` by fork, daemons that fork themselves away);
    /// 2. the child is one that `multiprocessing` spawned for its parent (uvicorn's workers);
    /// 3. both carry titles of the same server (a gunicorn master and the one it re-executed on `USR2`);
    /// 4. both have the very same command line naming a script or module: an auto-reloader (Django, Flask)
    ///    and the process it serves with.
    ///
    /// Anything else that a Python process starts by exec is another program: a supervisor is not the
    /// application that it supervises.
    fn same_application(&mut self, table: &mut Table, parent: u32, child: u32) -> bool {
        let (Some(above), Some(below)) = (table.stats.get(&parent), table.stats.get(&child)) else {
            return false;
        };
        if above.is_kernel_thread() || above.is_zombie() || below.is_zombie() {
            return false;
        }
        let forked = above.layout.is_some() && above.layout == below.layout;
        if !self.is_python(table, parent) {
            return false;
        }
        if forked {
            return true;
        }
        let above = self.cmdline(table, parent).to_owned();
        let below = self.cmdline(table, child);
        let Some(started) = Invocation::parse(below) else { return false };
        if started.is_spawned_helper() {
            return true;
        }
        let Some(starter) = Invocation::parse(&above) else { return false };
        let same_title =
            started.titled_server().is_some() && started.titled_server() == starter.titled_server();
        let reloaded = started.names_program() && started == starter;
        same_title || reloaded
    }

    /// The nearest Python process among the descendants: `pid` may be a shell or a launcher.
    fn python_below(&mut self, table: &mut Table, pid: u32) -> Option<u32> {
        let mut seen = HashSet::from([pid]);
        let mut level = vec![pid];
        for _ in 0..MAX_LAUNCHERS {
            level = level
                .iter()
                .flat_map(|pid| table.children.get(pid).cloned().unwrap_or_default())
                .filter(|child| seen.insert(*child))
                .collect();
            if let Some(found) = level.iter().find(|pid| self.is_python(table, **pid)) {
                return Some(*found);
            }
        }
        None
    }

    fn assemble(&mut self, table: &mut Table, master: u32) -> Option<Application> {
        let mut members = Vec::new();
        let mut seen = HashSet::from([master]);
        let mut queue = vec![master];
        while let Some(pid) = queue.pop() {
            members.push(pid);
            for child in table.children.get(&pid).cloned().unwrap_or_default() {
                if !seen.contains(&child)
                    && self.same_application(table, pid, child)
                    && self.is_python(table, child)
                {
                    seen.insert(child);
                    queue.push(child);
                }
            }
        }
        members.sort_unstable_by_key(|pid| (*pid != master, *pid));
        let key = ProcessKey { pid: master, start_time: table.stats.get(&master)?.start_time };
        let (name, server) = self.name(table, master)?;
        let members = members
            .into_iter()
            .filter_map(|pid| {
                Some(Member {
                    key: ProcessKey { pid, start_time: table.stats.get(&pid)?.start_time },
                    is_master: pid == master,
                    cmdline: self.cmdline(table, pid).to_owned(),
                })
            })
            .collect();
        Some(Application { name, server, master: key, members })
    }

    /// The owner's own name for it, else one made of the master's command line, else its executable's.
    /// `None` when the master has gone.
    fn name(&mut self, table: &mut Table, master: u32) -> Option<(String, Option<Server>)> {
        let cwd = self.procfs.cwd(master).ok();
        let exe = self.procfs.exe(master).ok()?;
        let invocation = Invocation::parse(self.cmdline(table, master));
        let server = invocation.and_then(|invocation| invocation.server());
        let told = invocation.and_then(|invocation| invocation.application_name(cwd.as_deref()));
        let given = self.service_name(master);
        let name = given.or(told).unwrap_or_else(|| {
            printable(&exe.file_name().map_or_else(|| "python".into(), |name| name.to_string_lossy()))
        });
        Some((name, server))
    }

    /// `OTEL_SERVICE_NAME`, else `service.name` of `OTEL_RESOURCE_ATTRIBUTES` (OpenTelemetry specification,
    /// resource SDK: the former wins).
    fn service_name(&mut self, pid: u32) -> Option<String> {
        let names = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];
        let given = match self.environments.first(&self.procfs, pid, &names)? {
            (0, name) => name,
            (_, attributes) => attributes.split(',').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key.trim() == "service.name").then(|| value.trim().to_owned())
            })?,
        };
        Some(printable(&given)).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests;
