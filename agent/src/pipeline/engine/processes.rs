//! Processes that fork, exec and exit, as each room has to know it.

use super::pending::{MAX_PENDING, Pending};
use super::{Rooms, joined};
use crate::intake::Event;
use crate::targets::ApplicationId;
use pyapm_model::line::Worker;

impl Rooms<'_> {
    pub(super) fn fork(&mut self, application: ApplicationId, event: &Event<'_>, child: u32) {
        let notices = self.registry.fork(event.pid, child, event.time_ns);
        self.symbols.fork(event.pid, child, event.time_ns);
        if let Some(interpreter) = self.interpreters.get(&event.pid).cloned() {
            self.interpreters.insert(child, interpreter);
            self.forked_collector(application, child);
        }
        self.notices(application, notices);
    }

    pub(super) fn exec(&mut self, application: ApplicationId, event: &Event<'_>) {
        let notice = self.registry.exec(event.pid, event.time_ns);
        self.forget(event.pid);
        if let Some(instance) = self.instances.get_mut(&application) {
            instance.store.collections.exited(event.pid);
        }
        self.notices(application, notice);
        if self.pending.len() < MAX_PENDING
            && let Some(parent) = parent_of(event.pid)
        {
            let since_ns = event.time_ns;
            self.pending.push(Pending { pid: event.pid, parent, application, since_ns });
        }
    }

    pub(super) fn exit(&mut self, application: ApplicationId, event: &Event<'_>) {
        let notice = self.registry.exit(event.pid, event.time_ns);
        if let Some(instance) = self.instances.get_mut(&application) {
            instance.store.worker_exited(event.pid);
        }
        self.forget(event.pid);
        self.notices(application, notice);
    }

    pub(super) fn forget(&mut self, pid: u32) {
        self.symbols.forget(pid);
        self.interpreters.remove(&pid);
        self.loops.forget(pid);
        self.task_workers.forget(self.tables, pid);
    }

    /// Workers that came or went, in order with the transactions that ended before.
    pub(super) fn notices(&mut self, application: ApplicationId, notices: impl IntoIterator<Item = Worker>) {
        joined::give_out(self.instances, self.joining, self.upto_ns, self.lines);
        if let Some(instance) = self.instances.get_mut(&application) {
            instance.notices(notices, self.lines);
        }
    }
}

pub(super) fn parent_of(pid: u32) -> Option<u32> {
    crate::targets::ProcFs::new().stat(pid).ok().map(|stat| stat.ppid)
}
