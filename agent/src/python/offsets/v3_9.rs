//! Python 3.9. As 3.8, with a shorter `_PyRuntimeState`.
//! Source: computed with `offsetof` from the internal headers, CPython 3.9.18, x86-64.

use super::table::{LineFormat, ObjectOffsets};

pub(super) static OFFSETS: ObjectOffsets = ObjectOffsets {
    runtime_interpreters_head: 32,
    runtime_auto_tss_key: Some(584),
    interpreter_next: 0,
    interpreter_threads_head: 8,
    tstate_next: 8,
    tstate_interpreter: 16,
    tstate_thread_id: 176,
    tstate_native_thread_id: None,
    tstate_frame: 24,
    cframe_current: None,
    frame_code: 32,
    frame_previous: 24,
    frame_instruction: 104,
    frame_owner: None,
    frame_is_entry: None,
    instruction_scale: 1,
    tag_mask: 0,
    code_firstlineno: 40,
    code_filename: 104,
    code_name: 112,
    code_qualname: None,
    code_linetable: 120,
    code_bytecode: None,
    code_version: None,
    line_format: LineFormat::Lnotab,
    ascii_size: 48,
    compact_size: 72,
    unicode_length: 16,
    unicode_state: 32,
    bytes_size: 16,
    bytes_data: 32,
    free_threaded: None,
};
