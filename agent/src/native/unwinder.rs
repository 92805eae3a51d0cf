//! The native frames of a copied stack: where a process has its files mapped, and the walk. A walk trusts nothing that it
//! reads: it is bounded, and an address that lies in no mapped code ends it.

use super::object::{Object, Realigned, Section};
use super::plumbing::is_plumbing;
use crate::binaries::{FileId, Mapping, mappings};
use crate::intake::Native;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{Error, ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use pyapm_model::line::Frame;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Frames of one stack.
const MAX_FRAMES: usize = 2048;
/// Files whose tables are kept; beyond that those that no process maps are forgotten.
const MAX_FILES: usize = 2048;
/// Processes whose mappings are kept.
const MAX_PROCESSES: usize = 4096;
/// Named addresses of one process.
const MAX_NAMES: usize = 1 << 16;
/// Mappings of code of one process.
const MAX_MAPPINGS: usize = 16_384;
/// A process's mappings are read anew when it runs code that they do not hold, but not more often than this; and after
/// so long a time in any case, because a library may have taken the place of another.
const SOON_NS: u64 = 20_000_000;
const LATE_NS: u64 = 10_000_000_000;

/// What code that was made at run time, or by nobody known, is called.
const GENERATED: &str = "[generated code]";

/// One native function on a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeFrame {
    /// `line` is never known; `function` is `file+0xaddress` where the file has no name for it.
    pub frame: Frame,
    /// It is the interpreter's loop: Python frames stand for it.
    pub is_evaluation: bool,
    /// It is the interpreter's, and does nothing but call, or has no name.
    pub is_plumbing: bool,
    /// A program begins to run here: nothing lies beyond.
    pub is_entry: bool,
    /// The file's unwind table has it. The caller of a function that it has not is found by a frame pointer, which there
    /// may be none of.
    pub is_covered: bool,
    /// It aligns its own stack, which the library that unwinds the others does not follow.
    pub(super) realigned: Option<Realigned>,
}

/// A stack, as far as it could be unwound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeStack {
    /// Innermost first.
    pub frames: Vec<Arc<NativeFrame>>,
    /// It ends where the thread began.
    pub is_whole: bool,
    /// It ends where the copy does.
    pub is_cut: bool,
}

impl NativeStack {
    /// Of a walk that came to no good end, what lies beyond the first function that the tables do not have may be
    /// anything.
    fn keep_certain(&mut self) {
        let first = self.frames.iter().position(|frame| !frame.is_covered);
        if let Some(first) = first {
            self.is_cut &= first + 1 == self.frames.len();
            self.frames.truncate(first + 1);
        }
    }
}

/// Mapped code.
#[derive(Clone, Debug)]
struct Code {
    range: Range<u64>,
    /// What is added to the file's addresses.
    bias: u64,
    /// `None`: not of a file, or not of one that could be read.
    object: Option<Arc<Object>>,
    file: Arc<str>,
}

/// What is known of one process.
struct Process {
    /// In the order of addresses.
    code: Vec<Code>,
    mappings: Vec<Mapping>,
    read_ns: u64,
    unwinder: UnwinderX86_64<Arc<[u8]>>,
    cache: CacheX86_64,
    names: HashMap<u64, Arc<NativeFrame>>,
}

/// All processes, and the files that they share.
#[derive(Default)]
pub struct Unwinders {
    processes: HashMap<u32, Process>,
    files: HashMap<FileId, Option<Arc<Object>>>,
    /// The kernel's own library, the same in every process.
    vdso: Option<Option<Arc<Object>>>,
}

impl Unwinders {
    /// The native frames of a stack that was copied at `now_ns`, `CLOCK_MONOTONIC`.
    pub fn unwind(&mut self, pid: u32, now_ns: u64, native: &Native<'_>) -> NativeStack {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            self.processes.clear();
        }
        let age = self.processes.get(&pid).map(|process| now_ns.saturating_sub(process.read_ns));
        if age.is_none_or(|age| age > LATE_NS) {
            self.look(pid, now_ns);
        }
        let Some(process) = self.processes.get_mut(&pid) else { return NativeStack::default() };
        let (stack, is_known) = process.walk(native);
        if is_known || age.is_none_or(|age| age < SOON_NS) {
            return stack;
        }
        self.look(pid, now_ns);
        self.processes.get_mut(&pid).map_or(stack, |process| process.walk(native).0)
    }

    /// A child begins with its parent's mappings.
    pub fn fork(&mut self, parent: u32, child: u32) {
        if let Some(parent) = self.processes.get(&parent) {
            let process = Process {
                code: parent.code.clone(),
                mappings: parent.mappings.clone(),
                read_ns: parent.read_ns,
                unwinder: parent.unwinder.clone(),
                cache: CacheX86_64::new(),
                names: parent.names.clone(),
            };
            self.processes.insert(child, process);
        }
    }

    /// The process has ended, or runs another program now.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Reads where the process has what mapped. What was known of one that has ended stays.
    fn look(&mut self, pid: u32, now_ns: u64) {
        let Ok(mut mappings) = mappings(pid) else { return };
        mappings.retain(|mapping| mapping.executable);
        mappings.truncate(MAX_MAPPINGS);
        if let Some(known) = self.processes.get_mut(&pid)
            && (known.mappings == mappings || mappings.is_empty())
        {
            known.read_ns = now_ns;
            return;
        }
        if self.files.len() > MAX_FILES {
            self.files
                .retain(|_, object| object.as_ref().is_some_and(|object| Arc::strong_count(object) > 1));
        }
        let mut code = Vec::with_capacity(mappings.len());
        let mut unwinder = UnwinderX86_64::new();
        for mapping in &mappings {
            let object = self.object(pid, mapping);
            let bias = object.as_ref().and_then(|object| object.bias(mapping.start, mapping.offset));
            let object = object.filter(|_| bias.is_some());
            let (range, bias) = (mapping.start..mapping.end, bias.unwrap_or(0));
            if let Some(object) = &object {
                unwinder.add_module(module(object, range.clone(), bias));
            }
            let file = mapping.path.to_string_lossy().into();
            code.push(Code { range, bias, object, file });
        }
        let (cache, names) = (CacheX86_64::new(), HashMap::new());
        let process = Process { code, mappings, read_ns: now_ns, unwinder, cache, names };
        self.processes.insert(pid, process);
    }

    fn object(&mut self, pid: u32, mapping: &Mapping) -> Option<Arc<Object>> {
        let Some(file) = mapping.file else {
            let is_vdso = mapping.path.as_os_str() == "[vdso]";
            return is_vdso.then(|| self.vdso.get_or_insert_with(vdso).clone()).flatten();
        };
        let known = self.files.entry(file);
        known.or_insert_with(|| Object::open(&mapping.reachable(pid)).map(Arc::new)).clone()
    }
}

impl Process {
    /// The frames, and whether all of them are in code that is known to be mapped.
    fn walk(&mut self, native: &Native<'_>) -> (NativeStack, bool) {
        let mut read = |address: u64| {
            let place = usize::try_from(address.wrapping_sub(native.sp)).map_err(|_| ())?;
            let end = place.checked_add(8).ok_or(())?;
            let bytes = native.stack.get(place..end).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(())
        };
        let Self { code, unwinder, cache, names, .. } = self;
        let mut registers = UnwindRegsX86_64::new(native.ip, native.sp, native.bp);
        let mut stack = NativeStack::default();
        let mut next = Ok(Some(FrameAddress::from_instruction_pointer(native.ip)));
        loop {
            match next {
                Ok(Some(at)) if stack.frames.len() < MAX_FRAMES => {
                    let address = at.address_for_lookup();
                    let Some(found) = code_at(code, address) else {
                        stack.keep_certain();
                        return (stack, false);
                    };
                    if names.len() >= MAX_NAMES {
                        names.clear();
                    }
                    let frame = names.entry(address).or_insert_with(|| Arc::new(name(found, address)));
                    stack.frames.push(Arc::clone(frame));
                    if frame.is_entry {
                        stack.is_whole = true;
                        return (stack, true);
                    }
                    let caller = match frame.realigned {
                        Some(realigned) => leave(realigned, &mut registers, &mut read).map(Some),
                        None => unwinder.unwind_frame(at, &mut registers, cache, &mut read),
                    };
                    next = caller.and_then(|address| {
                        let at = address.map(FrameAddress::from_return_address);
                        at.map(|at| at.ok_or(Error::ReturnAddressIsNull)).transpose()
                    });
                }
                Ok(Some(_)) => {
                    stack.is_cut = true;
                    return (stack, true);
                }
                Ok(None) => {
                    stack.is_whole = true;
                    return (stack, true);
                }
                Err(error) => {
                    let end = native.sp.saturating_add(native.stack.len() as u64);
                    stack.is_cut = native.cut
                        && matches!(error, Error::CouldNotReadStack(at) if at.saturating_add(8) > end);
                    return (stack, true);
                }
            }
        }
    }
}

/// From a function that aligns its own stack to its caller: its return address.
fn leave(
    realigned: Realigned,
    registers: &mut UnwindRegsX86_64,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Result<u64, Error> {
    let mut word = |at: u64| read(at).map_err(|()| Error::CouldNotReadStack(at));
    let base = registers.bp();
    let frame = word(base.wrapping_add_signed(realigned.offset))?;
    if frame <= registers.sp() {
        return Err(Error::DidNotAdvance);
    }
    let (address, caller) = (word(frame.wrapping_sub(8))?, word(base)?);
    registers.set_ip(address);
    registers.set_sp(frame);
    registers.set_bp(caller);
    Ok(address)
}

fn code_at(code: &[Code], address: u64) -> Option<&Code> {
    let next = code.partition_point(|code| code.range.start <= address);
    code.get(next.checked_sub(1)?).filter(|code| code.range.contains(&address))
}

fn name(code: &Code, address: u64) -> NativeFrame {
    let Some(object) = &code.object else {
        let frame =
            Frame { function: GENERATED.into(), file: SmolStr::from(Arc::clone(&code.file)), line: None };
        return NativeFrame {
            frame,
            is_evaluation: false,
            is_plumbing: false,
            is_entry: false,
            is_covered: false,
            realigned: None,
        };
    };
    let address = address.wrapping_sub(code.bias);
    let name = object.name(address);
    let is_plumbing = object.is_interpreter() && name.as_deref().is_none_or(is_plumbing);
    let function = object.unwind.function(address);
    let start = function.as_ref().map_or(address, |function| function.range.start);
    let shown = name.unwrap_or_else(|| {
        let file = code.file.rsplit('/').next().unwrap_or(&code.file);
        format!("{file}+{start:#x}")
    });
    NativeFrame {
        frame: Frame { function: shown.into(), file: SmolStr::from(Arc::clone(&code.file)), line: None },
        is_evaluation: object.is_evaluation(address),
        is_plumbing,
        is_entry: object.is_entry(address),
        is_covered: function.is_some(),
        realigned: object.unwind.realigned(address),
    }
}

fn module(object: &Object, range: Range<u64>, bias: u64) -> Module<Arc<[u8]>> {
    let bytes = |section: &Option<Section>| section.as_ref().map(|section| Arc::clone(&section.bytes));
    let place = |section: &Option<Section>| section.as_ref().map(Section::range);
    let unwind = &object.unwind;
    let sections = ExplicitModuleSectionInfo {
        eh_frame_svma: place(&unwind.frames),
        eh_frame: bytes(&unwind.frames),
        eh_frame_hdr_svma: place(&unwind.header),
        eh_frame_hdr: bytes(&unwind.header),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), range, bias, sections)
}

/// The kernel's library as this process has it.
fn vdso() -> Option<Arc<Object>> {
    let mappings = mappings(std::process::id()).ok()?;
    let mapping = mappings.into_iter().find(|mapping| mapping.path.as_os_str() == "[vdso]")?;
    let length = usize::try_from(mapping.end - mapping.start).ok().filter(|length| *length <= 1 << 20)?;
    let mut bytes = vec![0; length];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, mapping.start).ok()?;
    Object::parse(bytes.as_slice()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers and stack of this very function.
    #[inline(never)]
    fn here() -> (u64, u64, u64, Vec<u8>) {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads registers, and the stack pointer for what lies above it.
        unsafe {
            core::arch::asm!("lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp", out(reg) ip, out(reg) sp, out(reg) bp);
        }
        let mut bytes = vec![0; 16 * 1024];
        let memory = File::open("/proc/self/mem").unwrap();
        let read = memory.read_at(&mut bytes, sp).unwrap();
        bytes.truncate(read);
        (ip, sp, bp, bytes)
    }

    #[inline(never)]
    fn called(depth: u32) -> (u64, u64, u64, Vec<u8>) {
        let found = if depth == 0 { here() } else { called(depth - 1) };
        std::hint::black_box(found)
    }

    #[test]
    fn of_this_thread() {
        let (ip, sp, bp, bytes) = called(3);
        let native = Native { ip, sp, bp, stack: &bytes, cut: false };
        let mut unwinders = Unwinders::default();
        let stack = unwinders.unwind(std::process::id(), 1, &native);
        let names: Vec<_> = stack.frames.iter().map(|frame| frame.frame.function.as_str()).collect();
        let ends = |name: &str, end: &str| name.ends_with(end);
        assert!(ends(names[0], "tests::here"), "{names:?}");
        assert!(names[1..5].iter().all(|name| ends(name, "tests::called")), "{names:?}");
        assert!(ends(names[5], "tests::of_this_thread"), "{names:?}");
        assert!(stack.is_whole && !stack.is_cut, "{names:?}");
        // A fork has the same; so has one that cannot be looked at any more.
        unwinders.fork(std::process::id(), u32::MAX);
        assert_eq!(unwinders.unwind(u32::MAX, 100 * LATE_NS, &native), stack);
        // Less of it gives a part, and says so.
        let part = Native { stack: &bytes[..256], cut: true, ..native };
        let part = unwinders.unwind(std::process::id(), 1, &part);
        assert!(part.is_cut && !part.is_whole && part.frames.len() < stack.frames.len());
        assert_eq!(part.frames, stack.frames[..part.frames.len()]);
    }

    /// Whatever the registers and the stack hold, a walk ends.
    #[test]
    fn garbage() {
        let (ip, sp, bp, bytes) = here();
        let mut unwinders = Unwinders::default();
        let pid = std::process::id();
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 16
        };
        for _ in 0..300 {
            let mut spoiled = bytes.clone();
            for _ in 0..64 {
                let place = usize::try_from(random()).unwrap() % spoiled.len();
                spoiled[place] = u8::try_from(random() & 0xff).unwrap();
            }
            let ip = if random() % 4 == 0 { random() } else { ip };
            let bp = if random() % 2 == 0 { sp + random() % 4096 } else { bp };
            let native = Native { ip, sp, bp, stack: &spoiled, cut: random() % 2 == 0 };
            assert!(unwinders.unwind(pid, 1, &native).frames.len() <= MAX_FRAMES);
        }
        let native = Native { ip, sp: u64::MAX - 3, bp: u64::MAX, stack: &[], cut: true };
        unwinders.unwind(pid, 1, &native);
        assert_eq!(unwinders.unwind(u32::MAX - 1, 1, &native), NativeStack::default());
    }
}
