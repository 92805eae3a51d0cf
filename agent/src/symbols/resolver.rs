//! From the kernel half's frames to named ones, and the stacks that were announced.

use super::cache::Cache;
use super::clock::monotonic_ns;
use super::limits::Limits;
use crate::intake::{Gap, StackId};
use crate::python::{Code, ExceptionClass, Interpreter, Memory, ObjectError, read_code};
use foldhash::{HashMap, HashMapExt};
use pyapm_model::line::Frame;
use pyapm_model::stack::Stack;
use pyapm_wire::python::Frame as RawFrame;
use smol_str::SmolStr;
use std::sync::Arc;

/// Function and file of a frame whose code object could not be read, or was no longer the same.
pub const UNKNOWN: &str = "?";

/// The frame that stands for so many which a stack was too deep for.
#[must_use]
pub fn left_out(frames: u32) -> Frame {
    Frame {
        function: format!("[... {frames} frames left out ...]").into(),
        file: SmolStr::default(),
        line: None,
    }
}

/// What could not be named, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames whose code object had been replaced by another one before it was read.
    pub code_replaced: u64,
    /// Frames whose code object could not be read: the process has gone, or the memory holds something else.
    pub code_unreadable: u64,
}

impl Counts {
    /// Names as outputs show them, with values.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 2] {
        [("code_replaced", self.code_replaced), ("code_unreadable", self.code_unreadable)]
    }
}

/// One life of a pid: never used twice, so what is known of a process that has gone can stay until it ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incarnation(u64);

/// An ancestor of a process.
#[derive(Clone, Copy, Debug)]
struct Ancestor {
    process: Incarnation,
    /// What was read of it before this moment, the process inherited.
    before_ns: u64,
}

#[derive(Clone, Debug)]
struct Process {
    incarnation: Incarnation,
    /// Parent first.
    ancestors: Arc<[Ancestor]>,
}

/// A code object as the kernel half saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeKey {
    process: Incarnation,
    address: u64,
    identity: u32,
}

#[derive(Clone, Debug)]
struct Known {
    code: Arc<Code>,
    /// When it had been read, by the kernel half's clock.
    read_ns: u64,
}

/// Generations of a process that are searched for what it inherited.
const MAX_GENERATIONS: usize = 8;

/// The memory of code objects and stacks, of all processes together.
///
/// # What a process inherits
///
/// A forked child begins with its parent's memory, so a code object that was read from the parent *before*
/// the fork names the child's frames too, as long as the child's own frame shows the same identity: the
/// kernel half folds that from the child's memory when the frame runs. What was read from the parent after
/// the fork is never used: parent and child allocate alike from then on, so that different code objects can
/// lie at the same addresses with the same pointers in them. What remains is a code object that the child
/// freed and replaced by one with the same address, the same addresses of name, file name and line table and
/// the same first line; from 3.12 on `co_version` tells those apart too. The same holds within one process.
#[derive(Debug)]
pub struct Symbols {
    codes: Cache<CodeKey, Known>,
    /// Of instructions that were met: a code object's table has to be gone through from its start.
    lines: Cache<(CodeKey, i32), Option<u32>>,
    stacks: Cache<(Incarnation, StackId), Stack>,
    pub(super) classes: Cache<(Incarnation, u64), (Arc<str>, Arc<ExceptionClass>)>,
    processes: HashMap<u32, Process>,
    next_incarnation: u64,
    max_processes: usize,
    counts: Counts,
    clock: fn() -> u64,
}

impl Symbols {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            codes: Cache::new(limits.code_bytes),
            lines: Cache::new(limits.lines),
            stacks: Cache::new(limits.stack_bytes),
            classes: Cache::new(limits.class_bytes),
            processes: HashMap::new(),
            next_incarnation: 0,
            max_processes: limits.processes,
            counts: Counts::default(),
            clock: monotonic_ns,
        }
    }

    /// Names for frames of process `pid`, in their order. A frame that cannot be named honestly has `?` for
    /// function and file and no line, and is counted. The interpreter's own frames are left out.
    pub fn resolve(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        memory: &dyn Memory,
        frames: &[RawFrame],
    ) -> Stack {
        frames.iter().filter_map(|frame| self.named(pid, interpreter, memory, frame)).collect()
    }

    /// As [`Self::resolve`], with a mark in place of the frames that were too many.
    pub fn resolve_with_gap(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        memory: &dyn Memory,
        frames: &[RawFrame],
        gap: Option<Gap>,
    ) -> Stack {
        let Some(gap) = gap else { return self.resolve(pid, interpreter, memory, frames) };
        let (inner, outer) = frames.split_at(gap.after.min(frames.len()));
        let mut named: Vec<Frame> =
            inner.iter().filter_map(|frame| self.named(pid, interpreter, memory, frame)).collect();
        named.push(left_out(gap.frames));
        named.extend(outer.iter().filter_map(|frame| self.named(pid, interpreter, memory, frame)));
        named.into()
    }

    fn named(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        memory: &dyn Memory,
        frame: &RawFrame,
    ) -> Option<Frame> {
        match self.code(pid, interpreter, memory, frame) {
            Some((_, code)) if code.is_shim() => None,
            Some((key, code)) => Some(Frame {
                function: SmolStr::from(Arc::clone(&code.function)),
                file: SmolStr::from(Arc::clone(&code.file)),
                line: self.line(key, &code, frame.instruction),
            }),
            None => Some(Frame { function: UNKNOWN.into(), file: UNKNOWN.into(), line: None }),
        }
    }

    fn line(&mut self, key: CodeKey, code: &Code, instruction: i32) -> Option<u32> {
        if let Some(known) = self.lines.get((key, instruction)) {
            return known;
        }
        let line = code.lines.line(instruction);
        self.lines.insert((key, instruction), line, 1);
        line
    }

    fn code(
        &mut self,
        pid: u32,
        interpreter: &Interpreter,
        memory: &dyn Memory,
        frame: &RawFrame,
    ) -> Option<(CodeKey, Arc<Code>)> {
        let process = self.process(pid);
        let key = CodeKey { process: process.incarnation, address: frame.code, identity: frame.identity };
        if let Some(known) = self.codes.get(key).or_else(|| self.inherited(key, &process.ancestors)) {
            return Some((key, known.code));
        }
        match read_code(memory, &interpreter.offsets, frame.code) {
            Ok(code) if code.identity == frame.identity => {
                let code = Arc::new(code);
                let weight = 200 + code.function.len() + code.file.len() + code.lines.bytes().len();
                self.codes.insert(key, Known { code: Arc::clone(&code), read_ns: (self.clock)() }, weight);
                Some((key, code))
            }
            Ok(_) | Err(ObjectError::Changed { .. }) => {
                self.counts.code_replaced += 1;
                None
            }
            Err(_) => {
                self.counts.code_unreadable += 1;
                None
            }
        }
    }

    /// What the process's ancestors had been read to hold before they forked.
    fn inherited(&mut self, key: CodeKey, ancestors: &[Ancestor]) -> Option<Known> {
        ancestors.iter().find_map(|ancestor| {
            let known = self.codes.get(CodeKey { process: ancestor.process, ..key })?;
            (known.read_ns < ancestor.before_ns).then_some(known)
        })
    }

    pub(super) fn incarnation(&mut self, pid: u32) -> Incarnation {
        self.process(pid).incarnation
    }

    /// The process that has this pid now.
    fn process(&mut self, pid: u32) -> Process {
        if let Some(process) = self.processes.get(&pid) {
            return process.clone();
        }
        self.add_process(pid, Arc::from([]))
    }

    fn add_process(&mut self, pid: u32, ancestors: Arc<[Ancestor]>) -> Process {
        if self.processes.len() >= self.max_processes {
            // Whichever it is, it is read anew when it is seen again.
            if let Some(other) = self.processes.keys().next().copied() {
                self.processes.remove(&other);
            }
        }
        self.next_incarnation += 1;
        let process = Process { incarnation: Incarnation(self.next_incarnation), ancestors };
        self.processes.insert(pid, process.clone());
        process
    }

    /// Keeps the named frames of a stack id.
    pub fn announce(&mut self, pid: u32, stack: StackId, frames: Stack) {
        // The names are the code objects'. The text is kept of those that are written again, which are few.
        let bytes = 64 + frames.len() * size_of::<Frame>();
        let process = self.process(pid).incarnation;
        self.stacks.insert((process, stack), frames, bytes);
    }

    /// The frames of a stack id that was announced and not forgotten since.
    pub fn stack(&mut self, pid: u32, stack: StackId) -> Option<Stack> {
        let process = self.processes.get(&pid)?.incarnation;
        self.stacks.get((process, stack))
    }

    /// Process `parent` forked `child` at `forked_ns` (`CLOCK_MONOTONIC` nanoseconds, as the kernel half
    /// stamps it). Must be told before any frame of the child is resolved for that to be of use.
    pub fn fork(&mut self, parent: u32, child: u32, forked_ns: u64) {
        let parent = self.process(parent);
        let first = Ancestor { process: parent.incarnation, before_ns: forked_ns };
        let earlier = parent.ancestors.iter().map(|ancestor| Ancestor {
            process: ancestor.process,
            before_ns: ancestor.before_ns.min(forked_ns),
        });
        let ancestors = std::iter::once(first).chain(earlier).take(MAX_GENERATIONS).collect();
        // The pid may have been another process's before.
        self.forget(child);
        self.add_process(child, ancestors);
    }

    /// The process has ended, or runs another program now. What its children inherited stays theirs.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::{BufferMemory, Embedding, MemoryError, OffsetsSource, Version, read_identity, table};
    use pyapm_wire::python::Layout;
    use std::path::PathBuf;

    const CODE: u64 = 0x1_0000;
    const TYPE: u64 = 0x8f_d440;
    const NAME: u64 = 0x2_0000;
    const FILE: u64 = 0x3_0000;
    const LINES: u64 = 0x4_0000;

    fn interpreter() -> Interpreter {
        Interpreter {
            version: Version::from_hex(0x030b_07f0),
            file: PathBuf::from("/usr/bin/python3.11"),
            embedding: Embedding::Static,
            runtime_address: 0,
            layout: Layout::default(),
            offsets: *table(11).unwrap(),
            offsets_source: OffsetsSource::Table,
            collector: None,
            raising: None,
            code_deaths: None,
            thread_state_route: String::new(),
            contexts: crate::python::ContextCode::default(),
            notes: Vec::new(),
        }
    }

    fn compact_ascii(text: &str) -> Vec<u8> {
        let mut object = vec![0; 48];
        object[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
        object[32] = 1 << 2 | 1 << 5 | 1 << 6;
        object.extend_from_slice(text.as_bytes());
        object
    }

    /// A process that holds one code object of 3.11, all of whose instructions are on its first line.
    fn process(name: &str, firstlineno: u32) -> (BufferMemory, RawFrame) {
        process_with(*b"code\0", name, firstlineno)
    }

    /// The same, of an object whose type has this name.
    fn process_with(kind: [u8; 5], name: &str, firstlineno: u32) -> (BufferMemory, RawFrame) {
        let mut code = vec![0; 192];
        code[0] = 1;
        code[8..16].copy_from_slice(&TYPE.to_le_bytes());
        code[72..76].copy_from_slice(&firstlineno.to_le_bytes());
        for (at, pointer) in [(112, FILE), (120, NAME), (128, NAME), (136, LINES)] {
            code[at..at + 8].copy_from_slice(&pointer.to_le_bytes());
        }
        let mut lines = vec![0; 32];
        lines[16] = 2;
        lines.extend_from_slice(&[0x87, 0]);
        let mut memory = BufferMemory::new();
        for (address, bytes) in
            [(CODE, code), (NAME, compact_ascii(name)), (FILE, compact_ascii("/srv/a.py")), (LINES, lines)]
        {
            memory.add(address, bytes);
        }
        memory.add(TYPE + 24, (TYPE + 32).to_le_bytes().to_vec());
        memory.add(TYPE + 32, kind.to_vec());
        let identity = read_identity(&memory, table(11).unwrap(), CODE).unwrap();
        (memory, RawFrame { code: CODE, instruction: 4, identity })
    }

    fn named(function: &str, line: u32) -> Frame {
        Frame { function: function.into(), file: "/srv/a.py".into(), line: Some(line) }
    }

    fn unknown() -> Frame {
        Frame { function: "?".into(), file: "?".into(), line: None }
    }

    fn symbols(clock: fn() -> u64) -> Symbols {
        Symbols { clock, ..Symbols::new(Limits::default()) }
    }

    #[test]
    fn names_survive_the_process() {
        let mut symbols = Symbols::new(Limits::default());
        let (memory, frame) = process("view", 7);
        assert_eq!(&*symbols.resolve(1, &interpreter(), &memory, &[frame]), &[named("view", 7)]);
        let gone = BufferMemory::new();
        assert_eq!(&*symbols.resolve(1, &interpreter(), &gone, &[frame]), &[named("view", 7)]);
        assert_eq!(symbols.counts(), Counts::default());
        symbols.forget(1);
        assert_eq!(&*symbols.resolve(1, &interpreter(), &gone, &[frame]), &[unknown()]);
        assert_eq!(symbols.counts(), Counts { code_replaced: 0, code_unreadable: 1 });
    }

    #[test]
    fn a_replaced_code_object_names_nothing() {
        let mut symbols = Symbols::new(Limits::default());
        let (_, seen) = process("view", 7);
        let (memory, _) = process("other", 70);
        assert_eq!(&*symbols.resolve(1, &interpreter(), &memory, &[seen]), &[unknown()]);
        assert_eq!(symbols.counts().named(), [("code_replaced", 1), ("code_unreadable", 0)]);
    }

    #[test]
    fn what_is_no_code_object_names_nothing() {
        let mut symbols = Symbols::new(Limits::default());
        let (memory, seen) = process_with(*b"tuple", "view", 7);
        assert_eq!(&*symbols.resolve(1, &interpreter(), &memory, &[seen]), &[unknown()]);
        assert_eq!(symbols.counts(), Counts { code_replaced: 1, code_unreadable: 0 });
    }

    #[test]
    fn what_was_known_is_not_given_to_its_successor() {
        let mut symbols = Symbols::new(Limits::default());
        let (memory, first) = process("view", 7);
        symbols.resolve(1, &interpreter(), &memory, &[first]);
        let (memory, second) = process("other", 70);
        let both = symbols.resolve(1, &interpreter(), &memory, &[first, second]);
        assert_eq!(&*both, &[named("view", 7), named("other", 70)]);
    }

    #[test]
    fn a_code_object_that_changes_while_it_is_read() {
        /// Gives another first line at each read of the code object.
        struct Changing(BufferMemory, std::cell::Cell<u8>);
        impl Memory for Changing {
            fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
                self.0.read(address, buffer)?;
                let line = (CODE + 72).checked_sub(address).and_then(|at| buffer.get_mut(at as usize));
                if let Some(line) = line {
                    *line += self.1.replace(self.1.get() + 1);
                }
                Ok(())
            }
        }
        let mut symbols = Symbols::new(Limits::default());
        let (memory, frame) = process("view", 7);
        let memory = Changing(memory, std::cell::Cell::new(0));
        assert_eq!(&*symbols.resolve(1, &interpreter(), &memory, &[frame]), &[unknown()]);
        assert_eq!(symbols.counts(), Counts { code_replaced: 1, code_unreadable: 0 });
    }

    #[test]
    fn children_inherit_what_was_read_before_the_fork() {
        let gone = BufferMemory::new();
        let (memory, frame) = process("view", 7);
        let mut symbols = symbols(|| 100);
        symbols.resolve(1, &interpreter(), &memory, &[frame]);
        symbols.fork(1, 2, 101);
        symbols.fork(2, 3, 102);
        assert_eq!(&*symbols.resolve(2, &interpreter(), &gone, &[frame]), &[named("view", 7)]);
        assert_eq!(&*symbols.resolve(3, &interpreter(), &gone, &[frame]), &[named("view", 7)]);
        // Forked before the parent was read: what lay there then is not known.
        symbols.fork(1, 4, 99);
        symbols.fork(4, 5, 200);
        assert_eq!(&*symbols.resolve(4, &interpreter(), &gone, &[frame]), &[unknown()]);
        assert_eq!(&*symbols.resolve(5, &interpreter(), &gone, &[frame]), &[unknown()]);
        // Another identity is another code object.
        let other = RawFrame { identity: frame.identity ^ 1, ..frame };
        assert_eq!(&*symbols.resolve(2, &interpreter(), &gone, &[other]), &[unknown()]);
        // The parent's end changes nothing for its children, and gives nothing to the next with its pid.
        symbols.forget(1);
        symbols.forget(2);
        assert_eq!(&*symbols.resolve(3, &interpreter(), &gone, &[frame]), &[named("view", 7)]);
        symbols.fork(1, 6, 300);
        assert_eq!(&*symbols.resolve(6, &interpreter(), &gone, &[frame]), &[unknown()]);
        // Nor does a process that runs another program keep anything.
        symbols.forget(3);
        assert_eq!(&*symbols.resolve(3, &interpreter(), &gone, &[frame]), &[unknown()]);
    }

    #[test]
    fn a_long_line_of_ancestors_is_cut() {
        let mut symbols = symbols(|| 1);
        for pid in 1..100 {
            symbols.fork(pid, pid + 1, 10);
        }
        assert_eq!(symbols.process(100).ancestors.len(), MAX_GENERATIONS);
    }

    #[test]
    fn stacks() {
        let mut symbols = Symbols::new(Limits::default());
        let (memory, frame) = process("view", 7);
        let frames = symbols.resolve(1, &interpreter(), &memory, &[frame, frame]);
        symbols.announce(1, StackId(9), frames.clone());
        assert_eq!(symbols.stack(1, StackId(9)), Some(frames));
        assert_eq!(symbols.stack(2, StackId(9)), None);
        assert_eq!(symbols.stack(1, StackId(8)), None);
        symbols.forget(1);
        assert_eq!(symbols.stack(1, StackId(9)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let limits =
            Limits { code_bytes: 1000, stack_bytes: 1000, lines: 10, class_bytes: 1000, processes: 10 };
        let mut symbols = Symbols::new(limits);
        let (memory, frame) = process("view", 7);
        for pid in 0..1000 {
            let frames = symbols.resolve(pid, &interpreter(), &memory, &[frame]);
            symbols.announce(pid, StackId(1), frames);
            symbols.fork(pid, pid + 10_000, 1);
        }
        assert!(
            symbols.codes.len() <= 10
                && symbols.lines.len() <= 11
                && symbols.stacks.len() <= 10
                && symbols.processes.len() <= 10
        );
    }
}
