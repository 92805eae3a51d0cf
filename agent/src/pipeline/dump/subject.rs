//! One process of a dump: its threads, and what was learnt of each.

use super::state::Surroundings;
use crate::binaries::mappings;
use crate::python::{
    AsyncioOffsets, BoundedMemory, Chain, FrameAt, Gil, Interpreter, Local, Memory, Objects, ProcessMemory,
    StackOfThread, SuspendedTask, ThreadState, by_tid, stack_of_thread, thread_states, while_parked,
};
use crate::symbols::Symbols;
use crate::targets::{Descriptors, ProcFs};
use pyapm_model::dump::{self, DumpFrame, LeftOut, NameSource, Process, Stack, State};
use pyapm_model::stack;
use std::collections::{BTreeMap, HashMap};

/// The minor version that says where its tasks are.
const ASYNCIO_SINCE: u8 = 14;
/// Threads of one process that are looked at.
const MAX_THREADS: usize = 16_384;
/// Reads of memory for the names of all threads, and for the local variables of one: what is not had by then is
/// left unknown.
const MAX_READS: u64 = 1_000_000;
/// Readings until the lists of threads have held still.
const TRIES: usize = 5;

pub(super) struct Subject {
    pub(super) pid: u32,
    pub(super) interpreter: Interpreter,
    command: Vec<String>,
    with_locals: bool,
    memory: ProcessMemory,
    procfs: ProcFs,
    descriptors: Descriptors,
    /// By tid.
    threads: BTreeMap<u32, Seen>,
    /// Those of the last look.
    states: Vec<ThreadState>,
    /// As of the first look.
    gil: Option<Gil>,
    names: HashMap<u64, String>,
    /// `None` before 3.14, or without `asyncio`.
    asyncio: Option<AsyncioOffsets>,
    /// Before 3.14: the interpreter has imported `asyncio`.
    has_registry: bool,
}

/// One thread.
#[derive(Default)]
struct Seen {
    /// The kernel's name.
    comm: Option<String>,
    /// The key to its Python name.
    ident: Option<u64>,
    tstate: Option<u64>,
    taken: Option<Taken>,
}

/// What was learnt of a thread, once and for all.
enum Taken {
    Parked {
        state: State,
        holds_gil: Option<bool>,
        chain: Chain,
        /// One entry a frame, if they were asked for.
        locals: Option<Vec<Option<Vec<Local>>>>,
        /// The one that it is in.
        task: Option<String>,
        suspended: Vec<SuspendedTask>,
    },
    Sampled {
        frames: stack::Stack,
        left_out: Option<LeftOut>,
    },
    NoPython {
        state: State,
    },
}

/// What one look inside the proof gives.
struct Look {
    ident: Option<u64>,
    tstate: Option<u64>,
    taken: Option<Taken>,
}

impl Subject {
    pub(super) fn new(pid: u32, command: Vec<String>, interpreter: Interpreter, with_locals: bool) -> Self {
        let mut subject = Self {
            pid,
            command,
            with_locals,
            memory: ProcessMemory::new(pid),
            procfs: ProcFs::new(),
            descriptors: Descriptors::of(pid),
            threads: BTreeMap::new(),
            states: Vec::new(),
            gil: None,
            names: HashMap::new(),
            asyncio: None,
            has_registry: false,
            interpreter,
        };
        subject.list_threads();
        subject.gil = subject.main_gil();
        subject.list_states();
        subject.names = subject.thread_names();
        if subject.interpreter.version.minor >= ASYNCIO_SINCE {
            let mappings = mappings(pid).unwrap_or_default();
            subject.asyncio = AsyncioOffsets::find(pid, &subject.memory, &mappings);
        } else {
            subject.has_registry = subject.registry().is_some();
        }
        subject
    }

    /// The threads that there are; those that start later are not of this moment.
    fn list_threads(&mut self) {
        let tids = self.procfs.tasks(self.pid).unwrap_or_default();
        self.threads = tids.into_iter().take(MAX_THREADS).map(|tid| (tid, Seen::default())).collect();
        for (tid, seen) in &mut self.threads {
            seen.comm = self.procfs.task_stat(self.pid, *tid).ok().map(|stat| stat.comm);
        }
    }

    fn list_states(&mut self) {
        let offsets = &self.interpreter.offsets;
        let runtime = self.interpreter.runtime_address;
        let states = (0..TRIES).find_map(|_| thread_states(&self.memory, offsets, runtime).ok());
        self.states = states.unwrap_or_default();
    }

    fn objects<'a>(&'a self, memory: &'a dyn Memory) -> Option<Objects<'a>> {
        Objects::new(memory, &self.interpreter.offsets, self.interpreter.version.minor)
    }

    fn main_gil(&self) -> Option<Gil> {
        let objects = self.objects(&self.memory)?;
        let main = objects.main_interpreter(self.interpreter.runtime_address).ok()?;
        objects.gil(self.interpreter.runtime_address, main).ok()
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.threads.values().any(|seen| seen.taken.is_none())
    }

    pub(super) fn wants(&self, tid: u32) -> bool {
        self.threads.get(&tid).is_some_and(|seen| seen.taken.is_none())
    }

    /// Whether the process is still there, and the same program.
    pub(super) fn lives(&self) -> bool {
        self.procfs.stat(self.pid).is_ok_and(|stat| !stat.is_zombie())
    }

    /// Takes over what a thread told of itself as it ran; `frames` is `None` when it runs no Python code.
    pub(super) fn sampled(&mut self, tid: u32, frames: Option<(stack::Stack, Option<LeftOut>)>) {
        if let Some(seen) = self.threads.get_mut(&tid)
            && seen.taken.is_none()
        {
            seen.taken = Some(match frames {
                Some((frames, left_out)) => Taken::Sampled { frames, left_out },
                None => Taken::NoPython { state: State::OnCpu },
            });
        }
    }

    /// Reads every thread of which nothing is known yet, and which is asleep.
    pub(super) fn look(&mut self) {
        self.list_states();
        let by_tid = by_tid(&self.memory, &self.states);
        let outstanding: Vec<u32> =
            self.threads.iter().filter(|(_, seen)| seen.taken.is_none()).map(|(tid, _)| *tid).collect();
        for tid in outstanding {
            let look = while_parked(self.pid, tid, |inner| self.look_at(tid, by_tid.get(&inner)));
            let inner = self.inner_tid(tid);
            let Some(seen) = self.threads.get_mut(&tid) else { continue };
            match look {
                Some(look) => {
                    seen.ident = look.ident;
                    seen.tstate = look.tstate;
                    seen.taken = look.taken;
                }
                None => {
                    let state = inner.and_then(|inner| by_tid.get(&inner));
                    seen.ident = state.map(|state| state.thread_id);
                    seen.tstate = state.map(|state| state.address);
                }
            }
        }
        // A thread that has ended is not of this moment, either.
        let living = self.procfs.tasks(self.pid).unwrap_or_default();
        self.threads.retain(|tid, seen| seen.taken.is_some() || living.binary_search(tid).is_ok());
    }

    /// The tid in the process's own pid namespace.
    fn inner_tid(&self, tid: u32) -> Option<u64> {
        self.procfs.namespace_pids(tid).ok()?.last().map(|tid| u64::from(*tid))
    }

    /// Names of all interpreters that threads are of.
    fn thread_names(&self) -> HashMap<u64, String> {
        let memory = BoundedMemory::new(&self.memory, MAX_READS);
        let Some(objects) = self.objects(&memory) else { return HashMap::new() };
        let mut interpreters: Vec<u64> = self.states.iter().map(|state| state.interpreter).collect();
        interpreters.sort_unstable();
        interpreters.dedup();
        interpreters
            .into_iter()
            .take(64)
            .filter_map(|interpreter| objects.thread_names(interpreter).ok())
            .flatten()
            .collect()
    }

    /// All that is wanted of a thread that is asleep.
    fn look_at(&self, tid: u32, thread: Option<&ThreadState>) -> Look {
        let gil = thread.and_then(|thread| {
            self.objects(&self.memory)?.gil(self.interpreter.runtime_address, thread.interpreter).ok()
        });
        let surroundings =
            Surroundings { procfs: &self.procfs, pid: self.pid, descriptors: &self.descriptors, gil };
        let state = surroundings.state(tid);
        let Some(thread) = thread else {
            return Look { ident: None, tstate: None, taken: Some(Taken::NoPython { state }) };
        };
        let ident = Some(thread.thread_id);
        let Some(StackOfThread { tstate, chain }) = stack_of_thread(&self.interpreter, &self.memory, thread)
        else {
            return Look { ident, tstate: None, taken: None };
        };
        let holds_gil = gil.map(|gil| gil.held && gil.last_holder == tstate);
        let taken = if chain.frames.is_empty() {
            Taken::NoPython { state }
        } else {
            let locals = self.with_locals.then(|| self.locals(&chain.frames));
            let (task, suspended) = self.tasks(tstate, thread);
            Taken::Parked { state, holds_gil, chain, locals, task, suspended }
        };
        Look { ident, tstate: Some(tstate), taken: Some(taken) }
    }

    /// The task that a thread is in, and those that are suspended on its loop.
    fn tasks(&self, tstate: u64, thread: &ThreadState) -> (Option<String>, Vec<SuspendedTask>) {
        let memory = BoundedMemory::new(&self.memory, MAX_READS);
        if self.has_registry {
            let tasks = self
                .objects(&memory)
                .map(|objects| objects.registered_tasks(thread.interpreter, thread.thread_id));
            let tasks = tasks.and_then(Result::ok).flatten().unwrap_or_default();
            return (tasks.running, tasks.suspended);
        }
        let (Some(offsets), Some(objects)) = (&self.asyncio, self.objects(&memory)) else {
            return (None, Vec::new());
        };
        let running = objects.running_task(offsets, tstate).ok().flatten();
        (running, objects.suspended_tasks(offsets, tstate).unwrap_or_default())
    }

    /// The dict of `asyncio.tasks`, if the main interpreter has imported it.
    fn registry(&self) -> Option<u64> {
        let memory = BoundedMemory::new(&self.memory, MAX_READS);
        let objects = self.objects(&memory)?;
        let interpreter = objects.main_interpreter(self.interpreter.runtime_address).ok()?;
        objects.module_dict(interpreter, "asyncio.tasks").ok()?
    }

    fn locals(&self, frames: &[FrameAt]) -> Vec<Option<Vec<Local>>> {
        let memory = BoundedMemory::new(&self.memory, MAX_READS);
        let objects = self.objects(&memory);
        frames.iter().map(|found| objects?.locals(found.address, found.frame.code).ok()).collect()
    }

    /// Puts what was learnt into the model's words.
    pub(super) fn finish(mut self, symbols: &mut Symbols) -> Process {
        // Those of threads that were being started at the first look.
        for (ident, name) in self.thread_names() {
            self.names.entry(ident).or_insert(name);
        }
        let gil = self.gil.map(|gil| dump::Gil {
            held: gil.held,
            holder: gil.held.then(|| self.holder(&gil)).flatten(),
            enabled: gil.enabled,
        });
        let threads = std::mem::take(&mut self.threads);
        let mut tasks = (self.asyncio.is_some() || self.has_registry).then(Vec::new);
        let mut threads: Vec<dump::Thread> =
            threads.into_iter().map(|(tid, seen)| self.thread(tid, seen, &mut tasks, symbols)).collect();
        threads.sort_by_key(|thread| (!thread.is_main, thread.tid));
        Process {
            pid: self.pid,
            command: self.command,
            python: Some(self.interpreter.version.to_string()),
            problem: None,
            gil,
            threads,
            tasks,
        }
    }

    fn holder(&self, gil: &Gil) -> Option<u32> {
        let of_state = |seen: &Seen| seen.tstate == Some(gil.last_holder);
        self.threads.iter().find(|(_, seen)| of_state(seen)).map(|(tid, _)| *tid)
    }

    fn thread(
        &self,
        tid: u32,
        seen: Seen,
        tasks: &mut Option<Vec<dump::Task>>,
        symbols: &mut Symbols,
    ) -> dump::Thread {
        let python_name = seen.ident.and_then(|ident| self.names.get(&ident).cloned());
        let name_source = if python_name.is_some() { NameSource::Python } else { NameSource::Kernel };
        let mut thread = dump::Thread {
            tid,
            name: python_name.or(seen.comm),
            name_source,
            is_main: tid == self.pid,
            state: State::Running,
            task: None,
            transactions: None,
            holds_gil: None,
            stack: Stack::Unreadable,
            frames: Vec::new(),
            left_out: None,
        };
        match seen.taken {
            None => {}
            Some(Taken::NoPython { state }) => {
                thread.state = state;
                thread.stack = Stack::NoPython;
                thread.holds_gil = Some(false);
            }
            Some(Taken::Sampled { frames, left_out }) => {
                thread.state = State::OnCpu;
                thread.stack = Stack::Sampled;
                thread.left_out = left_out;
                thread.frames =
                    frames.iter().map(|frame| DumpFrame { frame: frame.clone(), locals: None }).collect();
            }
            Some(Taken::Parked { state, holds_gil, chain, locals, task, suspended }) => {
                thread.state = state;
                thread.task = task;
                thread.stack = Stack::Parked;
                thread.holds_gil = holds_gil;
                thread.left_out = (chain.left_out > 0)
                    .then_some(LeftOut { after: Chain::MAX_INNER, frames: Some(chain.left_out as u64) });
                let raw: Vec<_> = chain.frames.iter().map(|found| found.frame).collect();
                let named = symbols.resolve(self.pid, &self.interpreter, &self.memory, &raw);
                if let Some(tasks) = tasks {
                    tasks.extend(suspended.into_iter().map(|task| dump::Task {
                        name: task.name,
                        tid,
                        frames:
                            symbols.resolve(self.pid, &self.interpreter, &self.memory, &task.frames).to_vec(),
                        awaited_by: task.awaited_by,
                    }));
                }
                let locals = locals.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
                thread.frames = named
                    .iter()
                    .zip(locals)
                    .map(|(frame, locals)| DumpFrame { frame: frame.clone(), locals: locals.map(shown) })
                    .collect();
            }
        }
        thread
    }
}

fn shown(locals: Vec<Local>) -> Vec<dump::Local> {
    locals
        .into_iter()
        .map(|local| dump::Local {
            name: local.name,
            value: local.value.unwrap_or_else(|| crate::symbols::UNKNOWN.to_owned()),
        })
        .collect()
}
