//! Python 3.14. References in frames carry tag bits (`_PyStackRef`).
//! Source: the `_Py_DebugOffsets` of Debian's build; `autoTSSkey`, `co_version` from its headers, CPython 3.14.10, x86-64.

use super::table::{FreeThreaded, LineFormat, LocalBytecode, ObjectOffsets};

pub(super) static OFFSETS: ObjectOffsets = ObjectOffsets {
    runtime_interpreters_head: 808,
    runtime_auto_tss_key: Some(2336),
    interpreter_next: 7272,
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
    frame_owner: Some(74),
    frame_is_entry: None,
    instruction_scale: 1,
    tag_mask: 3,
    code_firstlineno: 68,
    code_filename: 112,
    code_name: 120,
    code_qualname: Some(128),
    code_linetable: 136,
    code_bytecode: Some(208),
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

/// The build without the GIL. Source: `offsetof` on Debian's headers with `Py_GIL_DISABLED`, CPython 3.14.10, x86-64.
pub(super) static FREE_THREADED: ObjectOffsets = ObjectOffsets {
    frame_owner: Some(78),
    // Behind `co_tlbc`.
    code_bytecode: Some(232),
    ..OFFSETS.without_gil(FreeThreaded {
        unicode_kind_shift: 8,
        local_bytecode: Some(LocalBytecode { frame_index: 72, code_copies: 224 }),
    })
};
