//! Greenlets as they are made: the record by which one is told from another that had its address before. Which one runs
//! at an event is in [`crate::scope`].

use crate::event::Header;
use bytemuck::{Pod, Zeroable};

/// Flags of a `GREENLET` record.
pub mod flag {
    /// It stands for a thread (`threading.Thread` where gevent has replaced threads): what it works on is not its maker's
    /// to tell.
    pub const THREAD: u16 = 1;
}

/// `GREENLET`: this thread makes a greenlet. Whatever was known of its address before was of another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Greenlet {
    pub header: Header,
    /// Address of the new one.
    pub greenlet: u64,
    /// The greenlet that runs, as [`crate::scope::Scope::task`] has it; 0 when it is the thread's first one, or not known.
    pub maker: u64,
}

const _: () = assert!(size_of::<Greenlet>() == 40);
