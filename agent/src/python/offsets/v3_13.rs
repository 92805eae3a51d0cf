//! Python 3.13. No `_PyCFrame`; `instr_ptr` is the current instruction; `_Py_DebugOffsets` says most of this itself.
//! Source: computed with `offsetof` from the internal headers, CPython 3.13.0 and 3.13.18, x86-64.

use super::table::{FreeThreaded, LineFormat, ObjectOffsets};

pub(super) static OFFSETS: ObjectOffsets = ObjectOffsets {
    runtime_interpreters_head: 632,
    runtime_auto_tss_key: Some(2160),
    interpreter_next: 7264,
    interpreter_threads_head: 7344,
    tstate_next: 8,
    tstate_interpreter: 16,
    tstate_thread_id: 152,
    tstate_native_thread_id: Some(160),
    tstate_frame: 72,
    cframe_current: None,
    frame_code: 0,
    frame_previous: 8,
    frame_instruction: 56,
    frame_owner: Some(70),
    frame_is_entry: None,
    instruction_scale: 1,
    tag_mask: 0,
    code_firstlineno: 68,
    code_filename: 112,
    code_name: 120,
    code_qualname: Some(128),
    code_linetable: 136,
    code_bytecode: Some(200),
    code_version: Some(92),
    line_format: LineFormat::Locations,
    ascii_size: 40,
    compact_size: 56,
    unicode_length: 16,
    unicode_state: 32,
    bytes_size: 16,
    bytes_data: 32,
    free_threaded: None,
};

/// The build without the GIL. Source: `offsetof` on its headers, CPython 3.13.15, x86-64. It has one copy of the bytecode
/// for all threads, because it does not specialise.
pub(super) static FREE_THREADED: ObjectOffsets =
    OFFSETS.without_gil(FreeThreaded { unicode_kind_shift: 2, local_bytecode: None });
