//! Exceptions on their way through the rooms, and what belongs to them once a second: those that are done, what their probe
//! costs, and the application's routes.

use super::{Engine, Rooms};
use crate::intake::{Event, Exception, ExceptionId};
use crate::pipeline::clock;
use crate::python::{Objects, ProcessMemory, message};
use crate::targets::ApplicationId;
use crate::transactions::Raised;
use pyapm_wire::count;
use pyapm_wire::python::Frame as RawFrame;
use std::sync::Arc;

impl Rooms<'_> {
    /// Names an exception, and hands it on.
    pub(super) fn exception(&mut self, application: ApplicationId, event: &Event<'_>, exception: &Exception) {
        let Some(interpreter) = self.interpreters.get(&event.pid).cloned() else { return };
        let memory = ProcessMemory::new(event.pid);
        let frames = self.symbols.resolve(event.pid, &interpreter, &memory, &exception.frames);
        let class =
            self.symbols.class(event.pid, &interpreter, &memory, exception.class, &exception.class_name);
        let objects = Objects::new(&memory, &interpreter.offsets, interpreter.version.minor);
        let class_of = |address| objects.and_then(|objects| objects.class_name(address).ok());
        let message = objects.and_then(|objects| message(exception, &class, objects.layout, &class_of));
        let raised = Raised {
            time_ns: event.time_ns,
            pid: event.pid,
            tid: event.tid,
            scope: event.scope,
            exception,
            class: &class.name,
            module: class.module.as_deref(),
            message: message.as_deref(),
            frames: &frames,
        };
        if let Some(instance) = self.instances.get_mut(&application) {
            instance.transactions.raised(&raised, &mut instance.output);
        }
    }

    pub(super) fn exception_passed(
        &mut self,
        application: ApplicationId,
        event: &Event<'_>,
        id: ExceptionId,
        frame: &RawFrame,
    ) {
        let Some(interpreter) = self.interpreters.get(&event.pid).cloned() else { return };
        let memory = ProcessMemory::new(event.pid);
        let frames = self.symbols.resolve(event.pid, &interpreter, &memory, std::slice::from_ref(frame));
        let frame = frames.first().cloned();
        if let Some(instance) = self.instances.get_mut(&application) {
            instance.transactions.passed(event.time_ns, event.pid, event.tid, id, frame);
        }
    }
}

impl Engine {
    /// Probes the interpreter of a process, if it has not been.
    pub(super) fn follow_exceptions(&mut self, pid: u32) {
        if let (Some(probes), Some(interpreter)) = (&mut self.probes, self.interpreters.get(&pid)) {
            self.exceptions.follow(probes, interpreter);
        }
    }

    /// Takes the probes away from a flood, and puts them back.
    pub(super) fn watch_exceptions(&mut self) {
        let now = clock::monotonic_ns();
        if let Some(probes) = &mut self.probes
            && self.exceptions.is_due(now)
        {
            let hits = self.tables.count(count::EXCEPTION_HITS);
            self.exceptions.watch(probes, &mut self.tables, hits, now);
        }
    }

    /// Exceptions that have reached no frame for a while are done.
    pub(super) fn settle_exceptions(&mut self) {
        let now = clock::monotonic_ns();
        for instance in self.instances.values_mut() {
            instance.transactions.settle_errors(now, &mut instance.output);
            instance.record_errors();
        }
    }

    /// Other agents that run inside the applications, where it is time to look. One that is found is told once.
    pub(in crate::pipeline) fn look_for_agents(&mut self) {
        let now = clock::monotonic_ns();
        for (application, instance) in &mut self.instances {
            if !instance.agents.is_due(now) {
                continue;
            }
            let members = self.registry.members(*application);
            let interpreters = &self.interpreters;
            // The youngest are workers.
            let processes =
                members.iter().rev().filter_map(|pid| Some((*pid, Arc::clone(interpreters.get(pid)?))));
            for agent in instance.agents.look(now, processes) {
                tracing::warn!(
                    application = instance.application.name,
                    "{agent} runs inside this application too: what it costs is in all figures, and its headers tell the trace"
                );
            }
        }
    }

    /// Routes of each application, where they are not known well enough. Workers have the application; the master may
    /// never have imported it.
    pub(super) fn read_routes(&mut self) {
        let now = clock::monotonic_ns();
        for (application, instance) in &mut self.instances {
            let missed = instance.transactions.routes_missed();
            if !instance.routes.is_due(now, missed) {
                continue;
            }
            let mut members = self.registry.members(*application);
            members.sort_by_key(|pid| self.registry.get(*pid).is_some_and(|watched| watched.is_master));
            let interpreters = &self.interpreters;
            let processes = members.iter().filter_map(|pid| Some((*pid, Arc::clone(interpreters.get(pid)?))));
            if let Some(table) = instance.routes.read(now, missed, processes) {
                instance.transactions.set_routes(Some(table));
            }
        }
    }
}
