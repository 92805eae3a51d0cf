//! The owner of a recording's state: takes events from the ring, keeps who is recorded, names stacks when they are
//! announced, and adds samples up. One thread, no locks.

// Long because the recorder and the taker of its events share all their state; time off the CPU is in `waits.rs`.

use super::away::Window;
use super::natives::Natives;
use super::newcomers::Newcomers;
use super::subject;
use super::waits::Sleeping;
use crate::binaries::mappings;
use crate::intake::{Body, Event, Gap, Reader, StackId, StackStatus};
use crate::native::PythonStack;
use crate::pipeline::clock::monotonic_ns;
use crate::pipeline::code_deaths::CodeDeaths;
use crate::probes::{Counts, Logs, Probes, Tables};
use crate::profile::{Limits, Mode, Profile, Selection, Stack, State, Thread, Weight};
use crate::python::{Inspector, Interpreter, ProcessMemory, PythonError, may_be_compiled, needs_gil};
use crate::symbols::{self, Symbols};
use crate::targets::ProcFs;
use pyapm_model::line::Frame;
use pyapm_wire::python::{Layout, route};
use pyapm_wire::target::Target;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Records taken in one turn, so that signals and timers are served under any load.
const TURN: usize = 16_384;
/// Stacks that are remembered for one process: those of the kernel's own memory, and those it has forgotten since.
const MAX_STACKS: usize = 1 << 18;

/// Frames of the recorder itself, for what has no Python frame to show.
mod mark {
    pub(super) const NATIVE_THREAD: &str = "[thread without Python]";
    pub(super) const NO_FRAME: &str = "[interpreter outside of any Python code]";
    pub(super) const UNREADABLE: &str = "[stack could not be read]";
    pub(super) const CUT: &str = "[outer frames could not be read]";
    pub(super) const TRUNCATED: &str = "[outer frames beyond the limit]";
    pub(super) const LOST: &str = "[stack was lost]";
}

/// What becomes of a recording that is chosen once for all.
pub(super) struct Choices {
    pub(super) selection: Selection,
    pub(super) subprocesses: bool,
    pub(super) rate_hz: u32,
    /// C, C++ and Rust frames too.
    pub(super) native: bool,
    pub(super) mode: Mode,
    /// Threads that sleep all the time are kept.
    pub(super) idle: bool,
}

/// What has no place in a profile, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Apart {
    /// Of processes without an interpreter, or before it was understood.
    pub(super) not_python: u64,
    /// By `--include` and `--exclude`.
    pub(super) left_out: u64,
    /// Of threads that did not hold the interpreter's lock, where only those that did are asked for.
    pub(super) without_gil: u64,
    /// Threads that slept all the time.
    pub(super) idle_threads: u64,
    /// Whose stack had not been announced, or was forgotten: in the profile as such.
    pub(super) stacks_unknown: u64,
}

/// Where a stack goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// `None`: into the overflow.
    In(Option<Stack>),
    LeftOut,
}

/// A process that is recorded.
pub(super) struct Member {
    /// `None` while it is a newcomer.
    pub(super) interpreter: Option<Arc<Interpreter>>,
    /// When the kernel half surely knew the interpreter's layout; meaningless without an interpreter.
    known_ns: u64,
    title: Arc<str>,
    stacks: HashMap<StackId, Place>,
    /// `None`: no room in the profile.
    threads: HashMap<u32, Option<usize>>,
    /// By tid.
    pub(super) sleeping: HashMap<u32, Sleeping>,
}

pub(super) struct Recorder {
    pub(super) profile: Profile,
    pub(super) apart: Apart,
    pub(super) choices: Choices,
    period_ns: u64,
    pub(super) window: Window,
    pub(super) members: HashMap<u32, Member>,
    newcomers: Newcomers,
    symbols: Symbols,
    /// `None` when they are not asked for.
    natives: Option<Natives>,
    inspector: Inspector,
    pub(super) procfs: ProcFs,
    pub(super) tables: Tables,
    reader: Reader,
    logs: Option<Logs>,
    /// `None` once detached.
    probes: Option<Probes>,
    code_deaths: CodeDeaths,
    /// Threads whose name was read so early that they may have taken another since.
    young: Vec<(u32, u32, usize)>,
    /// Stacks were announced in the last turn.
    has_news: bool,
    /// Processes at the end whose JIT compiler may be on.
    pub(super) compiled: usize,
    /// As of the end.
    skipped: Vec<(String, u64)>,
}

impl Recorder {
    /// Attaches what follows processes; nothing is recorded yet.
    pub(super) fn new(mut probes: Probes, choices: Choices) -> anyhow::Result<Self> {
        let tables = probes.tables()?;
        let reader = Reader::new(probes.ring()?);
        let code_deaths = CodeDeaths::new(probes.wants_code_deaths());
        let logs = probes.logs();
        probes.attach_lifecycle()?;
        Ok(Self {
            profile: Profile::new(Limits::default()),
            apart: Apart::default(),
            period_ns: 1_000_000_000 / u64::from(choices.rate_hz.max(1)),
            natives: choices.native.then(|| Natives::new(choices.rate_hz)),
            window: Window::default(),
            choices,
            members: HashMap::new(),
            newcomers: Newcomers::default(),
            symbols: Symbols::new(symbols::Limits::default()),
            inspector: Inspector::default(),
            procfs: ProcFs::new(),
            tables,
            reader,
            logs,
            probes: Some(probes),
            code_deaths,
            young: Vec::new(),
            has_news: false,
            compiled: 0,
            skipped: Vec::new(),
        })
    }

    /// Begins to record.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        if let Some(probes) = &mut self.probes {
            if self.choices.mode.follows_waits() {
                probes.attach_off_cpu()?;
            }
            if self.choices.mode.samples_cpu() {
                probes.attach_sampling(self.choices.rate_hz)?;
            }
        }
        // Who goes to sleep from here on is seen to do so; who sleeps already is found now.
        if self.choices.mode.follows_waits() {
            self.find_sleepers();
        }
        self.window.began_ns = monotonic_ns();
        Ok(())
    }

    /// Records a process that must have an interpreter.
    pub(super) fn watch_python(&mut self, pid: u32) -> anyhow::Result<()> {
        let interpreter = Arc::new(self.inspector.inspect(pid)?);
        anyhow::ensure!(
            !self.is_without_gil(pid, &interpreter),
            "process {pid} runs a free-threaded build of Python {}, whose threads need no GIL: `--mode gil` has nothing to \
             record (try `--mode cpu` or `wall`)",
            interpreter.version
        );
        self.watch_with(pid, interpreter)
    }

    /// Whether the lock is asked for, and this process does without.
    fn is_without_gil(&self, pid: u32, interpreter: &Interpreter) -> bool {
        self.choices.mode == Mode::Gil && needs_gil(&ProcessMemory::new(pid), interpreter) == Some(false)
    }

    fn watch_with(&mut self, pid: u32, interpreter: Arc<Interpreter>) -> anyhow::Result<()> {
        let mut layout = interpreter.layout;
        if let Some(probes) = &mut self.probes {
            layout.deaths_told = u32::from(self.code_deaths.follow(probes, &interpreter));
        }
        if layout.route == route::NONE {
            tracing::warn!(pid, "no Python stacks from this process: {}", interpreter.thread_state_route);
        }
        self.member(pid).interpreter = Some(interpreter);
        self.newcomers.remove(pid);
        self.tables.watch(
            pid,
            Target { layout, generation: monotonic_ns(), follow_exec: 1, ..Target::default() },
            false,
        )?;
        self.member(pid).known_ns = monotonic_ns();
        Ok(())
    }

    /// Records a process that may have no interpreter, or not yet.
    pub(super) fn watch_any(&mut self, pid: u32) -> anyhow::Result<()> {
        let now = monotonic_ns();
        self.member(pid).interpreter = None;
        self.newcomers.add(pid, now);
        self.tables.watch(
            pid,
            Target { layout: Layout::default(), generation: now, follow_exec: 1, ..Target::default() },
            false,
        )?;
        Ok(())
    }

    /// Records what these have started, where that is wanted. Those that are known already are left as they are.
    pub(super) fn watch_descendants(&mut self, roots: &[u32]) -> anyhow::Result<()> {
        if !self.choices.subprocesses {
            return Ok(());
        }
        for pid in subject::descendants(&self.procfs, roots) {
            if !self.members.contains_key(&pid) {
                self.watch_any(pid)?;
            }
        }
        self.look_at_newcomers();
        Ok(())
    }

    /// The ring's descriptor: readable when the kernel half wants it drained before the timer.
    pub(super) fn ring_fd(&self) -> std::io::Result<OwnedFd> {
        self.reader.as_fd().try_clone_to_owned()
    }

    /// Takes what is in the ring. `true` when there may be more.
    pub(super) fn turn(&mut self) -> bool {
        self.has_news = false;
        let (reader, mut taker) = self.parts();
        let events = reader.drain(TURN, |event| taker.take(event));
        self.look_at_newcomers();
        events == TURN
    }

    fn parts(&mut self) -> (&mut Reader, Taker<'_>) {
        let taker = Taker {
            profile: &mut self.profile,
            apart: &mut self.apart,
            choices: &self.choices,
            period_ns: self.period_ns,
            window: self.window,
            members: &mut self.members,
            newcomers: &mut self.newcomers,
            symbols: &mut self.symbols,
            natives: self.natives.as_mut(),
            inspector: &mut self.inspector,
            procfs: &self.procfs,
            tables: &mut self.tables,
            young: &mut self.young,
            has_news: &mut self.has_news,
        };
        (&mut self.reader, taker)
    }

    pub(super) fn taker(&mut self) -> Taker<'_> {
        self.parts().1
    }

    /// Once a second: what cannot be learnt from events.
    pub(super) fn housekeeping(&mut self) {
        if let Some(logs) = &mut self.logs {
            logs.pass_on();
        }
        for (pid, tid, thread) in std::mem::take(&mut self.young) {
            if let Ok(name) = self.procfs.thread_name(pid, tid) {
                self.profile.rename(thread, own_name(&self.procfs, pid, name));
            }
        }
        // An exit whose record was lost.
        let gone = |pid: &u32| self.procfs.stat(*pid).map_or(true, |stat| stat.is_zombie());
        let gone: Vec<u32> = self.members.keys().copied().filter(gone).collect();
        for pid in gone {
            // What it did last may still be in the ring.
            while self.turn() {}
            self.tables.unwatch(pid);
            self.members.remove(&pid);
            self.newcomers.remove(pid);
        }
    }

    fn look_at_newcomers(&mut self) {
        for pid in self.newcomers.due(monotonic_ns()) {
            match self.inspector.inspect(pid) {
                Ok(interpreter) if interpreter.layout.route != route::NONE => {
                    tracing::debug!(pid, version = %interpreter.version, "an interpreter is up");
                    let interpreter = Arc::new(interpreter);
                    if self.is_without_gil(pid, &interpreter) {
                        tracing::warn!(
                            pid,
                            "nothing to record: its threads need no GIL (a free-threaded build)"
                        );
                    }
                    if let Err(error) = self.watch_with(pid, Arc::clone(&interpreter)) {
                        tracing::error!(pid, "a process is not recorded: {error:#}");
                    }
                    if self.choices.mode.follows_waits() {
                        // Threads that left before the kernel half could take their stacks.
                        self.find_sleepers_of(pid, &interpreter);
                    }
                    if self.procfs.stat(pid).is_err() {
                        // It ended meanwhile: its entry must not wait for the next owner of the pid.
                        self.tables.unwatch(pid);
                    }
                }
                Err(PythonError::NoSuchProcess { .. }) => self.newcomers.remove(pid),
                // Not up yet, or not Python: it is looked at again.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// How many processes are recorded now.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// No Python process that is recorded lives any more. Other programs that it has left behind are not waited for.
    pub(super) fn is_over(&self) -> bool {
        self.members.values().all(|member| member.interpreter.is_none())
            && !self.newcomers.is_hopeful(monotonic_ns())
    }

    /// Whether the next turn should come soon: an interpreter may come up any moment, or the program does what it has
    /// not done before, and code that runs but once (of modules that are imported) is gone before it is named.
    pub(super) fn is_urgent(&self) -> bool {
        self.has_news || self.newcomers.is_urgent(monotonic_ns())
    }

    /// Takes the probes away, so that nothing more is seen, and drains what had been.
    pub(super) fn stop(&mut self) {
        // What follows takes its time, and none of it is recorded.
        self.window.ended_ns = monotonic_ns();
        self.skipped = self.skipped();
        self.compiled = self.members.iter().filter(|(pid, member)| member.may_be_compiled(**pid)).count();
        self.probes = None;
        while self.turn() {}
        // A program that was still running on another CPU may have written after the drain began.
        while self.turn() {}
        if self.choices.mode.follows_waits() {
            self.end_waits();
        }
    }

    /// How long it was, once it has been stopped: waits are cut to this time.
    pub(super) fn duration_ns(&self) -> u64 {
        self.window.ended_ns.saturating_sub(self.window.began_ns)
    }

    /// Programs that the kernel did not run, and how often: what they would have told is lost.
    pub(super) fn skipped(&self) -> Vec<(String, u64)> {
        self.probes.as_ref().map_or_else(|| self.skipped.clone(), Probes::skipped)
    }

    /// What the kernel half counted, what the reader did, and what could not be named.
    pub(super) fn counts(&self) -> (Counts, crate::intake::Delivered, symbols::Counts) {
        (self.tables.counts(), self.reader.delivered(), self.symbols.counts())
    }

    /// What native frames lack, by name.
    pub(super) fn native_counts(&self) -> Vec<(&'static str, u64)> {
        self.natives.as_ref().map(|natives| natives.named().to_vec()).unwrap_or_default()
    }

    fn member(&mut self, pid: u32) -> &mut Member {
        let procfs = &self.procfs;
        self.members.entry(pid).or_insert_with(|| Member::new(title_of(procfs, pid, "?")))
    }
}

impl Member {
    fn may_be_compiled(&self, pid: u32) -> bool {
        let version = self.interpreter.as_ref().map(|interpreter| interpreter.version);
        version.is_some_and(|version| may_be_compiled(pid, version, &mappings(pid).unwrap_or_default()))
    }

    fn new(title: Arc<str>) -> Self {
        Self {
            interpreter: None,
            known_ns: 0,
            title,
            stacks: HashMap::new(),
            threads: HashMap::new(),
            sleeping: HashMap::new(),
        }
    }
}

fn title_of(procfs: &ProcFs, pid: u32, otherwise: &str) -> Arc<str> {
    subject::title(procfs, pid).map_or_else(|| otherwise.into(), Into::into)
}

/// A thread's name, unless it is only the process's own.
fn own_name(procfs: &ProcFs, pid: u32, name: String) -> Option<Arc<str>> {
    let process = procfs.thread_name(pid, pid).ok();
    (process.as_deref() != Some(name.as_str())).then(|| name.into())
}

/// Everything but the reader, for the time of one turn.
pub(super) struct Taker<'a> {
    pub(super) profile: &'a mut Profile,
    pub(super) apart: &'a mut Apart,
    pub(super) choices: &'a Choices,
    period_ns: u64,
    pub(super) window: Window,
    pub(super) members: &'a mut HashMap<u32, Member>,
    newcomers: &'a mut Newcomers,
    symbols: &'a mut Symbols,
    natives: Option<&'a mut Natives>,
    inspector: &'a mut Inspector,
    pub(super) procfs: &'a ProcFs,
    tables: &'a mut Tables,
    young: &'a mut Vec<(u32, u32, usize)>,
    has_news: &'a mut bool,
}

impl Taker<'_> {
    fn take(&mut self, event: &Event<'_>) {
        match &event.body {
            Body::Fork { child } => self.fork(event, *child),
            Body::Exec => self.exec(event.pid),
            Body::Exit => {
                if let Some(natives) = &mut self.natives {
                    natives.forget(event.pid);
                }
                self.members.remove(&event.pid);
                self.newcomers.remove(event.pid);
                self.symbols.forget(event.pid);
            }
            Body::Stack { stack, frames, entries, gap, status } => {
                self.announced(event.pid, *stack, (frames.as_slice(), entries.as_slice()), *gap, *status);
            }
            Body::Sample { stack, status, holds_gil } => self.sample(event, *stack, *status, *holds_gil),
            Body::Native(native) => {
                if let Some(natives) = &mut self.natives {
                    natives.taken(event.pid, event.tid, event.time_ns, native);
                }
            }
            Body::OffCpu(away) => self.came_back(event, away),
            // Of programs that a recording does not attach.
            Body::ConnectionOpened { .. }
            | Body::LoopSeen
            | Body::LoopBlocked { .. }
            | Body::ConnectionClosed { .. }
            | Body::TlsSession { .. }
            | Body::Io(_)
            | Body::Statement(_)
            | Body::StatementStep(_)
            | Body::Context(_)
            | Body::Greenlet(_)
            | Body::StackPart(_)
            | Body::Exception(_)
            | Body::ExceptionPassed { .. }
            | Body::Queued { .. }
            | Body::HandedBack
            | Body::TaskBegun(_)
            | Body::TaskDone(_)
            | Body::TaskLeft(_)
            | Body::Connected { .. }
            | Body::LookedUp(_)
            | Body::Started
            | Body::Listens => {}
        }
    }

    fn fork(&mut self, event: &Event<'_>, child: u32) {
        if !self.choices.subprocesses {
            self.tables.unwatch(child);
            return;
        }
        self.symbols.fork(event.pid, child, event.time_ns);
        if let Some(natives) = &mut self.natives {
            natives.fork(event.pid, child);
        }
        if self.members.contains_key(&child) {
            return; // Found in `/proc` before this was drained.
        }
        let parent = self.members.get(&event.pid);
        let mut member = Member::new(parent.map_or_else(|| "?".into(), |parent| Arc::clone(&parent.title)));
        // A child has what the kernel half knew of its parent then, which may be less than is known here now.
        let parent = parent.filter(|parent| parent.known_ns <= event.time_ns);
        member.interpreter = parent.and_then(|parent| parent.interpreter.clone());
        member.known_ns = event.time_ns;
        if member.interpreter.is_none() {
            self.newcomers.add(child, monotonic_ns());
        }
        self.members.insert(child, member);
    }

    /// The kernel half has let go of it. What it runs now may be Python, or start something that is.
    fn exec(&mut self, pid: u32) {
        self.symbols.forget(pid);
        if let Some(natives) = &mut self.natives {
            natives.forget(pid);
        }
        let now = monotonic_ns();
        let title =
            title_of(self.procfs, pid, self.members.get(&pid).map_or("?", |before| before.title.as_ref()));
        self.members.insert(pid, Member::new(title));
        self.newcomers.add(pid, now);
        let target =
            Target { layout: Layout::default(), generation: now, follow_exec: 1, ..Target::default() };
        if let Err(error) = self.tables.watch(pid, target, false) {
            tracing::error!(pid, "a started program is not recorded: {error}");
        }
        if self.procfs.stat(pid).is_err() {
            self.tables.unwatch(pid);
            self.members.remove(&pid);
            self.newcomers.remove(pid);
        }
    }

    fn announced(
        &mut self,
        pid: u32,
        stack: StackId,
        (frames, entries): (&[pyapm_wire::python::Frame], &[u8]),
        gap: Option<Gap>,
        status: StackStatus,
    ) {
        *self.has_news = true;
        let Some(interpreter) = self.interpreter(pid) else { return };
        if let Some(natives) = &mut self.natives {
            let memory = ProcessMemory::new(pid);
            let names = frames.iter().map(|frame| {
                let one = self.symbols.resolve(pid, &interpreter, &memory, std::slice::from_ref(frame));
                one.first().cloned()
            });
            let is_whole = status == StackStatus::Complete && gap.is_none();
            natives.announced(pid, stack, PythonStack::new(names, entries, is_whole));
        }
        let place = self.named(pid, &interpreter, frames, gap, status);
        if let Some(member) = self.members.get_mut(&pid) {
            if member.stacks.len() >= MAX_STACKS {
                // Those still in use are announced again when they are asked for.
                member.stacks.clear();
            }
            member.stacks.insert(stack, place);
        }
    }

    pub(super) fn named(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        frames: &[pyapm_wire::python::Frame],
        gap: Option<Gap>,
        status: StackStatus,
    ) -> Place {
        let named = self.symbols.resolve_with_gap(pid, interpreter, &ProcessMemory::new(pid), frames, gap);
        let cut = match status {
            StackStatus::Truncated => Some(marked(mark::TRUNCATED)),
            StackStatus::Unreadable => Some(marked(mark::CUT)),
            _ => None,
        };
        if self.choices.selection.keeps(&named) {
            Place::In(self.profile.stack(cut.iter().chain(named.iter().rev())))
        } else {
            Place::LeftOut
        }
    }

    /// Of a process whose fork was lost it is found out now.
    fn interpreter(&mut self, pid: u32) -> Option<Arc<Interpreter>> {
        if let Some(known) = self.members.get(&pid).and_then(|member| member.interpreter.clone()) {
            return Some(known);
        }
        if !self.choices.subprocesses && !self.members.contains_key(&pid) {
            return None; // A fork, in the moment before the kernel half let go of it.
        }
        let found = Arc::new(self.inspector.inspect(pid).ok()?);
        let procfs = self.procfs;
        let member = self.members.entry(pid).or_insert_with(|| Member::new(title_of(procfs, pid, "?")));
        member.interpreter = Some(Arc::clone(&found));
        Some(found)
    }

    fn sample(&mut self, event: &Event<'_>, stack: Option<StackId>, status: StackStatus, holds_gil: bool) {
        if !self.window.has(event.time_ns) {
            return; // While sleepers were looked for, or the probes taken away.
        }
        if status == StackStatus::NoLayout {
            self.apart.not_python += 1;
            return;
        }
        if !self.members.contains_key(&event.pid) {
            // A fork that is not wanted, in the moment before the kernel half let go of it.
            return;
        }
        if self.choices.mode == Mode::Gil && !holds_gil {
            self.apart.without_gil += 1;
            return;
        }
        let place = match self.native_place(event, stack, status) {
            Some(native) => native,
            None => self.place(event.pid, stack, status),
        };
        match place {
            Place::LeftOut => self.apart.left_out += 1,
            Place::In(stack) => {
                let thread = self.thread(event.pid, event.tid);
                let weight = Weight { samples: 1, nanoseconds: self.period_ns };
                self.profile.add(thread, State::Cpu, stack, weight);
            }
        }
    }

    pub(super) fn place(&mut self, pid: u32, stack: Option<StackId>, status: StackStatus) -> Place {
        match (stack, status) {
            (Some(id), _) => match self.members.get(&pid).and_then(|member| member.stacks.get(&id)) {
                Some(place) => *place,
                None => {
                    self.apart.stacks_unknown += 1;
                    // Have it sent with the next record that has it.
                    self.tables.forget_stack(id.0);
                    self.marked_place(mark::LOST)
                }
            },
            (None, StackStatus::NoThreadState) => self.marked_place(mark::NATIVE_THREAD),
            (None, StackStatus::NoFrame) => self.marked_place(mark::NO_FRAME),
            (None, _) => self.marked_place(mark::UNREADABLE),
        }
    }

    /// With native frames, where they are asked for and there are any.
    fn native_place(
        &mut self,
        event: &Event<'_>,
        stack: Option<StackId>,
        status: StackStatus,
    ) -> Option<Place> {
        let natives = self.natives.as_deref_mut()?;
        let mut frames = natives.joined(event.pid, event.tid, event.time_ns, stack)?;
        match status {
            StackStatus::Truncated => frames.push(marked(mark::TRUNCATED)),
            StackStatus::Unreadable => frames.push(marked(mark::CUT)),
            _ => {}
        }
        if frames.is_empty() {
            return None;
        }
        Some(if self.choices.selection.keeps(&frames) {
            Place::In(self.profile.stack(frames.iter().rev()))
        } else {
            Place::LeftOut
        })
    }

    fn marked_place(&mut self, name: &str) -> Place {
        let frame = marked(name);
        if self.choices.selection.keeps(std::slice::from_ref(&frame)) {
            Place::In(self.profile.stack([&frame]))
        } else {
            Place::LeftOut
        }
    }

    pub(super) fn thread(&mut self, pid: u32, tid: u32) -> Option<usize> {
        let member = self.members.get_mut(&pid)?;
        if let Some(known) = member.threads.get(&tid) {
            return *known;
        }
        // A fork has its parent's title until it takes its own, as workers of servers do.
        member.title = title_of(self.procfs, pid, &member.title);
        let name = self.procfs.thread_name(pid, tid).ok();
        let name = name.and_then(|name| own_name(self.procfs, pid, name));
        let thread = self.profile.thread(Thread { pid, tid, process: Arc::clone(&member.title), name });
        if let Some(thread) = thread {
            self.young.push((pid, tid, thread));
        }
        member.threads.insert(tid, thread);
        thread
    }
}

/// A frame of the recorder itself.
fn marked(name: &str) -> Frame {
    Frame { function: name.into(), file: SmolStr::default(), line: None }
}
