//! Python 3.11. Frames leave the heap: `_PyInterpreterFrame` in the data stack, found through `_PyCFrame`.
//! Source: computed with `offsetof` from the internal headers, CPython 3.11.7, x86-64.

use super::table::{LineFormat, ObjectOffsets};

pub(super) static OFFSETS: ObjectOffsets = ObjectOffsets {
    runtime_interpreters_head: 40,
    runtime_auto_tss_key: Some(592),
    interpreter_next: 0,
    interpreter_threads_head: 16,
    tstate_next: 8,
    tstate_interpreter: 16,
    tstate_thread_id: 152,
    tstate_native_thread_id: Some(160),
    tstate_frame: 56,
    cframe_current: Some(8),
    frame_code: 32,
    frame_previous: 48,
    frame_instruction: 56,
    frame_owner: Some(69),
    frame_is_entry: Some(68),
    instruction_scale: 1,
    tag_mask: 0,
    code_firstlineno: 72,
    code_filename: 112,
    code_name: 120,
    code_qualname: Some(128),
    code_linetable: 136,
    code_bytecode: Some(184),
    code_version: None,
    line_format: LineFormat::Locations,
    ascii_size: 48,
    compact_size: 72,
    unicode_length: 16,
    unicode_state: 32,
    bytes_size: 16,
    bytes_data: 32,
    free_threaded: None,
};
