//! What the collectors of an application's interpreters have done: read when somebody wants to know, and at each fork, so
//! that what a child has from its parent is not counted as its own.

use super::{Engine, Rooms};
use crate::pipeline::clock;
use crate::python::{Interpreter, ProcessMemory, collections};
use crate::store::Collections;
use crate::targets::ApplicationId;

impl Engine {
    pub(in crate::pipeline) fn read_collections(&mut self, application: ApplicationId) {
        let pids = self.members(application);
        let now = clock::monotonic_ns();
        let Some(instance) = self.instances.get_mut(&application) else { return };
        for pid in pids {
            if let Some(interpreter) = self.interpreters.get(&pid) {
                read(&mut instance.store.collections, pid, now, interpreter);
            }
        }
    }
}

impl Rooms<'_> {
    /// A child has an interpreter that has come as far as its parent's.
    pub(super) fn forked_collector(&mut self, application: ApplicationId, child: u32) {
        if let Some(interpreter) = self.interpreters.get(&child)
            && let Some(instance) = self.instances.get_mut(&application)
        {
            read(&mut instance.store.collections, child, clock::monotonic_ns(), interpreter);
        }
    }
}

/// What cannot be read, because it changes or ends, is read the next time, or not at all.
fn read(into: &mut Collections, pid: u32, now_ns: u64, interpreter: &Interpreter) {
    if let Ok(read) = collections(&ProcessMemory::new(pid), interpreter) {
        into.read(pid, now_ns, &read);
    }
}
