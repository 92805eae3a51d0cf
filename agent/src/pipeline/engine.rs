//! The owner of all state: takes events from the ring, asks each room its question in order, and collects
//! what came of it. One engine serves any number of applications: it has one kernel half and one memory of who is whose
//! and of names, and an [`Instance`] for each application, to which events go by their process. It decides nothing about
//! any subject itself.

mod adopt;
mod announced;
mod collecting;
mod instance;
mod joined;
mod losses;
mod metrics;
mod pending;
mod processes;
mod raised;
mod turning;
mod vitals;

pub(super) use announced::Announcement;
pub(super) use instance::{Instance, Said};

use super::clock;
use super::code_deaths::CodeDeaths;
use super::drivers::Drivers;
use super::exceptions::ExceptionProbes;
use super::loops::EventLoops;
use super::tasks::TaskWorkers;
use crate::intake::{Body, Event, Reader, StackId};
use crate::probes::{Logs, Probes, Tables};
use crate::python::{Inspector, Interpreter, ProcessMemory};
use crate::symbols::{self, Symbols};
use crate::targets::{ApplicationId, Discovery, Registry};
use crate::transactions::{Clock, Joining, Link, sql};
use announced::Announced;
use losses::Retired;
use pending::Pending;
use pyapm_model::stack::Stack;
use pyapm_wire::connection::Hint;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Records taken in one turn, so that signals and timers are served under any load.
const TURN: usize = 16_384;

/// Between two looks for libraries: what is imported is followed within a second, the time to probe it included.
const LIBRARIES_NS: u64 = 400_000_000;

/// What a turn, or the end, has to say to the outputs.
pub(super) type Lines = Vec<Said>;

pub(super) struct Engine {
    instances: BTreeMap<ApplicationId, Instance>,
    /// The next application's number.
    next: u32,
    /// Random; each application's trace ids grow from its own part of it.
    seed: u64,
    pub(super) registry: Registry,
    pub(super) symbols: Symbols,
    pub(super) interpreters: HashMap<u32, Arc<Interpreter>>,
    /// As of the last housekeeping: the wall clock may be set.
    pub(super) clock: Clock,
    pub(super) discovery: Discovery,
    pub(super) inspector: Inspector,
    reader: Reader,
    tables: Tables,
    /// `None` once detached.
    probes: Option<Probes>,
    /// Everything that only a target needs is attached.
    attached: bool,
    /// Threads tell what they wait for.
    pub(super) waits: bool,
    /// On-CPU samples per second and CPU.
    rate_hz: u32,
    /// How much of statements is told.
    pub(super) sql: sql::Mode,
    /// Of the programs that are gone.
    skipped: Vec<(String, u64)>,
    logs: Option<Logs>,
    drivers: Drivers,
    loops: EventLoops,
    task_workers: TaskWorkers,
    exceptions: ExceptionProbes,
    code_deaths: CodeDeaths,
    joining: Joining,
    /// When event loops were looked at last.
    looked_ns: u64,
    /// From when on a turn of an event loop is long.
    blocked_ns: u64,
    pending: Vec<Pending>,
    /// Rounds of housekeeping.
    turns: usize,
    /// When libraries were looked for last.
    libraries_ns: u64,
    /// Of the start, monotonic.
    started_ns: u64,
    /// Events whose stack had not been announced, or no longer was known.
    stacks_unknown: u64,
    /// Events of processes that are part of no application that is known.
    processes_unknown: u64,
    announced: Announced,
    retired: Retired,
    /// Most bytes that one turn took from the ring.
    peak_bytes: u64,
    /// There is one application and there never will be another: every event is its.
    is_single: bool,
}

impl Engine {
    /// Over a kernel half that is loaded and attached to nothing. `seed` is random; `is_single` says that it will ever
    /// serve one application.
    pub(super) fn new(
        mut probes: Probes,
        rate_hz: u32,
        seed: u64,
        is_single: bool,
    ) -> Result<Self, crate::probes::ProbeError> {
        let waits = probes.follows_waits();
        let blocked_ns = probes.loop_blocked_ns();
        let wants_code_deaths = probes.wants_code_deaths();
        Ok(Self {
            instances: BTreeMap::new(),
            next: 0,
            seed,
            registry: Registry::new(),
            symbols: Symbols::new(symbols::Limits::default()),
            interpreters: HashMap::new(),
            clock: clock::offset(),
            discovery: Discovery::new(),
            inspector: Inspector::default(),
            reader: Reader::new(probes.ring()?),
            tables: probes.tables()?,
            logs: probes.logs(),
            probes: Some(probes),
            attached: false,
            waits,
            rate_hz,
            sql: sql::Mode::default(),
            skipped: Vec::new(),
            drivers: Drivers::default(),
            loops: EventLoops::default(),
            task_workers: TaskWorkers::default(),
            exceptions: ExceptionProbes::default(),
            code_deaths: CodeDeaths::new(wants_code_deaths),
            joining: Joining::default(),
            looked_ns: 0,
            blocked_ns,
            pending: Vec::new(),
            turns: 0,
            libraries_ns: 0,
            started_ns: clock::monotonic_ns(),
            stacks_unknown: 0,
            processes_unknown: 0,
            announced: Announced::default(),
            retired: Retired::default(),
            peak_bytes: 0,
            is_single,
        })
    }

    /// The ring's descriptor: readable when the kernel half wants it drained before the timer.
    pub(super) fn ring_fd(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.reader.as_fd().try_clone_to_owned()
    }

    /// Takes what is in the ring. `true` when there may be more.
    pub(super) fn turn(&mut self, lines: &mut Lines) -> bool {
        // The reader is taken apart from the rest, which every event changes.
        let Self { reader, .. } = self;
        let before = reader.delivered().bytes;
        let now_ns = clock::monotonic_ns();
        let mut rooms = Rooms {
            instances: &mut self.instances,
            registry: &mut self.registry,
            symbols: &mut self.symbols,
            interpreters: &mut self.interpreters,
            loops: &mut self.loops,
            task_workers: &mut self.task_workers,
            clock: self.clock,
            tables: &mut self.tables,
            joining: &mut self.joining,
            sample_ns: 1_000_000_000 / u64::from(self.rate_hz.max(1)),
            upto_ns: 0,
            pending: &mut self.pending,
            stacks_unknown: &mut self.stacks_unknown,
            processes_unknown: &mut self.processes_unknown,
            announced: &mut self.announced,
            is_single: self.is_single,
            lines,
        };
        let events = reader.drain(TURN, |event| rooms.take(event));
        if events < TURN {
            // All that had been written by then has been taken.
            rooms.upto_ns = now_ns;
        }
        rooms.advance();
        rooms.finish();
        self.peak_bytes = self.peak_bytes.max(self.reader.delivered().bytes - before);
        if now_ns.saturating_sub(self.libraries_ns) >= LIBRARIES_NS {
            self.follow_libraries(false);
        }
        self.look_again();
        self.look_at_loops();
        self.watch_exceptions();
        events == TURN
    }

    /// Once a second: what cannot be learnt from events.
    pub(super) fn housekeeping(&mut self, lines: &mut Lines) {
        if let Some(logs) = &mut self.logs {
            logs.pass_on();
        }
        self.clock = clock::offset();
        for instance in self.instances.values_mut() {
            instance.transactions.set_clock(self.clock);
        }
        self.look_at_pending(lines);
        self.follow_libraries(true);
        self.read_turns();
        self.read_routes();
        self.look_for_agents();
        self.settle_exceptions();
    }

    /// Processes whose stacks have shown that more can be followed.
    fn look_again(&mut self) {
        let Some(probes) = &mut self.probes else { return };
        for pid in self.loops.again() {
            if let Some(interpreter) = self.interpreters.get(&pid) {
                self.loops.follow(probes, &mut self.tables, pid, interpreter);
            }
        }
    }

    /// Nothing of any application lives any more.
    pub(super) fn is_over(&self) -> bool {
        self.instances.keys().all(|application| !self.is_alive(*application))
    }

    /// Something of the application lives, or may turn out to be part of it.
    pub(super) fn is_alive(&self, application: ApplicationId) -> bool {
        !self.registry.members(application).is_empty()
            || self.pending.iter().any(|pending| pending.application == application)
            || self.joining.holds(application)
    }

    pub(super) fn instance(&self, application: ApplicationId) -> Option<&Instance> {
        self.instances.get(&application)
    }

    /// Other agents that were found inside an application.
    pub(super) fn agents(&self, application: ApplicationId) -> Vec<String> {
        self.instances.get(&application).map(|instance| instance.agents.names()).unwrap_or_default()
    }

    /// By number, ascending.
    pub(super) fn applications(&self) -> Vec<ApplicationId> {
        self.instances.keys().copied().collect()
    }

    pub(super) fn instance_mut(&mut self, application: ApplicationId) -> Option<&mut Instance> {
        self.instances.get_mut(&application)
    }

    pub(super) fn members(&self, application: ApplicationId) -> Vec<u32> {
        self.registry.members(application)
    }

    /// The on-CPU samples of every application since the last time.
    pub(super) fn say_stacks(&mut self, lines: &mut Lines) {
        let now_ns = self.clock.wall_ns(clock::monotonic_ns());
        for instance in self.instances.values_mut() {
            instance.say_stacks(now_ns, lines);
        }
    }

    /// Takes the probes away, so that nothing more is seen, and drains what had been.
    pub(super) fn stop(&mut self, lines: &mut Lines) {
        self.skipped = self.skipped();
        self.probes = None;
        while self.turn(lines) {}
        // A program that was still running on another CPU may have written after the drain began.
        while self.turn(lines) {}
        for instance in self.instances.values_mut() {
            instance.transactions.finish(&mut instance.output);
        }
        while self.turn(lines) {}
        joined::give_out(&mut self.instances, &mut self.joining, u64::MAX, lines);
        for instance in self.instances.values_mut() {
            instance.transactions.settle_errors(u64::MAX, &mut instance.output);
            instance.record_errors();
            instance.say_errors(lines);
        }
    }

    fn skipped(&self) -> Vec<(String, u64)> {
        self.probes.as_ref().map_or_else(|| self.skipped.clone(), Probes::skipped)
    }
}

/// Everything but the reader, for the time of one turn.
struct Rooms<'a> {
    instances: &'a mut BTreeMap<ApplicationId, Instance>,
    registry: &'a mut Registry,
    symbols: &'a mut Symbols,
    interpreters: &'a mut HashMap<u32, Arc<Interpreter>>,
    loops: &'a mut EventLoops,
    task_workers: &'a mut TaskWorkers,
    clock: Clock,
    tables: &'a mut Tables,
    joining: &'a mut Joining,
    /// Between two samples.
    sample_ns: u64,
    /// Up to which events have been taken.
    upto_ns: u64,
    pending: &'a mut Vec<Pending>,
    stacks_unknown: &'a mut u64,
    processes_unknown: &'a mut u64,
    announced: &'a mut Announced,
    is_single: bool,
    lines: &'a mut Lines,
}

impl Rooms<'_> {
    /// What only time tells.
    fn advance(&mut self) {
        let now = clock::monotonic_ns();
        for instance in self.instances.values_mut() {
            instance.transactions.advance(now, &mut instance.output);
        }
    }

    fn take(&mut self, event: &Event<'_>) {
        if self.announced.take(event) {
            return;
        }
        self.upto_ns = event.time_ns;
        let Some(application) = self.application(event) else {
            *self.processes_unknown += 1;
            return;
        };
        let mut stack = None;
        match &event.body {
            Body::Fork { child } => self.fork(application, event, *child),
            Body::Stack { stack, frames, gap, .. } => {
                if let Some(interpreter) = self.interpreters.get(&event.pid).cloned() {
                    let memory = ProcessMemory::new(event.pid);
                    let frames =
                        self.symbols.resolve_with_gap(event.pid, &interpreter, &memory, frames, *gap);
                    self.loops.met(event.pid, &frames);
                    self.symbols.announce(event.pid, *stack, frames);
                }
                return;
            }
            Body::Sample { stack: id, holds_gil, .. } => {
                if *holds_gil && let Some(instance) = self.instances.get_mut(&application) {
                    instance.store.gil.held(event.pid, self.sample_ns);
                }
                stack = self.stack(event.pid, *id);
                if let Some(frames) = &stack
                    && let Some(instance) = self.instances.get_mut(&application)
                {
                    instance.store.sample(self.clock.wall_ns(event.time_ns), frames);
                    instance.store.loops.sampled(event.pid, event.tid, event.time_ns, frames);
                    instance.stacks.record(frames);
                }
            }
            Body::Exception(exception) => return self.exception(application, event, exception),
            Body::ExceptionPassed { id, frame } => {
                return self.exception_passed(application, event, *id, frame);
            }
            Body::OffCpu(away) => {
                if let Some(instance) = self.instances.get_mut(&application) {
                    let waits = away.left.waits_for_gil && away.left.state != 0;
                    let waited_ns = away.duration_ns.unwrap_or(0).saturating_sub(away.queued_ns);
                    instance.store.gil.waited(event.pid, if waits { waited_ns } else { 0 });
                }
            }
            Body::LoopSeen | Body::LoopBlocked { .. } => {
                if let Some(instance) = self.instances.get_mut(&application) {
                    let loops = &mut instance.store.loops;
                    match event.body {
                        Body::LoopBlocked { started_ns } => {
                            loops.blocked(event.pid, event.tid, started_ns, event.time_ns, self.sample_ns);
                        }
                        _ => loops.seen(event.pid, event.tid),
                    }
                }
                return;
            }
            Body::ConnectionOpened { local, .. } => self.joining.address(*local),
            Body::Statement(statement) => stack = self.stack(event.pid, statement.stack),
            Body::Io(io) => stack = self.stack(event.pid, io.stack),
            _ => {}
        }
        if let Some(instance) = self.instances.get_mut(&application) {
            instance.transactions.observe(event, stack, &mut instance.output);
            let sent = instance.transactions.take_sent();
            if !sent.is_empty() {
                self.pass_on(application, &sent);
            }
        }
        match event.body {
            Body::Exec => self.exec(application, event),
            Body::Exit => self.exit(application, event),
            _ => {}
        }
    }

    /// Whose event it is. The record of a fork may have been lost: where there is one application only, there is no
    /// doubt whose the child is, else its parent is looked up.
    fn application(&mut self, event: &Event<'_>) -> Option<ApplicationId> {
        if let Some(known) = self.registry.application_at(event.pid, event.time_ns) {
            return Some(known);
        }
        if self.is_single {
            return self.instances.keys().next().copied();
        }
        let parent = self.registry.get(processes::parent_of(event.pid)?)?.application;
        let notice = self.registry.add(parent, event.pid, false, event.time_ns);
        self.notices(parent, notice);
        Some(parent)
    }

    fn stack(&mut self, pid: u32, id: Option<StackId>) -> Option<Stack> {
        let id = id?;
        let frames = self.symbols.stack(pid, id);
        if frames.is_none() {
            *self.stacks_unknown += 1;
            // Its record was dropped, or is long forgotten: have it sent with the next event that has it.
            self.tables.forget_stack(id.0);
        }
        frames
    }

    /// What one application has sent, another may be handed next.
    fn pass_on(&mut self, sender: ApplicationId, sent: &[(String, Link)]) {
        for (id, other) in self.instances.iter_mut() {
            if *id != sender {
                other.transactions.learn_sent(sent);
            }
        }
    }

    /// Hands on what this turn led to.
    fn finish(self) {
        for instance in self.instances.values_mut() {
            for hint in instance.output.hints.drain(..) {
                let wire = Hint {
                    connection: hint.connection.0,
                    skip_in: hint.skip_in,
                    skip_out: hint.skip_out,
                    want_in: hint.want_in,
                    want_out: hint.want_out,
                    no_stacks: u32::from(!hint.stacks),
                    padding: 0,
                };
                self.tables.hint(wire);
            }
            for (place, quiet) in instance.output.quiet.drain(..) {
                self.tables.hush(place, quiet);
            }
        }
        joined::give_out(self.instances, self.joining, self.upto_ns, self.lines);
    }
}
