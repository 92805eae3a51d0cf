//! Python 3.12. As 3.11 with shim frames (`owner` 3), a shorter `PyASCIIObject`, and `co_version`.
//! Source: computed with `offsetof` from the internal headers, CPython 3.12.1, x86-64.

use super::table::{LineFormat, ObjectOffsets};

pub(super) static OFFSETS: ObjectOffsets = ObjectOffsets {
    runtime_interpreters_head: 40,
    runtime_auto_tss_key: Some(1544),
    interpreter_next: 0,
    interpreter_threads_head: 72,
    tstate_next: 8,
    tstate_interpreter: 16,
    tstate_thread_id: 136,
    tstate_native_thread_id: Some(144),
    tstate_frame: 56,
    cframe_current: Some(0),
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
    code_bytecode: Some(192),
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
