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
    /// In the frame: `is_entry` (3.11), one byte. [`ABSENT`] elsewhere: up to 3.10 every frame is entered from
    /// C, and from 3.12 on those are whose caller is one of the interpreter's own frames.
    pub frame_entry: u32,
    /// In the code object, for [`Frame::identity`]: where its first four words begin. Where there is a
    /// `co_version`, it is the last four bytes of them.
    pub code_start: u32,
    /// Bytes from there that are read at once: the four words, and up to 3.11 the tail too, as the last four.
    /// At most [`CODE_BYTES`].
    pub code_bytes: u32,
    /// In the code object: four words among which are the addresses of the file's name, of the function's and,
    /// as the last, of the line table. Folded too where no `co_version` tells code objects apart.
    pub code_tail: u32,
    /// In those words, in bytes: the address of the function's name.
    pub tail_name: u32,
    /// 1 where there is a `co_version` (from 3.12 on).
    pub has_version: u32,
    /// Bits that a pointer in a frame may carry as a tag (3 from 3.14 on, else 0).
    pub tag_mask: u32,
    /// In the frame: where what is read of it begins. Below [`FRAME_BYTES`].
    pub frame_start: u32,
    /// Bytes from there that hold all of the above: read at once. They end before [`FRAME_BYTES`].
    pub frame_bytes: u32,
    /// In the thread state: its interpreter.
    pub tstate_interpreter: u32,
    /// In the interpreter: the pointer to its lock (from 3.12 on). [`ABSENT`] up to 3.11, see `gil`.
    pub interpreter_gil: u32,
    /// Address of the one lock of all interpreters (up to 3.11); 0 from 3.12 on.
    pub gil: u64,
    /// Bytes before the lock's struct as [`gil`] has it: a free-threaded build keeps there whether it is switched on.
    pub gil_head: u32,
    /// In the frame: which copy of the bytecode its instruction lies in, an int; 0 is the one inside the code object.
    /// [`ABSENT`] where there is but one.
    pub frame_copy: u32,
    /// In the code object: a pointer to the number of copies, behind which are pointers to them.
    pub code_copies: u32,
    /// 1 where each code object that is given up is told at once (the program `code_given_up`), so that stacks which
    /// were walked before are known again without another look at their code objects.
    pub deaths_told: u32,
}

/// `struct _gil_runtime_state`, the global interpreter lock (CPython `Include/internal/pycore_gil.h`, the same in 3.8
/// to 3.15 on x86-64 glibc, behind [`Layout::gil_head`]). Offsets in bytes.
pub mod gil {
    /// The thread state that holds it, or did so last.
    pub const LAST_HOLDER: u32 = 8;
    /// An int, directly behind: 1 while it is held.
    pub const LOCKED: u32 = 16;
    /// From here on lie the conditions and mutexes that threads sleep on.
    pub const WAITERS: u64 = 32;
    pub const SIZE: u64 = 208;
}

/// Slots in which the kernel half counts how many code objects were given up; processes whose ids differ by a multiple
/// of this share one. A power of two.
pub const DEATH_SLOTS: u32 = 1024;

/// Most of a frame that is read.
pub const FRAME_BYTES: usize = 128;
/// Most of a code object that is read at once.
pub const CODE_BYTES: usize = 128;
/// Words that an identity folds at the least, and bytes of them; see [`Layout::code_start`].
pub const IDENTITY_WORDS: usize = 4;
pub const IDENTITY_BYTES: u32 = 32;
/// In a string object of builds with the GIL: the hash of its contents, -1 before it is first asked for, which
/// for a name is when it is interned (CPython 3.8 to 3.15, `PyASCIIObject.hash`).
pub const CONTENTS_HASH: u64 = 24;

/// One Python frame, unresolved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Address of the code object, and [`ENTRIES`].
    pub code: u64,
    /// Byte offset of the instruction in the bytecode; negative before the first one.
    pub instruction: i32,
    /// Folded from fields of the code object (see `identity` in the kernel half): a code object that was
    /// freed and its address reused does not keep it.
    pub identity: u32,
}

/// Bits of [`Frame::code`], which the alignment of code objects leaves free: how often C code called the interpreter
/// between this frame and its caller, 0 to 3, where 3 is that or more. With 0, the caller is the next frame and ran
/// in the same call of the interpreter. Twice means that a call has ended its last frame but not itself.
pub const ENTRIES: u64 = 3;

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
    /// The stack goes on: beyond [`super::MAX_FRAMES`] frames, of which the innermost are kept, or for samples and
    /// switches beyond [`super::MAX_STEPS`] and [`super::SWITCH_STEPS`] steps.
    pub const TRUNCATED: u16 = 5;
    /// No stack was wanted here.
    pub const NOT_ASKED: u16 = 6;
}

/// Frames that a stack holds which is taken anywhere but for a sample or a switch.
pub const MAX_FRAMES: usize = 256;
/// Frames that the stack of a sample, or of a switch, holds. A deeper one keeps its two ends: the innermost [`INNER_FRAMES`], and nearly as
/// many of the outermost as are left of these.
pub const DEEP_FRAMES: usize = 4096;
/// Innermost frames that are kept of a stack of more than [`DEEP_FRAMES`].
pub const INNER_FRAMES: usize = 3072;
/// Steps after which a walk gives up: a step is a frame of Python's, or one of the interpreter's own.
pub const MAX_STEPS: usize = 32_768;
/// The same of a switch: nobody else can put a thread on that CPU as long as the walk lasts, and there may be any number
/// of switches a second. Stacks of [`DEEP_FRAMES`] are whole, with as many of the interpreter's own frames between them.
pub const SWITCH_STEPS: usize = 8192;
/// Most frames that one record carries.
pub const PART_FRAMES: usize = 512;

const _: () = assert!(size_of::<Layout>() == 120);
const _: () = assert!(size_of::<Frame>() == 16);
