//! What userspace and the stack walk need to know of an interpreter's structs, and the choice of the
//! table for a version. The numbers themselves are data, one file for each minor version beside this one;
//! every patch release of a minor version has the same layout.

use super::{v3_8, v3_9, v3_10, v3_11, v3_12, v3_13, v3_14, v3_15};

/// How `co_lnotab` or `co_linetable` is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFormat {
    /// `co_lnotab`, up to 3.9: `Objects/lnotab_notes.txt` of CPython 3.9.
    Lnotab,
    /// `co_linetable` of 3.10: `Objects/lnotab_notes.txt` of CPython 3.10.
    Ranges,
    /// `co_linetable` from 3.11 on: `Objects/locations.md` of CPython 3.11.
    Locations,
}

/// Offsets in bytes into CPython's structs. x86-64. `None`: the version has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectOffsets {
    /// `_PyRuntimeState.interpreters.head`.
    pub runtime_interpreters_head: u32,
    /// `_PyRuntimeState`: `autoTSSkey`, a `Py_tss_t { int _is_initialized; pthread_key_t _key; }`.
    pub runtime_auto_tss_key: Option<u32>,
    /// `PyInterpreterState.next`.
    pub interpreter_next: u32,
    /// `PyInterpreterState.tstate_head`, or `threads.head` from 3.11 on.
    pub interpreter_threads_head: u32,
    /// `PyThreadState.next`.
    pub tstate_next: u32,
    /// `PyThreadState.interp`.
    pub tstate_interpreter: u32,
    /// `PyThreadState.thread_id`: `pthread_self()`, which on x86-64 is the thread's fs base.
    pub tstate_thread_id: u32,
    /// `PyThreadState.native_thread_id`: `gettid()` in the process's own pid namespace.
    pub tstate_native_thread_id: Option<u32>,
    /// `PyThreadState.frame`, `cframe` (3.11, 3.12) or `current_frame`.
    pub tstate_frame: u32,
    /// `_PyCFrame.current_frame`, where the thread state has a `cframe`.
    pub cframe_current: Option<u32>,
    /// `PyFrameObject.f_code`, `_PyInterpreterFrame.f_code` or `f_executable`.
    pub frame_code: u32,
    /// `f_back` or `previous`.
    pub frame_previous: u32,
    /// `f_lasti` (int), `prev_instr` or `instr_ptr`.
    pub frame_instruction: u32,
    /// `owner`, one byte.
    pub frame_owner: Option<u32>,
    /// `is_entry` (3.11), one byte: C code called the interpreter to run this frame.
    pub frame_is_entry: Option<u32>,
    /// `f_lasti` times this is a byte offset.
    pub instruction_scale: u32,
    /// Bits that a pointer in a frame may carry as a tag.
    pub tag_mask: u32,
    /// `PyCodeObject.co_firstlineno` (int).
    pub code_firstlineno: u32,
    pub code_filename: u32,
    pub code_name: u32,
    pub code_qualname: Option<u32>,
    /// `co_lnotab` or `co_linetable`.
    pub code_linetable: u32,
    /// `co_code_adaptive`: the bytecode lies inside the code object.
    pub code_bytecode: Option<u32>,
    /// `co_version` (u32).
    pub code_version: Option<u32>,
    pub line_format: LineFormat,
    /// `sizeof(PyASCIIObject)`: where the characters of a compact ASCII string begin.
    pub ascii_size: u32,
    /// `sizeof(PyCompactUnicodeObject)`: where those of any other compact string begin, and where a string
    /// that is not compact keeps the pointer to them.
    pub compact_size: u32,
    /// `PyASCIIObject.length`.
    pub unicode_length: u32,
    /// `PyASCIIObject.state` (u32 of bit fields).
    pub unicode_state: u32,
    /// `PyVarObject.ob_size` of a bytes object.
    pub bytes_size: u32,
    /// `PyBytesObject.ob_sval`.
    pub bytes_data: u32,
    /// What only a build without the GIL has; `None` for every other.
    pub free_threaded: Option<FreeThreaded>,
}

/// What a build without the GIL (`--disable-gil`) has otherwise, beside the longer head of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeThreaded {
    /// Lowest bit of `kind` in `PyASCIIObject.state`; `compact` and `ascii` follow it. From 3.14 on `interned` has a byte
    /// of its own before it.
    pub unicode_kind_shift: u32,
    /// From 3.14 on.
    pub local_bytecode: Option<LocalBytecode>,
}

/// Each thread specialises a copy of the bytecode of its own, and a frame says in whose its instruction lies
/// (`Include/internal/pycore_code.h`, `_PyCodeArray`, 3.14 and 3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalBytecode {
    /// `_PyInterpreterFrame.tlbc_index` (int): 0 for the copy inside the code object.
    pub frame_index: u32,
    /// `PyCodeObject.co_tlbc`: points to a count and as many pointers to copies.
    pub code_copies: u32,
}

/// By so many bytes an object's head is longer without the GIL: the owner's id, a lock and a second count come before
/// `ob_type` (`Include/object.h`, 3.13 to 3.15). Whatever lies behind the head is as far further back.
pub const LONGER_HEAD: u32 = 16;

impl ObjectOffsets {
    /// Bytes by which the parts of an object lie further back than in a build with the GIL.
    #[must_use]
    pub fn longer_head(&self) -> u64 {
        if self.free_threaded.is_some() { u64::from(LONGER_HEAD) } else { 0 }
    }

    /// The table of the same version's build without the GIL, where that differs by the head of objects alone.
    pub(super) const fn without_gil(self, free_threaded: FreeThreaded) -> Self {
        const fn moved(offset: Option<u32>) -> Option<u32> {
            match offset {
                Some(offset) => Some(offset + LONGER_HEAD),
                None => None,
            }
        }
        Self {
            code_firstlineno: self.code_firstlineno + LONGER_HEAD,
            code_filename: self.code_filename + LONGER_HEAD,
            code_name: self.code_name + LONGER_HEAD,
            code_qualname: moved(self.code_qualname),
            code_linetable: self.code_linetable + LONGER_HEAD,
            code_bytecode: moved(self.code_bytecode),
            code_version: moved(self.code_version),
            ascii_size: self.ascii_size + LONGER_HEAD,
            compact_size: self.compact_size + LONGER_HEAD,
            unicode_length: self.unicode_length + LONGER_HEAD,
            unicode_state: self.unicode_state + LONGER_HEAD,
            bytes_size: self.bytes_size + LONGER_HEAD,
            bytes_data: self.bytes_data + LONGER_HEAD,
            free_threaded: Some(free_threaded),
            ..self
        }
    }
}

/// The oldest and the newest minor version of Python 3 that have a table.
pub const SUPPORTED_MINORS: std::ops::RangeInclusive<u8> = 8..=15;

/// The table of Python 3.`minor` with the GIL.
#[must_use]
pub fn table(minor: u8) -> Option<&'static ObjectOffsets> {
    match minor {
        8 => Some(&v3_8::OFFSETS),
        9 => Some(&v3_9::OFFSETS),
        10 => Some(&v3_10::OFFSETS),
        11 => Some(&v3_11::OFFSETS),
        12 => Some(&v3_12::OFFSETS),
        13 => Some(&v3_13::OFFSETS),
        14 => Some(&v3_14::OFFSETS),
        15 => Some(&v3_15::OFFSETS),
        _ => None,
    }
}

/// The table of Python 3.`minor` without the GIL.
#[must_use]
pub fn free_threaded_table(minor: u8) -> Option<&'static ObjectOffsets> {
    match minor {
        13 => Some(&v3_13::FREE_THREADED),
        14 => Some(&v3_14::FREE_THREADED),
        15 => Some(&v3_15::FREE_THREADED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_minor_has_a_table_and_no_other() {
        for minor in 0..=u8::MAX {
            assert_eq!(table(minor).is_some(), SUPPORTED_MINORS.contains(&minor), "3.{minor}");
            assert_eq!(free_threaded_table(minor).is_some(), (13..=15).contains(&minor), "3.{minor}");
        }
    }
}
