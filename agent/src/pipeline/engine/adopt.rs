//! An application comes under watch, while the engine may serve others already. What can fail, fails here.

use super::{Engine, Instance, Lines, Said};
use crate::pipeline::clock;
use crate::pipeline::start::{StartError, target_of};
use crate::targets::{Application, ApplicationId};
use pyapm_model::line::Line;
use pyapm_wire::target::Target;

/// How long a process counts as young, from its fork or the attach.
const YOUNG_NS: u64 = 60_000_000_000;
/// Processes beyond their youth that are looked at each time because they have mapped something.
const MOST_LOOKS: usize = 16;

impl Engine {
    /// Has children of targets followed by the kernel itself from now on. Before any application is adopted.
    pub(in crate::pipeline) fn follow(&mut self) -> Result<(), StartError> {
        if let Some(probes) = &mut self.probes {
            probes.attach_lifecycle()?;
        }
        Ok(())
    }

    /// Has starts and listeners of the whole host announced from now on. The first application that is found must not
    /// answer for a second while the kernel verifies what it will need.
    pub(in crate::pipeline) fn announce(&mut self) -> Result<(), StartError> {
        if let Some(probes) = &mut self.probes {
            probes.verify_what_is_always_needed();
            probes.attach_announcements()?;
        }
        Ok(())
    }

    /// Begins to watch an application. Its members may have become others since it was found: it is looked up
    /// again once its first processes are watched. One that has ended under the same name goes on as this one.
    ///
    /// # Errors
    /// When its master has gone, or the kernel refuses; nothing of it is watched then.
    pub(in crate::pipeline) fn adopt(
        &mut self,
        application: &Application,
    ) -> Result<ApplicationId, StartError> {
        let watched = self.watch_all(application);
        if watched.is_err() {
            for member in &application.members {
                self.tables.unwatch(member.key.pid);
                self.interpreters.remove(&member.key.pid);
            }
        }
        let application = Application { name: application.name.clone(), ..watched? };
        let ended = self.ended_as(&application.name);
        let id = ended.unwrap_or(ApplicationId(self.next));
        for member in &application.members {
            let _already_reported = self.registry.add(id, member.key.pid, member.is_master, 0);
        }
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.application = application;
            return Ok(id);
        }
        self.next = self.next.wrapping_add(1);
        let seed = self.seed.wrapping_add(u64::from(id.0) << 32);
        let instance =
            Instance::new(id, application, self.clock, seed, clock::monotonic_ns(), self.sql, self.waits);
        self.instances.insert(id, instance);
        Ok(id)
    }

    fn ended_as(&self, name: &str) -> Option<ApplicationId> {
        let mut named = self.instances.values().filter(|instance| instance.application.name == name);
        named.find(|instance| !self.is_alive(instance.id)).map(|instance| instance.id)
    }

    /// Begins to watch one more process of an application: one that was spawned, not forked.
    pub(in crate::pipeline) fn join(&mut self, application: ApplicationId, pid: u32, lines: &mut Lines) {
        let now = clock::monotonic_ns();
        if let Some(probes) = &mut self.probes {
            self.drivers.follow(probes, &mut self.tables, pid);
        }
        let target = self.target_of(pid);
        self.follow_exceptions(pid);
        if let Err(error) = self.tables.watch(pid, target, true) {
            tracing::error!(pid, "a spawned worker is not followed: {error}");
            return;
        }
        let notice = self.registry.add(application, pid, false, now);
        lines.extend(notice.map(|worker| Said { application, line: Line::Worker(worker) }));
    }

    /// Watches an application no longer, though it lives. Its transactions in flight are not reported.
    pub(in crate::pipeline) fn release(&mut self, application: ApplicationId) {
        let now = clock::monotonic_ns();
        for pid in self.registry.members(application) {
            self.tables.unwatch(pid);
            let _nobody_is_told = self.registry.exit(pid, now);
            self.symbols.forget(pid);
            self.interpreters.remove(&pid);
        }
        self.pending.retain(|pending| pending.application != application);
        self.forget_application(application);
    }

    /// Lets go of an application that has ended. Its counts stay in the sums.
    pub(in crate::pipeline) fn forget_application(&mut self, application: ApplicationId) {
        if let Some(instance) = self.instances.remove(&application) {
            self.retired.add(&instance);
        }
    }

    fn watch_all(&mut self, application: &Application) -> Result<Application, StartError> {
        if let Some(probes) = self.probes.as_mut().filter(|_| !self.attached) {
            probes.verify_what_is_always_needed();
        }
        // A statement that is seen at all is then seen from the first request on.
        self.follow_libraries_of(application);
        // Once a process is watched, its children are added by the kernel itself. Those that were forked
        // between the first look and now are found by the second.
        self.watch(application)?;
        let application = self.discovery.application(application.master.pid)?;
        self.watch(&application)?;
        self.follow_libraries_of(&application);
        self.attach_the_rest()?;
        Ok(application)
    }

    /// What the kernel half is told of a process, from now on.
    pub(super) fn target_of(&mut self, pid: u32) -> Target {
        let mut target = target_of(pid, &mut self.inspector, &mut self.interpreters);
        if let (Some(probes), Some(interpreter)) = (&mut self.probes, self.interpreters.get(&pid)) {
            target.layout.deaths_told = u32::from(self.code_deaths.follow(probes, interpreter));
        }
        target
    }

    fn watch(&mut self, application: &Application) -> Result<(), StartError> {
        for member in &application.members {
            let pid = member.key.pid;
            let target = self.target_of(pid);
            self.tables.watch(pid, target, true)?;
        }
        Ok(())
    }

    fn follow_libraries_of(&mut self, application: &Application) {
        let Some(probes) = &mut self.probes else { return };
        for member in &application.members {
            let pid = member.key.pid;
            self.drivers.follow(probes, &mut self.tables, pid);
            if let Some(interpreter) = self.interpreters.get(&pid) {
                self.exceptions.follow(probes, interpreter);
                self.loops.follow(probes, &mut self.tables, pid, interpreter);
                self.task_workers.follow(probes, &mut self.tables, pid, interpreter);
            }
        }
    }

    /// Libraries that were imported since. Reading a process's mappings costs the kernel some hundred microseconds, so
    /// they are read again, some times a second, only of those that have mapped something (up to a bound of those
    /// beyond their youth, for that is when processes import) and, once a second (`in_turn`), of one in turn. The
    /// interpreter's own list of modules is cheap.
    pub(super) fn follow_libraries(&mut self, in_turn: bool) {
        let now = clock::monotonic_ns();
        self.libraries_ns = now;
        let Some(probes) = &mut self.probes else { return };
        let members: Vec<u32> =
            self.instances.keys().flat_map(|application| self.registry.members(*application)).collect();
        self.drivers.keep_only(&members);
        self.task_workers.keep_only(probes, &mut self.tables, &members);
        self.turns = self.turns.wrapping_add(usize::from(in_turn));
        let mut looks = MOST_LOOKS;
        let next = members.get(self.turns % members.len().max(1)).copied().filter(|_| in_turn);
        for pid in members {
            let since_ns = self.registry.get(pid).map_or(0, |watched| watched.since_ns.max(self.started_ns));
            let (is_young, is_next) = (now.saturating_sub(since_ns) < YOUNG_NS, next == Some(pid));
            let is_changed = !is_next && (is_young || looks > 0) && self.drivers.has_changed(pid);
            looks -= usize::from(is_changed && !is_young);
            if is_next || is_changed {
                self.drivers.follow(probes, &mut self.tables, pid);
            }
            if (in_turn && is_young || is_next || is_changed)
                && let Some(interpreter) = self.interpreters.get(&pid)
            {
                self.exceptions.follow(probes, interpreter);
                self.loops.follow(probes, &mut self.tables, pid, interpreter);
                self.task_workers.follow(probes, &mut self.tables, pid, interpreter);
            }
        }
    }

    /// Families that no target needed before there was one. Sockets last: a transaction that is seen at all is
    /// then seen with its spans and samples.
    fn attach_the_rest(&mut self) -> Result<(), StartError> {
        if self.attached {
            return Ok(());
        }
        if let Some(probes) = &mut self.probes {
            probes.attach_sampling(self.rate_hz)?;
            probes.attach_off_cpu()?;
            probes.attach_connects()?;
            probes.attach_io()?;
            self.attached = true;
        }
        Ok(())
    }
}
