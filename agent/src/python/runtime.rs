//! From a pid to everything that is needed to read its Python stacks. It looks once and keeps nothing but
//! the tables of files that it has seen; the process is only read.

use super::collector::Collector;
use super::contexts::ContextCode;
use super::error::PythonError;
use super::giving_up;
use super::identity::IdentityPlaces;
use super::jit::{JIT_NOTE, may_be_compiled};
use super::locate::{Embedding, Images, Located};
use super::memory::{Memory, MemoryError, ProcessMemory};
use super::objects::ValueLayout;
use super::offsets::{Cookie, DebugOffsets, DebugOffsetsError, ObjectOffsets, free_threaded_table, table};
use super::raising::Raising;
use super::route::{self, Libc, Route};
use super::stack::read_stack;
use super::threads::{ThreadState, thread_states};
use super::version::{Version, detect};
use crate::binaries::{Mapping, mappings};
use crate::probes::UprobeSite;
use pyapm_wire::python::{ABSENT, FRAME_BYTES, Layout, route as wire};
use std::io;
use std::path::PathBuf;

/// Interpreters of one process that are looked at until one is found alive.
const MAX_INTERPRETERS: usize = 4;
/// `PyObject.ob_type`, in every build with the GIL.
const OB_TYPE: u64 = 8;
/// Bytes before what builds with the GIL have in `struct _gil_runtime_state`: `enabled` (`pycore_gil.h`, 3.13 to 3.15).
const FREE_THREADED_GIL_HEAD: u32 = 8;

/// What is said of a process that runs a free-threaded build.
const FREE_THREADED_NOTE: &str = "free-threaded build: no exceptions are seen, and of the requests of an event loop only what \
    their own tasks do is placed; threads wait for the GIL only while it is switched on";

/// Where the offsets of an [`Interpreter`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OffsetsSource {
    /// The table of its minor version.
    Table,
    /// The interpreter's own `_Py_DebugOffsets`, and the table for what that does not say.
    DebugOffsets,
}

/// An interpreter in a process, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub version: Version,
    /// The file that holds the interpreter, as the process sees it.
    pub file: PathBuf,
    pub embedding: Embedding,
    /// Address of `_PyRuntime` in the process.
    pub runtime_address: u64,
    /// What the kernel half needs; its `route` is `NONE` when the thread state cannot be found.
    pub layout: Layout,
    pub offsets: ObjectOffsets,
    pub offsets_source: OffsetsSource,
    /// Where its garbage collector is counted; `None` where that is not known.
    pub collector: Option<Collector>,
    /// How its exceptions are seen; `None` where that is not known.
    pub raising: Option<Raising>,
    /// Where it gives up code objects; `None` where that is not known.
    pub code_deaths: Option<UprobeSite>,
    /// How a thread's state is found, in words.
    pub thread_state_route: String,
    /// Where it makes contexts.
    pub contexts: ContextCode,
    /// What is unusual about it, each a sentence.
    pub notes: Vec<String>,
}

/// Understands the interpreter of process `pid`.
///
/// # Errors
/// See [`PythonError`]: each says which process, and what is wrong with it.
pub fn inspect(pid: u32) -> Result<Interpreter, PythonError> {
    Inspector::default().inspect(pid)
}

/// [`inspect`] for many processes: workers of one application share their files, which are read once.
#[derive(Debug, Default)]
pub struct Inspector {
    images: Images,
}

impl Inspector {
    /// As [`inspect`].
    ///
    /// # Errors
    /// As [`inspect`].
    pub fn inspect(&mut self, pid: u32) -> Result<Interpreter, PythonError> {
        let mappings = mappings(pid).map_err(|source| mappings_error(pid, source))?;
        let libc = Libc::of(&mappings);
        let mut first_error = None;
        for located in self.images.locate(pid, &mappings).take(MAX_INTERPRETERS) {
            match understand(pid, &located, libc, &mappings) {
                Err(error @ PythonError::NotInitialised { .. }) => {
                    first_error.get_or_insert(error);
                }
                result => return result,
            }
        }
        Err(first_error.unwrap_or_else(|| not_python(pid)))
    }
}

fn understand(
    pid: u32,
    located: &Located,
    libc: Libc,
    mappings: &[Mapping],
) -> Result<Interpreter, PythonError> {
    let memory = ProcessMemory::new(pid);
    let runtime = located.runtime_address;
    // Nothing that is read is worth anything if nothing can be read: say why first.
    if let Some(address) = runtime {
        memory.read_u64(address).map_err(|source| memory_error(pid, source))?;
    }
    let file = located.file.clone();
    let version = detect(&memory, &located.image, located.bias, runtime, &file)
        .ok_or_else(|| PythonError::VersionUnknown { pid, file: file.clone() })?;
    let unsupported = || PythonError::Unsupported { pid, version, file: file.clone() };
    let known = (version.major == 3).then(|| table(version.minor)).flatten().ok_or_else(unsupported)?;
    let runtime_address = runtime.ok_or_else(unsupported)?;

    let mut notes = Vec::new();
    if version.micro.is_none() {
        notes.push(format!("only the minor version could be told, from the name `{}`", file.display()));
    }
    if may_be_compiled(pid, version, mappings) {
        notes.push(JIT_NOTE.to_owned());
    }
    let free_threaded = Cookie::read(&memory, runtime_address).is_ok_and(|cookie| cookie.free_threaded);
    let known = if free_threaded {
        notes.push(FREE_THREADED_NOTE.to_owned());
        free_threaded_table(version.minor).ok_or_else(unsupported)?
    } else {
        known
    };
    let (offsets, offsets_source, collector) =
        choose_offsets(&memory, runtime_address, located.runtime_size, version, known, &mut notes);
    let (found, thread_state_route) =
        find_route(&memory, pid, version, &offsets, located, runtime_address, libc, &mut notes)?;
    // How these builds compile what is probed for exceptions and contexts has not been looked at.
    let (raising, contexts) = if free_threaded {
        (None, ContextCode::without_copies(&located.image, located.bias))
    } else {
        let raising = Raising::of(&memory, &located.image, located.bias, &offsets, version.minor);
        (raising, ContextCode::of(&located.image, located.bias))
    };
    let code_deaths = (!free_threaded && !giving_up::shows_what_has_ended(version))
        .then(|| giving_up::site(&memory, &located.image, located.bias, runtime_address, mappings))
        .flatten();
    Ok(Interpreter {
        version,
        file,
        embedding: located.embedding,
        runtime_address,
        layout: layout(&offsets, version.minor, runtime_address, found),
        offsets,
        offsets_source,
        collector,
        raising,
        code_deaths,
        thread_state_route,
        contexts,
        notes,
    })
}

/// A process without an interpreter, or one that has ended and only waits for its parent to notice.
fn not_python(pid: u32) -> PythonError {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold any byte (`proc(5)`).
    let after_name = stat.iter().rposition(|byte| *byte == b')').and_then(|at| stat.get(at + 2));
    if matches!(after_name, None | Some(b'Z' | b'X')) {
        return PythonError::NoSuchProcess { pid };
    }
    let executable = std::fs::read_link(format!("/proc/{pid}/exe"))
        .or_else(|_| std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim_end().into()))
        .unwrap_or_default();
    PythonError::NotPython { pid, executable }
}

fn mappings_error(pid: u32, source: io::Error) -> PythonError {
    match (source.kind(), source.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => PythonError::NoSuchProcess { pid },
        (io::ErrorKind::PermissionDenied, _) => PythonError::Permission { pid },
        _ => PythonError::Mappings { pid, source },
    }
}

fn memory_error(pid: u32, source: MemoryError) -> PythonError {
    match source {
        MemoryError::Gone => PythonError::NoSuchProcess { pid },
        MemoryError::Permission => PythonError::Permission { pid },
        MemoryError::Unreadable { .. } | MemoryError::TooLong { .. } => PythonError::Memory { pid, source },
    }
}

fn choose_offsets(
    memory: &dyn Memory,
    runtime_address: u64,
    runtime_size: Option<u64>,
    version: Version,
    known: &ObjectOffsets,
    notes: &mut Vec<String>,
) -> (ObjectOffsets, OffsetsSource, Option<Collector>) {
    let hex = version.hex.unwrap_or(0);
    match DebugOffsets::read(memory, runtime_address, runtime_size, version.minor, hex, known) {
        Ok(debug) => {
            for (field, tabled, found) in &debug.disagreements {
                notes.push(format!("`_Py_DebugOffsets` has `{field}` at {found}, the table at {tabled}"));
            }
            (debug.offsets, OffsetsSource::DebugOffsets, debug.collector)
        }
        // Versions before 3.13 have none.
        Err(DebugOffsetsError::UnknownForm { .. }) => {
            (*known, OffsetsSource::Table, Collector::table(version.minor))
        }
        Err(error) => {
            notes.push(format!("`_Py_DebugOffsets` is not used: {error}"));
            (*known, OffsetsSource::Table, None)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of `inspect`, given what the steps before it found")]
fn find_route(
    memory: &dyn Memory,
    pid: u32,
    version: Version,
    offsets: &ObjectOffsets,
    located: &Located,
    runtime_address: u64,
    libc: Libc,
    notes: &mut Vec<String>,
) -> Result<(Route, String), PythonError> {
    let failed = |source| memory_error(pid, source);
    let threads = steady_thread_states(memory, offsets, runtime_address);
    if frames_hold_code(memory, located, offsets, &threads) == Some(false) {
        notes.push(
            "no thread's frames lead to code objects: this build may lay out its structs otherwise"
                .to_owned(),
        );
    }
    let mut key = None;
    let (proposed, what) = if offsets.runtime_auto_tss_key.is_some() {
        let created = route::auto_tss_key(memory, offsets, runtime_address).map_err(failed)?;
        let created = created.ok_or(PythonError::NotInitialised { pid, version })?;
        key = Some(created);
        (route::of_pthread_key(libc, created), format!("pthread key {created} (`autoTSSkey`)"))
    } else {
        let head = runtime_address.wrapping_add(u64::from(offsets.runtime_interpreters_head));
        if memory.read_u64(head).map_err(failed)? == 0 {
            return Err(PythonError::NotInitialised { pid, version });
        }
        (route::of_gilstate_variable(memory, located, libc), "TLS variable `_Py_tss_gilstate`".to_owned())
    };
    let Some(proposed) = proposed else {
        let sentence = format!("{what}: its place could not be worked out, so there are no stacks");
        notes.push(sentence.clone());
        return Ok((Route::NONE, sentence));
    };
    Ok(confirm(memory, proposed, key, &what, libc, &threads, notes))
}

/// The lists may change while they are read; that seldom lasts.
fn steady_thread_states(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    runtime_address: u64,
) -> Vec<ThreadState> {
    (0..5).find_map(|_| thread_states(memory, offsets, runtime_address).ok()).unwrap_or_default()
}

/// Whether what the offsets say is a code object is one, by its type; `None` when no thread has a frame.
/// Threads may run meanwhile, so one stack that is right says enough, and one that is not says nothing.
fn frames_hold_code(
    memory: &dyn Memory,
    located: &Located,
    offsets: &ObjectOffsets,
    threads: &[ThreadState],
) -> Option<bool> {
    let code_type = located.image.exported("PyCode_Type")?.address.wrapping_add(located.bias);
    let mut any = None;
    for _ in 0..5 {
        for thread in threads.iter().take(64) {
            let Ok(frames) = read_stack(memory, offsets, thread.address) else {
                any = any.or(Some(false));
                continue;
            };
            let Some(frame) = frames.last() else { continue };
            any = any.or(Some(false));
            let class = frame.code.wrapping_add(OB_TYPE).wrapping_add(offsets.longer_head());
            if memory.read_u64(class) == Ok(code_type) {
                return Some(true);
            }
        }
    }
    any
}

/// Holds the route against the threads that exist.
fn confirm(
    memory: &dyn Memory,
    proposed: Route,
    key: Option<u32>,
    what: &str,
    libc: Libc,
    threads: &[ThreadState],
    notes: &mut Vec<String>,
) -> (Route, String) {
    let of = threads.len();
    let agreeing = route::agreeing(memory, &proposed, threads);
    if agreeing > 0 {
        let sentence = format!("{what} at {}, confirmed on {agreeing} of {of} threads", proposed.describe());
        return (proposed, sentence);
    }
    if of == 0 {
        notes.push("there was no thread to confirm the route to the thread state on".to_owned());
        return (proposed, format!("{what} at {}, not confirmed", proposed.describe()));
    }
    let moved = match (libc, key) {
        (Libc::Glibc, Some(key)) => route::search_first_block(memory, key, threads),
        _ => None,
    };
    if let Some(moved) = moved {
        notes.push(format!(
            "this C library keeps pthread keys elsewhere than expected: found at {} instead of {}",
            moved.describe(),
            proposed.describe()
        ));
        return (moved, format!("{what} at {}, confirmed on {of} of {of} threads", moved.describe()));
    }
    let sentence = format!(
        "{what} expected at {}, but none of {of} threads has its state there, so there are no stacks",
        proposed.describe()
    );
    notes.push(sentence.clone());
    (Route::NONE, sentence)
}

fn layout(offsets: &ObjectOffsets, minor: u8, runtime_address: u64, route: Route) -> Layout {
    let values = match offsets.free_threaded {
        Some(_) => ValueLayout::free_threaded(minor),
        None => ValueLayout::of(minor),
    };
    let local = offsets.free_threaded.and_then(|build| build.local_bytecode);
    let frame = [
        Some(offsets.frame_code),
        Some(offsets.frame_previous),
        Some(offsets.frame_instruction),
        offsets.frame_owner,
        offsets.frame_is_entry,
        local.map(|local| local.frame_index),
    ];
    // None of them is longer than a pointer, and each is aligned like what it is: a pointer's room from the last
    // multiple of 8 holds it.
    let words = || frame.iter().flatten().map(|offset| offset & !7);
    let frame_start = words().min().unwrap_or(0);
    let frame_end = words().max().unwrap_or(0) + 8;
    let identity = IdentityPlaces::new(offsets);
    // Offsets that are not what any CPython has: without a route there are no stacks.
    let is_sound = (frame_end as usize) < FRAME_BYTES && identity.is_sound(offsets);
    Layout {
        first: route.first,
        second: route.second,
        route: if is_sound { route.kind } else { wire::NONE },
        tstate_frame: offsets.tstate_frame,
        cframe_current: offsets.cframe_current.unwrap_or(ABSENT),
        frame_code: offsets.frame_code,
        frame_previous: offsets.frame_previous,
        frame_instruction: offsets.frame_instruction,
        frame_owner: offsets.frame_owner.unwrap_or(ABSENT),
        code_bytecode: offsets.code_bytecode.unwrap_or(ABSENT),
        instruction_scale: offsets.instruction_scale,
        frame_entry: offsets.frame_is_entry.unwrap_or(ABSENT),
        code_start: identity.head,
        code_bytes: identity.bytes(),
        code_tail: identity.tail,
        tail_name: identity.tail_name,
        has_version: u32::from(identity.has_version),
        tag_mask: offsets.tag_mask,
        frame_start,
        frame_bytes: frame_end - frame_start,
        tstate_interpreter: offsets.tstate_interpreter,
        interpreter_gil: values.and_then(|values| values.interpreter_gil).unwrap_or(ABSENT),
        gil: match values.and_then(|values| values.runtime_gil) {
            Some(offset) => runtime_address.wrapping_add(u64::from(offset)),
            None => 0,
        },
        gil_head: if offsets.free_threaded.is_some() { FREE_THREADED_GIL_HEAD } else { 0 },
        frame_copy: local.map_or(ABSENT, |local| local.frame_index),
        code_copies: local.map_or(ABSENT, |local| local.code_copies),
        deaths_told: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_are_not_python() {
        assert!(matches!(inspect(u32::MAX), Err(PythonError::NoSuchProcess { .. })));
        let own = std::process::id();
        let error = inspect(own).unwrap_err();
        assert!(matches!(error, PythonError::NotPython { .. }));
        assert!(error.to_string().contains("is not a CPython process"), "{error}");
        // A kernel thread has no mappings.
        assert!(matches!(inspect(2), Err(PythonError::NotPython { .. } | PythonError::Permission { .. })));
    }
}
