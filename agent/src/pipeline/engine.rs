//! The owner of all state: takes events from the ring, asks each room its question in order, and collects
//! what comes out. One thread, no locks.

use super::clock;
use super::drivers::Drivers;
use super::exceptions::ExceptionProbes;
use super::routes::RouteReader;
use super::start::{Started, target_of};
use crate::intake::{Body, Event, Exception, ExceptionId, Reader, StackId};
use crate::probes::{Logs, Probes, Tables};
use crate::python::{Inspector, Interpreter, Objects, ProcessMemory, message};
use crate::store::Store;
use crate::symbols::{self, Symbols};
use crate::targets::{Application, ApplicationId, Discovery, Registry, UsageMeter};
use crate::transactions::{self, Clock, Output, Raised, Settings, Transactions};
use pyapm_model::line::{Frame, Line, Summary, Worker};
use pyapm_wire::connection::Hint;
use pyapm_wire::count;
use pyapm_wire::python::Frame as RawFrame;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Records taken in one turn, so that signals and timers are served under any load.
const TURN: usize = 16_384;
/// Programs started by exec that are still looked at, to see whether they become workers.
const MAX_PENDING: usize = 256;
/// How long an interpreter that was started by exec has to come up.
const PENDING_NS: u64 = 10_000_000_000;
/// How long a process counts as young, from its fork or the attach.
const YOUNG_NS: u64 = 60_000_000_000;

/// Only one application is attached to at a time.
const APPLICATION: ApplicationId = ApplicationId(0);

/// What a turn, or the end, has to say to the outputs.
pub(super) type Lines = Vec<Line>;

pub(super) struct Engine {
    pub(super) application: Application,
    pub(super) registry: Registry,
    pub(super) transactions: Transactions,
    pub(super) store: Store,
    pub(super) usage: UsageMeter,
    pub(super) symbols: Symbols,
    pub(super) interpreters: HashMap<u32, Arc<Interpreter>>,
    /// As of the last housekeeping: the wall clock may be set.
    pub(super) clock: Clock,
    reader: Reader,
    tables: Tables,
    /// `None` once detached.
    probes: Option<Probes>,
    /// Of the programs that are gone.
    skipped: Vec<(String, u64)>,
    logs: Option<Logs>,
    drivers: Drivers,
    exceptions: ExceptionProbes,
    routes: RouteReader,
    discovery: Discovery,
    inspector: Inspector,
    pending: Vec<Pending>,
    /// Rounds of housekeeping.
    turns: usize,
    /// Of the attach, monotonic.
    started_ns: u64,
    output: Output,
    /// Events whose stack had not been announced, or no longer was known.
    stacks_unknown: u64,
    /// Transactions that were written out.
    written: u64,
}

/// A child of the application that has just become another program.
struct Pending {
    pid: u32,
    parent: u32,
    since_ns: u64,
}

impl Engine {
    pub(super) fn new(started: Started, seed: u64) -> anyhow::Result<Self> {
        let Started {
            application,
            interpreters,
            inspector,
            discovery,
            mut probes,
            tables,
            drivers,
            exceptions,
        } = started;
        let reader = Reader::new(probes.ring()?);
        let logs = probes.logs();
        let clock = clock::offset();
        let mut registry = Registry::new();
        for member in &application.members {
            let _already_reported = registry.add(APPLICATION, member.key.pid, member.is_master, 0);
        }
        let settings = Settings {
            application: application.name.clone(),
            clock,
            seed,
            limits: transactions::Limits::default(),
        };
        Ok(Self {
            application,
            registry,
            transactions: Transactions::new(settings),
            store: Store::new(crate::store::Limits::default(), clock.wall_ns(clock::monotonic_ns())),
            clock,
            usage: UsageMeter::default(),
            symbols: Symbols::new(symbols::Limits::default()),
            interpreters,
            reader,
            tables,
            probes: Some(probes),
            skipped: Vec::new(),
            logs,
            drivers,
            exceptions,
            routes: RouteReader::default(),
            discovery,
            inspector,
            pending: Vec::new(),
            turns: 0,
            started_ns: clock::monotonic_ns(),
            output: Output::default(),
            stacks_unknown: 0,
            written: 0,
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
        let mut events = 0;
        let mut rooms = Rooms {
            registry: &mut self.registry,
            transactions: &mut self.transactions,
            store: &mut self.store,
            symbols: &mut self.symbols,
            interpreters: &mut self.interpreters,
            clock: self.clock,
            tables: &mut self.tables,
            pending: &mut self.pending,
            output: &mut self.output,
            stacks_unknown: &mut self.stacks_unknown,
            written: &mut self.written,
            lines,
        };
        events += reader.drain(TURN, |event| rooms.take(event));
        rooms.finish();
        self.watch_exceptions();
        events == TURN
    }

    /// Once a second: what cannot be learnt from events.
    pub(super) fn housekeeping(&mut self, lines: &mut Lines) {
        if let Some(logs) = &mut self.logs {
            logs.pass_on();
        }
        self.clock = clock::offset();
        self.transactions.set_clock(self.clock);
        self.look_at_pending(lines);
        self.follow_libraries();
        let now = clock::monotonic_ns();
        self.read_routes(now);
        self.transactions.settle_errors(now, &mut self.output);
        self.record_errors();
    }

    /// Workers have the application; the master may never have imported it.
    fn read_routes(&mut self, now_ns: u64) {
        let missed = self.transactions.routes_missed();
        if !self.routes.is_due(now_ns, missed) {
            return;
        }
        let mut members = self.registry.members(APPLICATION);
        members.sort_by_key(|pid| self.registry.get(*pid).is_some_and(|watched| watched.is_master));
        let processes =
            members.iter().filter_map(|pid| Some((*pid, Arc::clone(self.interpreters.get(pid)?))));
        if let Some(table) = self.routes.read(now_ns, missed, processes) {
            self.transactions.set_routes(Some(table));
        }
    }

    fn watch_exceptions(&mut self) {
        let now = clock::monotonic_ns();
        if let Some(probes) = &mut self.probes
            && self.exceptions.is_due(now)
        {
            let hits = self.tables.count(count::EXCEPTION_HITS);
            self.exceptions.watch(probes, &mut self.tables, hits, now);
        }
    }

    fn record_errors(&mut self) {
        for error in self.output.errors.drain(..) {
            self.store.record_error(&self.application.name, error);
        }
    }

    /// Libraries that were imported since. Young processes are looked at each second, for that is when they
    /// import; of the others one a second, in turn: reading a process's mappings costs the kernel some
    /// hundred microseconds.
    fn follow_libraries(&mut self) {
        let Some(probes) = &mut self.probes else { return };
        let now = clock::monotonic_ns();
        let members = self.registry.members(APPLICATION);
        self.turns = self.turns.wrapping_add(1);
        let in_turn = members.get(self.turns % members.len().max(1)).copied();
        for pid in members {
            let since_ns = self.registry.get(pid).map_or(0, |watched| watched.since_ns.max(self.started_ns));
            if now.saturating_sub(since_ns) < YOUNG_NS || in_turn == Some(pid) {
                self.drivers.follow(probes, pid);
            }
        }
    }

    /// Children that became another program by exec, and may be workers still (spawned, not forked).
    fn look_at_pending(&mut self, lines: &mut Lines) {
        let now = clock::monotonic_ns();
        for pending in std::mem::take(&mut self.pending) {
            let waited = now.saturating_sub(pending.since_ns);
            match self.discovery.belongs(pending.parent, pending.pid) {
                Ok(true) => {
                    let target = target_of(pending.pid, &mut self.inspector, &mut self.interpreters);
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
                    if let (Some(probes), Some(interpreter)) =
                        (&mut self.probes, self.interpreters.get(&pending.pid))
                    {
                        self.exceptions.follow(probes, interpreter);
                    }
                    let notice = self.registry.add(APPLICATION, pending.pid, false, now);
                    lines.extend(notice.map(Line::Worker));
                }
                // Not Python yet, or not at all: keep looking for a while.
                Ok(false) if waited < PENDING_NS && self.pending.len() < MAX_PENDING => {
                    self.pending.push(pending);
                }
                Ok(false) | Err(_) => {}
            }
        }
    }

    /// Nothing of the application lives any more.
    pub(super) fn is_over(&self) -> bool {
        self.registry.members(APPLICATION).is_empty() && self.pending.is_empty()
    }

    pub(super) fn members(&self) -> Vec<u32> {
        self.registry.members(APPLICATION)
    }

    /// Takes the probes away, so that nothing more is seen, and drains what had been.
    pub(super) fn stop(&mut self, lines: &mut Lines) {
        self.skipped = self.skipped();
        self.probes = None;
        while self.turn(lines) {}
        // A program that was still running on another CPU may have written after the drain began.
        while self.turn(lines) {}
        self.transactions.settle_all_errors(&mut self.output);
        self.record_errors();
        lines.extend(self.store.errors().into_iter().map(|group| Line::Errors(Box::new(group))));
    }

    pub(super) fn summary(&self) -> Summary {
        let losses = self.losses();
        Summary {
            seen: losses.seen,
            delivered: losses.delivered,
            dropped: losses.dropped,
            transactions: self.written,
            incomplete: losses.incomplete,
        }
    }

    fn skipped(&self) -> Vec<(String, u64)> {
        self.probes.as_ref().map_or_else(|| self.skipped.clone(), Probes::skipped)
    }

    /// The conservation law: `seen = delivered + sum(dropped)`, exactly so once the probes are gone.
    pub(super) fn losses(&self) -> pyapm_model::snapshot::Losses {
        let counts = self.tables.counts();
        let delivered = self.reader.delivered();
        let dropped = BTreeMap::from([
            ("ring_full".to_owned(), counts.get(count::RING_FULL)),
            ("undecodable".to_owned(), delivered.undecodable),
        ]);
        let mut incomplete: BTreeMap<String, u64> = (count::RING_FULL + 1..count::SLOTS)
            .filter_map(|slot| {
                let name = count::NAMES.get(slot as usize).filter(|name| !name.is_empty())?;
                Some(((*name).to_owned(), counts.get(slot)))
            })
            .collect();
        incomplete.insert("stacks_unknown".to_owned(), self.stacks_unknown);
        incomplete.extend(self.symbols.counts().named().map(|(name, value)| (name.to_owned(), value)));
        incomplete.extend(
            self.transactions.counts().view().into_iter().map(|(name, value)| (name.to_owned(), value)),
        );
        for (program, times) in self.skipped() {
            incomplete.insert(format!("skipped_{program}"), times);
        }
        let paused_ms = self.exceptions.paused_ns(clock::monotonic_ns()) / 1_000_000;
        incomplete.insert("exceptions_paused_ms".to_owned(), paused_ms);
        incomplete.insert("error_groups_overflow".to_owned(), self.store.errors_overflow());
        // What was counted to the good, or only for its cost, is no loss.
        incomplete.remove("transactions");
        incomplete.remove("exception_hits");
        incomplete.retain(|_, value| *value != 0);
        pyapm_model::snapshot::Losses {
            seen: counts.get(count::SEEN),
            delivered: delivered.decoded,
            dropped,
            incomplete,
        }
    }
}

/// Everything but the reader, for the time of one turn.
struct Rooms<'a> {
    registry: &'a mut Registry,
    transactions: &'a mut Transactions,
    store: &'a mut Store,
    symbols: &'a mut Symbols,
    interpreters: &'a mut HashMap<u32, Arc<Interpreter>>,
    clock: Clock,
    tables: &'a mut Tables,
    pending: &'a mut Vec<Pending>,
    output: &'a mut Output,
    stacks_unknown: &'a mut u64,
    written: &'a mut u64,
    lines: &'a mut Lines,
}

impl Rooms<'_> {
    fn take(&mut self, event: &Event<'_>) {
        let mut stack = None;
        match &event.body {
            Body::Fork { child } => self.fork(event, *child),
            Body::Stack { stack, frames, .. } => {
                if let Some(interpreter) = self.interpreters.get(&event.pid).cloned() {
                    let memory = ProcessMemory::new(event.pid);
                    let frames = self.symbols.resolve(event.pid, &interpreter, &memory, frames);
                    self.symbols.announce(event.pid, *stack, frames);
                }
                return;
            }
            Body::Sample { stack: id, .. } => {
                stack = self.stack(event.pid, *id);
                if let Some(frames) = &stack {
                    self.store.sample(self.clock.wall_ns(event.time_ns), frames);
                }
            }
            Body::Exception(exception) => return self.exception(event, exception),
            Body::ExceptionPassed { id, frame } => return self.exception_passed(event, *id, frame),
            Body::Statement(statement) => stack = self.stack(event.pid, statement.stack),
            Body::Io(io) => stack = self.stack(event.pid, io.stack),
            _ => {}
        }
        self.transactions.observe(event, stack, self.output);
        match event.body {
            Body::Exec => self.exec(event),
            Body::Exit => self.exit(event),
            _ => {}
        }
    }

    fn stack(&mut self, pid: u32, id: Option<StackId>) -> Option<Arc<[Frame]>> {
        let id = id?;
        let frames = self.symbols.stack(pid, id);
        if frames.is_none() {
            *self.stacks_unknown += 1;
            // Its record was dropped, or is long forgotten: have it sent with the next event that has it.
            self.tables.forget_stack(id.0);
        }
        frames
    }

    fn exception(&mut self, event: &Event<'_>, exception: &Exception) {
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
        self.transactions.raised(&raised, self.output);
    }

    fn exception_passed(&mut self, event: &Event<'_>, id: ExceptionId, frame: &RawFrame) {
        let Some(interpreter) = self.interpreters.get(&event.pid).cloned() else { return };
        let memory = ProcessMemory::new(event.pid);
        let frames = self.symbols.resolve(event.pid, &interpreter, &memory, std::slice::from_ref(frame));
        let frame = frames.first().cloned();
        self.transactions.passed(event.time_ns, event.pid, event.tid, id, frame);
    }

    fn fork(&mut self, event: &Event<'_>, child: u32) {
        let notices = self.registry.fork(event.pid, child, event.time_ns);
        self.symbols.fork(event.pid, child, event.time_ns);
        if let Some(interpreter) = self.interpreters.get(&event.pid).cloned() {
            self.interpreters.insert(child, interpreter);
        }
        self.notices(notices);
    }

    fn exec(&mut self, event: &Event<'_>) {
        let notice = self.registry.exec(event.pid, event.time_ns);
        self.forget(event.pid);
        self.notices(notice);
        if self.pending.len() < MAX_PENDING
            && let Some(parent) = parent_of(event.pid)
        {
            self.pending.push(Pending { pid: event.pid, parent, since_ns: event.time_ns });
        }
    }

    fn exit(&mut self, event: &Event<'_>) {
        let notice = self.registry.exit(event.pid, event.time_ns);
        self.store.worker_exited(event.pid);
        self.forget(event.pid);
        self.notices(notice);
    }

    fn forget(&mut self, pid: u32) {
        self.symbols.forget(pid);
        self.interpreters.remove(&pid);
    }

    fn notices(&mut self, notices: impl IntoIterator<Item = Worker>) {
        // In order with the transactions that ended before.
        self.flush_finished();
        self.lines.extend(notices.into_iter().map(Line::Worker));
    }

    fn flush_finished(&mut self) {
        for finished in self.output.finished.drain(..) {
            self.store.record(&finished.transaction);
            self.lines.push(Line::Transaction(Box::new(finished.transaction)));
            *self.written += 1;
        }
    }

    /// Hands on what this turn led to.
    fn finish(mut self) {
        for hint in self.output.hints.drain(..) {
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
        self.flush_finished();
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    crate::targets::ProcFs::new().stat(pid).ok().map(|stat| stat.ppid)
}
