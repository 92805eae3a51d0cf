//! Who runs on a thread at an event, when one thread serves many requests: what the interpreter itself
//! switches between them. Zeros where it was not asked for (one request a thread) or could not be read.

use bytemuck::{Pod, Zeroable};

/// Addresses in the target, good for comparing only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct Scope {
    /// `tstate->context`: the current `PyContext`. 0 when there is none or it was not read.
    pub context: u64,
    /// What else is switched with the request: the running task, or the greenlet. 0 when unknown.
    pub task: u64,
    /// Facts about the thread; none is defined yet.
    pub flags: u32,
    pub padding: u32,
}

const _: () = assert!(size_of::<Scope>() == 24);
