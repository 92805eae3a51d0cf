//! Tasks whose beginning and end are told by breakpoints on the bytecode that runs them: what the kernel half is told of a
//! process (`TASK_SITES`), and the records that come of it.
//!
//! A kernel that can be interrupted anywhere leaves out a breakpoint that is hit while a program or a call of `bpf` stands
//! interrupted on the same CPU (`bpf_overflow_handler`, kernel `kernel/events/core.c`). Whether the beginning of a task was
//! seen is therefore remembered (`TASK_OPEN`): if it was not, its end tells of it.

use crate::event::Header;
use bytemuck::{Pod, Zeroable};

/// Processes that are followed at once.
pub const MAX_PROCESSES: u32 = 1024;
/// Bytes of a text that are told; a longer one is not told at all.
pub const TEXT: usize = 256;
/// Bytes of a state's name.
pub const STATE: usize = 16;
/// Bytes of the name of an exception's class, a zero at the end included.
pub const CLASS: usize = 64;
/// Threads in a task at once that are remembered; the map is LRU.
pub const MAX_OPEN: u32 = 16_384;
/// Retries that could not be read.
pub const NOT_KNOWN: u32 = u32::MAX;

/// Value of the map `TASK_SITES`, keyed by process id. Offsets in bytes; those of variables are in the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TaskSites {
    /// The code object whose frames are tasks.
    pub code: u64,
    /// Where its body begins. A hit anywhere else is an end.
    pub begin: u64,
    /// Addresses of the types `str`, `int`, and of the class that says what became of a task.
    pub str_type: u64,
    pub int_type: u64,
    pub info_type: u64,
    /// Variables: the task's id, its headers (a dict), what became of it, and the name of its state.
    pub id: u32,
    pub headers: u32,
    pub info: u32,
    pub state: u32,
    /// The variable that holds when it began: a float, `time.monotonic()`. [`crate::python::ABSENT`] where there is none.
    pub started: u32,
    /// In an object of `info_type`: the name of the state, and the exception.
    pub info_state: u32,
    pub info_exception: u32,
    /// In a string of ASCII characters: where they begin.
    pub text_data: u32,
    /// 1: the head of a dict's keys is that of 3.11 and later.
    pub compact_keys: u32,
    /// 1: an int has its number of digits in `lv_tag` (3.12 and later).
    pub int_tag: u32,
}

/// `TASK_BEGUN`: this thread begins with a task that its worker was asked for, or ([`LATE`]) is at its end, and nobody has
/// told of its beginning. Lengths are 0 where something is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TaskBegun {
    pub header: Header,
    /// Unique, like the id of a connection.
    pub task: u64,
    /// Address of its frame.
    pub frame: u64,
    pub retries: u32,
    pub padding: u32,
    /// With [`LATE`]: when it began, the bits of a float of seconds; 0 where that is not known.
    pub started: u64,
    /// Of `texts`, in their order.
    pub lengths: [u32; 4],
    /// Id, name, routing key, `traceparent`.
    pub texts: [[u8; TEXT]; 4],
}

/// In [`Header::flags`] of a [`TaskBegun`].
pub const LATE: u16 = 1;

/// Places in [`TaskBegun::texts`].
pub mod text {
    pub const ID: usize = 0;
    pub const NAME: usize = 1;
    pub const ROUTING_KEY: usize = 2;
    pub const TRACEPARENT: usize = 3;
}

/// `TASK_DONE`: this thread has done with a task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TaskDone {
    pub header: Header,
    /// As in [`TaskBegun`].
    pub frame: u64,
    /// Of `state`; 0 where it is not known.
    pub length: u32,
    pub padding: u32,
    pub state: [u8; STATE],
    /// Up to a zero; empty where there was none.
    pub class: [u8; CLASS],
}

/// `TASK_LEFT`: an exception has left the function that runs a task, and its caller is told. No record of the exception says
/// so reliably: those are bounded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TaskLeft {
    pub header: Header,
    /// Of `id`; 0 where it is not known.
    pub length: u32,
    pub padding: u32,
    /// Of the task.
    pub id: [u8; TEXT],
}

const _: () = assert!(size_of::<TaskSites>() == 80);
const _: () = assert!(size_of::<TaskBegun>() == 24 + 32 + 16 + 4 * TEXT);
const _: () = assert!(size_of::<TaskLeft>() == 24 + 8 + TEXT);
const _: () = assert!(size_of::<TaskDone>() == 24 + 16 + STATE + CLASS);
