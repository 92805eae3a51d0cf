//! An application comes under watch, while the engine may serve others already. What can fail, fails here.

use super::{Engine, Instance};
use crate::pipeline::clock;
use crate::pipeline::start::{StartError, layout_of};
use crate::targets::{Application, ApplicationId};
use pyapm_wire::target::Target;

impl Engine {
    /// Has children of targets followed by the kernel itself from now on. Before any application is adopted.
    pub(in crate::pipeline) fn follow(&mut self) -> Result<(), StartError> {
        if let Some(probes) = &mut self.probes {
            probes.attach_lifecycle()?;
        }
        Ok(())
    }

    /// Begins to watch an application. Its members may have become others since it was found: it is looked up
    /// again once its first processes are watched.
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
        let application = watched?;
        let id = ApplicationId(self.next);
        self.next = self.next.wrapping_add(1);
        for member in &application.members {
            let _already_reported = self.registry.add(id, member.key.pid, member.is_master, 0);
        }
        let seed = self.seed.wrapping_add(u64::from(id.0) << 32);
        let instance = Instance::new(id, application, self.clock, seed, clock::monotonic_ns());
        self.instances.insert(id, instance);
        Ok(id)
    }

    fn watch_all(&mut self, application: &Application) -> Result<Application, StartError> {
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

    fn watch(&mut self, application: &Application) -> Result<(), StartError> {
        for member in &application.members {
            let pid = member.key.pid;
            let layout = layout_of(pid, &mut self.inspector, &mut self.interpreters);
            let target = Target { layout, generation: clock::monotonic_ns(), ..Target::default() };
            self.tables.watch(pid, target, true)?;
        }
        Ok(())
    }

    fn follow_libraries_of(&mut self, application: &Application) {
        let Some(probes) = &mut self.probes else { return };
        for member in &application.members {
            self.drivers.follow(probes, member.key.pid);
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
            probes.attach_io()?;
            self.attached = true;
        }
        Ok(())
    }
}
