//! Where the interpreter keeps a thread's frames: handed to the kernel per process, as data. No CPython
//! version is known to the kernel half; whatever differs between versions is a field here.

use bytemuck::{Pod, Zeroable};

/// A field that this version of CPython does not have.
pub const ABSENT: u32 = u32::MAX;

/// How the thread state is found from the thread's `fsbase`. Values of [`Layout::route`].
pub mod route {
    /// Not known: no stacks for this process.
    pub const NONE: u32 = 0;
    /// `*(fsbase + first)`: a pthread key below 32 (glibc), or a TLS variable at a fixed offset.
    pub const DIRECT: u32 = 1;
    /// `*(*(fsbase + first) + second)`: a pthread key of the second level (glibc), or any key (musl).
    pub const INDIRECT: u32 = 2;
    /// `*(*(*(fsbase + 8) + first) + second)`: a TLS variable through the dynamic thread vector.
    pub const DTV: u32 = 3;
}

/// How one process's interpreter lays out what a stack walk touches. Offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct Layout {
    pub first: i64,
    pub second: i64,
    /// One of [`route`].
    pub route: u32,
    /// In the thread state: the current frame, or the `_PyCFrame` if `cframe_current` is present.
    pub tstate_frame: u32,
    /// In `_PyCFrame` (3.11, 3.12): the current frame. [`ABSENT`] elsewhere.
    pub cframe_current: u32,
    /// In the frame: the code object (`f_code`, `f_executable`).
    pub frame_code: u32,
    /// In the frame: the caller's frame (`f_back`, `previous`).
    pub frame_previous: u32,
    /// In the frame: `f_lasti` (int, up to 3.10) or a pointer to the instruction (from 3.11).
    pub frame_instruction: u32,
    /// In the frame: `owner` byte; frames whose owner is 3 or more are not Python's. [`ABSENT`] up to 3.10.
    pub frame_owner: u32,
    /// In the code object: start of the bytecode, if `frame_instruction` is a pointer. [`ABSENT`] up to 3.10.
    pub code_bytecode: u32,
    /// `f_lasti` is multiplied by this (2 on 3.10, else 1) to give a byte offset.
    pub instruction_scale: u32,
    /// In the code object, for [`Frame::identity`]: each is 4 or 8 bytes, see the names.
    pub code_firstlineno_u32: u32,
    pub code_filename_u64: u32,
    pub code_name_u64: u32,
    pub code_linetable_u64: u32,
    /// [`ABSENT`] before 3.12.
    pub code_version_u32: u32,
    /// Bits that a pointer in a frame may carry as a tag (3 from 3.14 on, else 0).
    pub tag_mask: u32,
    /// Bytes from a frame's start that hold all of the above: read at once. At most [`FRAME_BYTES`].
    pub frame_bytes: u32,
    /// Bytes from a code object's start that hold all of the above. At most [`CODE_BYTES`].
    pub code_bytes: u32,
    /// In the thread state: its interpreter.
    pub tstate_interpreter: u32,
    /// In the interpreter: the pointer to its lock (from 3.12 on). [`ABSENT`] up to 3.11, see `gil`.
    pub interpreter_gil: u32,
    pub padding: u32,
    /// Address of the one lock of all interpreters (up to 3.11); 0 from 3.12 on.
    pub gil: u64,
}

/// `struct _gil_runtime_state`, the global interpreter lock (CPython `Include/internal/pycore_gil.h`, the same in 3.8
/// to 3.15 on x86-64 glibc). Offsets in bytes.
pub mod gil {
    /// The thread state that holds it, or did so last.
    pub const LAST_HOLDER: u32 = 8;
    /// An int, directly behind: 1 while it is held.
    pub const LOCKED: u32 = 16;
    /// From here on lie the conditions and mutexes that threads sleep on.
    pub const WAITERS: u64 = 32;
    pub const SIZE: u64 = 208;
}

/// Most of a frame that is read.
pub const FRAME_BYTES: usize = 128;
/// Most of a code object that is read.
pub const CODE_BYTES: usize = 256;

/// One Python frame, unresolved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Address of the code object.
    pub code: u64,
    /// Byte offset of the instruction in the bytecode; negative before the first one.
    pub instruction: i32,
    /// Folded from fields of the code object (see `identity` in the kernel half): a code object that was
    /// freed and its address reused does not keep it.
    pub identity: u32,
}

/// Whether a stack could be taken. `stack_status` of the records that carry a stack.
pub mod status {
    /// All frames from the innermost to the outermost.
    pub const COMPLETE: u16 = 0;
    /// The process has no usable [`super::Layout`].
    pub const NO_LAYOUT: u16 = 1;
    /// This thread has no Python thread state.
    pub const NO_THREAD_STATE: u16 = 2;
    /// The thread state has no frame.
    pub const NO_FRAME: u16 = 3;
    /// A page of the target was not readable; the frames up to there are kept.
    pub const UNREADABLE: u16 = 4;
    /// More frames than one stack holds; the innermost are kept.
    pub const TRUNCATED: u16 = 5;
    /// No stack was wanted here.
    pub const NOT_ASKED: u16 = 6;
}

/// Frames that one stack holds.
pub const MAX_FRAMES: usize = 256;

const _: () = assert!(size_of::<Layout>() == 104);
const _: () = assert!(size_of::<Frame>() == 16);
