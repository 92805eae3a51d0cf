//! Children of an application that became another program by exec, and may be workers still: spawned, not forked.
//! Looked at each second until their interpreter has come up, or it is plain that they are something else.

use super::{Engine, Lines, Said};
use crate::pipeline::clock;
use crate::targets::ApplicationId;
use pyapm_model::line::Line;

/// Programs started by exec that are still looked at.
pub(super) const MAX_PENDING: usize = 256;
/// How long an interpreter that was started by exec has to come up.
const PENDING_NS: u64 = 10_000_000_000;

/// One of them.
pub(super) struct Pending {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) application: ApplicationId,
    pub(super) since_ns: u64,
}

impl Engine {
    pub(super) fn look_at_pending(&mut self, lines: &mut Lines) {
        let now = clock::monotonic_ns();
        for pending in std::mem::take(&mut self.pending) {
            let waited = now.saturating_sub(pending.since_ns);
            match self.discovery.belongs(pending.parent, pending.pid) {
                Ok(true) => {
                    let target = self.target_of(pending.pid);
                    if target.layout.route == pyapm_wire::python::route::NONE && waited < PENDING_NS {
                        // The interpreter has not come up yet.
                        self.interpreters.remove(&pending.pid);
                        self.pending.push(pending);
                        continue;
                    }
                    if let Err(error) = self.tables.watch(pending.pid, target, true) {
                        tracing::error!(pid = pending.pid, "a spawned worker is not followed: {error}");
                        continue;
                    }
                    let application = pending.application;
                    if let Some(instance) = self.instances.get_mut(&application) {
                        instance.store.collections.begins(pending.pid);
                    }
                    let notice = self.registry.add(application, pending.pid, false, now);
                    lines.extend(notice.map(|worker| Said { application, line: Line::Worker(worker) }));
                }
                // Not Python yet, or not at all: keep looking for a while.
                Ok(false) if waited < PENDING_NS && self.pending.len() < MAX_PENDING => {
                    self.pending.push(pending);
                }
                Ok(false) | Err(_) => {}
            }
        }
    }
}
