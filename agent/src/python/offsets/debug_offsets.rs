//! `_Py_DebugOffsets`: what an interpreter from 3.13 on says of its own structs, at the start of
//! `_PyRuntime` (`Include/internal/pycore_debug_offsets.h` of CPython 3.14). It lies in the target's
//! writable memory, so it is hostile input: nothing is used before all of it has been checked.

use super::ObjectOffsets;
use crate::python::collector::{Collector, Words};
use crate::python::memory::{Memory, MemoryError};

const COOKIE: [u8; 8] = *b"xdebugpy";
/// No struct that is described is larger (`PyInterpreterState` of 3.12 had 384 KiB).
const MAX_STRUCT: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DebugOffsetsError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("`_PyRuntime` does not begin with the cookie `xdebugpy`")]
    NoCookie,
    #[error("it speaks of version {found:#x}, the interpreter is {expected:#x}")]
    OtherVersion { expected: u32, found: u64 },
    #[error("its form in 3.{minor} is not known")]
    UnknownForm { minor: u8 },
    #[error("size {size} of `{owner}` is not credible")]
    Size { owner: &'static str, size: u64 },
    #[error("offset {offset} of `{field}` is not within {size} bytes, or is not aligned")]
    Offset { field: &'static str, offset: u64, size: u64 },
}

/// The three words that begin it in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// `PY_VERSION_HEX`.
    pub version: u64,
    pub free_threaded: bool,
}

impl Cookie {
    /// # Errors
    /// When the memory cannot be read or does not begin with the cookie.
    pub fn read(memory: &dyn Memory, runtime_address: u64) -> Result<Self, DebugOffsetsError> {
        let mut cookie = [0; 8];
        memory.read(runtime_address, &mut cookie)?;
        if cookie != COOKIE {
            return Err(DebugOffsetsError::NoCookie);
        }
        Ok(Self {
            version: memory.read_u64(runtime_address.wrapping_add(8))?,
            free_threaded: memory.read_u64(runtime_address.wrapping_add(16))? != 0,
        })
    }
}

/// Position, in words of eight bytes, of the first word (the size) of each struct's part. Fields follow in
/// the order of the C struct; those that were inserted later have a position of their own.
struct Form {
    words: usize,
    interpreter: usize,
    /// `interpreter_state.gc`.
    interpreter_gc: usize,
    thread: usize,
    thread_id: usize,
    frame: usize,
    code: usize,
    bytes: usize,
    unicode: usize,
    /// `compactunicodeobject_size`.
    compact_size: Option<usize>,
    gc: usize,
    /// `gc.generation_stats_size`; `gc.generation_stats` follows.
    gc_stats: Option<usize>,
}

const RUNTIME: usize = 3;
const FORM_3_13: Form = Form {
    words: 73,
    interpreter: 6,
    interpreter_gc: 10,
    thread: 19,
    thread_id: 24,
    frame: 28,
    code: 34,
    bytes: 64,
    unicode: 67,
    compact_size: None,
    gc: 71,
    gc_stats: None,
};
const FORM_3_14: Form = Form {
    words: 95,
    interpreter: 6,
    interpreter_gc: 11,
    thread: 22,
    thread_id: 27,
    frame: 31,
    code: 39,
    bytes: 74,
    unicode: 77,
    compact_size: None,
    gc: 81,
    gc_stats: None,
};
const FORM_3_15: Form = Form {
    words: 111,
    interpreter: 6,
    interpreter_gc: 11,
    thread: 22,
    thread_id: 30,
    frame: 39,
    code: 47,
    bytes: 86,
    unicode: 89,
    compact_size: Some(93),
    gc: 94,
    gc_stats: Some(97),
};

/// Checked offsets; what it does not say is taken from the table that it was checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugOffsets {
    pub offsets: ObjectOffsets,
    /// Fields in which it differs from the table: (field, table, interpreter).
    pub disagreements: Vec<(&'static str, u32, u32)>,
    /// `None` when what it says of that is not credible, or not known here.
    pub collector: Option<Collector>,
}

/// One struct's part, with its size already checked.
struct Part<'a> {
    words: &'a [u64],
    start: usize,
    size: u64,
    disagreements: &'a mut Vec<(&'static str, u32, u32)>,
}

impl DebugOffsets {
    /// Reads and checks it. `table` is the table of this minor version, `version_hex` what the interpreter
    /// is known to be, `runtime_size` the size of `_PyRuntime` by the ELF file, if that is known.
    ///
    /// # Errors
    /// When it cannot be read, or anything in it is out of bounds.
    pub fn read(
        memory: &dyn Memory,
        runtime_address: u64,
        runtime_size: Option<u64>,
        minor: u8,
        version_hex: u32,
        table: &ObjectOffsets,
    ) -> Result<Self, DebugOffsetsError> {
        let form = match minor {
            13 => &FORM_3_13,
            14 => &FORM_3_14,
            15 => &FORM_3_15,
            _ => return Err(DebugOffsetsError::UnknownForm { minor }),
        };
        let cookie = Cookie::read(memory, runtime_address)?;
        if cookie.version != u64::from(version_hex) {
            return Err(DebugOffsetsError::OtherVersion { expected: version_hex, found: cookie.version });
        }
        let bytes = memory.read_bytes(runtime_address, form.words * 8)?;
        let (chunks, _) = bytes.as_chunks::<8>();
        let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        check(&words, form, runtime_size, table)
    }
}

fn check(
    words: &[u64],
    form: &Form,
    runtime_size: Option<u64>,
    table: &ObjectOffsets,
) -> Result<DebugOffsets, DebugOffsetsError> {
    let mut offsets = *table;
    let mut disagreements = Vec::new();
    let differ = &mut disagreements;

    let mut part = Part::new(words, RUNTIME, "_PyRuntimeState", runtime_size.unwrap_or(MAX_STRUCT), differ)?;
    part.set(&mut offsets.runtime_interpreters_head, 2, 8, "interpreters.head")?;

    let mut part = Part::new(words, form.interpreter, "PyInterpreterState", MAX_STRUCT, differ)?;
    part.set(&mut offsets.interpreter_next, 2, 8, "interpreter.next")?;
    part.set(&mut offsets.interpreter_threads_head, 3, 8, "interpreter.threads.head")?;

    let mut part = Part::new(words, form.thread, "PyThreadState", 1 << 16, differ)?;
    part.set(&mut offsets.tstate_next, 2, 8, "tstate.next")?;
    part.set(&mut offsets.tstate_interpreter, 3, 8, "tstate.interp")?;
    part.set(&mut offsets.tstate_frame, 4, 8, "tstate.current_frame")?;
    let from_start = form.thread_id.wrapping_sub(form.thread);
    part.set(&mut offsets.tstate_thread_id, from_start, 8, "tstate.thread_id")?;
    part.set_optional(&mut offsets.tstate_native_thread_id, from_start + 1, 8, "tstate.native_thread_id")?;

    let mut part = Part::new(words, form.frame, "_PyInterpreterFrame", 1 << 12, differ)?;
    part.set(&mut offsets.frame_previous, 1, 8, "frame.previous")?;
    part.set(&mut offsets.frame_code, 2, 8, "frame.f_executable")?;
    part.set(&mut offsets.frame_instruction, 3, 8, "frame.instr_ptr")?;
    part.set_optional(&mut offsets.frame_owner, 5, 1, "frame.owner")?;
    let mut local = offsets.free_threaded.and_then(|build| build.local_bytecode);
    if let Some(local) = &mut local {
        part.set(&mut local.frame_index, 7, 4, "frame.tlbc_index")?;
    }

    let mut part = Part::new(words, form.code, "PyCodeObject", 1 << 12, differ)?;
    part.set(&mut offsets.code_filename, 1, 8, "code.co_filename")?;
    part.set(&mut offsets.code_name, 2, 8, "code.co_name")?;
    part.set_optional(&mut offsets.code_qualname, 3, 8, "code.co_qualname")?;
    part.set(&mut offsets.code_linetable, 4, 8, "code.co_linetable")?;
    part.set(&mut offsets.code_firstlineno, 5, 4, "code.co_firstlineno")?;
    part.set_optional(&mut offsets.code_bytecode, 9, 1, "code.co_code_adaptive")?;
    if let Some(local) = &mut local {
        part.set(&mut local.code_copies, 10, 8, "code.co_tlbc")?;
    }
    if let Some(build) = &mut offsets.free_threaded {
        build.local_bytecode = local;
    }

    let mut part = Part::new(words, form.bytes, "PyBytesObject", 256, differ)?;
    part.set(&mut offsets.bytes_size, 1, 8, "bytes.ob_size")?;
    part.set(&mut offsets.bytes_data, 2, 1, "bytes.ob_sval")?;

    let mut part = Part::new(words, form.unicode, "PyUnicodeObject", 256, differ)?;
    part.set(&mut offsets.unicode_state, 1, 4, "unicode.state")?;
    part.set(&mut offsets.unicode_length, 2, 8, "unicode.length")?;
    part.set(&mut offsets.ascii_size, 3, 1, "sizeof(PyASCIIObject)")?;
    if let Some(word) = form.compact_size {
        part.set(
            &mut offsets.compact_size,
            word.wrapping_sub(form.unicode),
            1,
            "sizeof(PyCompactUnicodeObject)",
        )?;
    }
    Ok(DebugOffsets { offsets, disagreements, collector: collector(words, form) })
}

fn collector(words: &[u64], form: &Form) -> Option<Collector> {
    let word = |index: usize| words.get(index).copied();
    let rings = match form.gc_stats {
        Some(size) => Some((word(size)?, word(size + 1)?)),
        None => None,
    };
    Collector::said(&Words {
        interpreter_size: word(form.interpreter)?,
        gc: word(form.interpreter_gc)?,
        gc_size: word(form.gc)?,
        collecting: word(form.gc + 1)?,
        rings,
    })
}

impl<'a> Part<'a> {
    fn new(
        words: &'a [u64],
        start: usize,
        owner: &'static str,
        most: u64,
        disagreements: &'a mut Vec<(&'static str, u32, u32)>,
    ) -> Result<Self, DebugOffsetsError> {
        let size = words.get(start).copied().unwrap_or(0);
        if size < 16 || size > most.min(MAX_STRUCT) {
            return Err(DebugOffsetsError::Size { owner, size });
        }
        Ok(Self { words, start, size, disagreements })
    }

    /// Takes over the offset of a field of `width` bytes, which must be aligned to its width and lie in its
    /// struct as a whole.
    fn set(
        &mut self,
        field: &mut u32,
        word: usize,
        width: u64,
        name: &'static str,
    ) -> Result<(), DebugOffsetsError> {
        let offset = self.words.get(self.start.wrapping_add(word)).copied().unwrap_or(u64::MAX);
        let within = offset.checked_add(width).is_some_and(|end| end <= self.size);
        let wrong = DebugOffsetsError::Offset { field: name, offset, size: self.size };
        let Ok(small) = u32::try_from(offset) else { return Err(wrong) };
        if !within || !offset.is_multiple_of(width) {
            return Err(wrong);
        }
        if *field != small {
            self.disagreements.push((name, *field, small));
            *field = small;
        }
        Ok(())
    }

    fn set_optional(
        &mut self,
        field: &mut Option<u32>,
        word: usize,
        width: u64,
        name: &'static str,
    ) -> Result<(), DebugOffsetsError> {
        let mut value = field.unwrap_or(u32::MAX);
        self.set(&mut value, word, width, name)?;
        *field = Some(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{free_threaded_table, table};
    use super::*;
    use crate::python::memory::BufferMemory;

    const RUNTIME_ADDRESS: u64 = 0x1000;

    /// The words that agree with the table of this minor version.
    fn agreeing(form: &Form, minor: u8, hex: u32) -> Vec<u64> {
        agreeing_with(form, table(minor).unwrap(), hex)
    }

    fn agreeing_with(form: &Form, t: &ObjectOffsets, hex: u32) -> Vec<u64> {
        let mut words = vec![0; form.words];
        words[0] = u64::from_le_bytes(COOKIE);
        words[1] = u64::from(hex);
        let mut put = |at: usize, values: &[u32]| {
            for (word, value) in words[at..].iter_mut().zip(values) {
                *word = u64::from(*value);
            }
        };
        put(RUNTIME, &[300_000, 608, t.runtime_interpreters_head]);
        put(form.interpreter, &[200_000, 0, t.interpreter_next, t.interpreter_threads_head]);
        put(form.thread, &[512, 0, t.tstate_next, t.tstate_interpreter, t.tstate_frame]);
        put(form.thread_id, &[t.tstate_thread_id, t.tstate_native_thread_id.unwrap()]);
        put(
            form.frame,
            &[88, t.frame_previous, t.frame_code, t.frame_instruction, 72, t.frame_owner.unwrap()],
        );
        put(
            form.code,
            &[
                240,
                t.code_filename,
                t.code_name,
                t.code_qualname.unwrap(),
                t.code_linetable,
                t.code_firstlineno,
            ],
        );
        put(form.code + 9, &[t.code_bytecode.unwrap()]);
        if let Some(local) = t.free_threaded.and_then(|build| build.local_bytecode) {
            put(form.frame + 7, &[local.frame_index]);
            put(form.code + 10, &[local.code_copies]);
        }
        put(form.bytes, &[56, t.bytes_size, t.bytes_data]);
        put(form.unicode, &[80, t.unicode_state, t.unicode_length, t.ascii_size, t.compact_size]);
        words
    }

    fn read(words: &[u64], minor: u8, hex: u32) -> Result<DebugOffsets, DebugOffsetsError> {
        let mut memory = BufferMemory::new();
        memory.add(RUNTIME_ADDRESS, words.iter().flat_map(|word| word.to_le_bytes()).collect());
        DebugOffsets::read(&memory, RUNTIME_ADDRESS, Some(300_000), minor, hex, table(minor).unwrap())
    }

    fn forms() -> [(&'static Form, u8, u32); 3] {
        [(&FORM_3_13, 13, 0x030d_00f0), (&FORM_3_14, 14, 0x030e_0af0), (&FORM_3_15, 15, 0x030f_02f0)]
    }

    #[test]
    fn agreement_changes_nothing() {
        for (form, minor, hex) in forms() {
            let read = read(&agreeing(form, minor, hex), minor, hex).unwrap();
            assert_eq!(read.disagreements, []);
            assert_eq!(&read.offsets, table(minor).unwrap());
        }
    }

    #[test]
    fn agreement_changes_nothing_without_the_gil_either() {
        for (form, minor, hex) in forms() {
            let known = free_threaded_table(minor).unwrap();
            let read = |words: &[u64]| {
                let mut memory = BufferMemory::new();
                memory.add(RUNTIME_ADDRESS, words.iter().flat_map(|word| word.to_le_bytes()).collect());
                DebugOffsets::read(&memory, RUNTIME_ADDRESS, Some(300_000), minor, hex, known)
            };
            let mut words = agreeing_with(form, known, hex);
            let found = read(&words).unwrap();
            assert_eq!((found.disagreements, &found.offsets), (Vec::new(), known), "3.{minor}");
            if known.free_threaded.unwrap().local_bytecode.is_some() {
                words[form.frame + 7] = 80;
                let local = read(&words).unwrap().offsets.free_threaded.unwrap().local_bytecode.unwrap();
                assert_eq!((local.frame_index, local.code_copies), (80, 224));
                words[form.frame + 7] = 78;
                assert!(matches!(
                    read(&words),
                    Err(DebugOffsetsError::Offset { field: "frame.tlbc_index", .. })
                ));
            }
        }
    }

    #[test]
    fn the_interpreter_is_believed_and_the_difference_reported() {
        for (form, minor, hex) in forms() {
            let mut words = agreeing(form, minor, hex);
            words[form.code + 1] = 144;
            let read = read(&words, minor, hex).unwrap();
            assert_eq!(read.offsets.code_filename, 144);
            assert_eq!(read.disagreements, [("code.co_filename", 112, 144)]);
        }
    }

    #[test]
    fn hostile_words_are_refused_or_harmless() {
        for (form, minor, hex) in forms() {
            let good = agreeing(form, minor, hex);
            for word in 0..good.len() {
                for value in [0, 1, 7, 300_001, 1 << 32, u64::MAX, u64::MAX - 7] {
                    let mut words = good.clone();
                    words[word] = value;
                    // Whatever is accepted lies inside the struct that it belongs to.
                    if let Ok(read) = read(&words, minor, hex) {
                        assert!(read.offsets.runtime_interpreters_head <= 300_000 - 8);
                        assert!(read.offsets.interpreter_threads_head < 16 << 20);
                        assert!(read.offsets.tstate_frame < 1 << 16);
                        assert!(read.offsets.frame_code < 1 << 12);
                        assert!(read.offsets.code_name < 1 << 12);
                        assert!(read.offsets.ascii_size < 256);
                    }
                }
            }
        }
    }

    #[test]
    fn free_threaded_builds_say_so() {
        let (form, minor, hex) = forms()[0];
        let mut words = agreeing(form, minor, hex);
        words[2] = 1;
        let mut memory = BufferMemory::new();
        memory.add(RUNTIME_ADDRESS, words.iter().flat_map(|word| word.to_le_bytes()).collect());
        let cookie = Cookie::read(&memory, RUNTIME_ADDRESS).unwrap();
        assert_eq!(cookie, Cookie { version: u64::from(hex), free_threaded: true });
    }

    #[test]
    fn wrong_beginnings() {
        let (form, minor, hex) = forms()[0];
        let mut words = agreeing(form, minor, hex);
        assert!(matches!(read(&words, minor, hex + 1), Err(DebugOffsetsError::OtherVersion { .. })));
        assert!(matches!(read(&words[..40], minor, hex), Err(DebugOffsetsError::Memory(_))));
        words[0] = 0;
        assert_eq!(read(&words, minor, hex), Err(DebugOffsetsError::NoCookie));
    }
}
