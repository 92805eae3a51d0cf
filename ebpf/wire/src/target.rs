//! Which processes are watched. Written by userspace at attach, copied by the kernel at fork.

use crate::exception::ExceptionLayout;
use crate::python::Layout;
use crate::scope::Contexts;
use bytemuck::{Pod, Zeroable};

/// Values of [`Target::pipes`]: which pipes are looked at like stream sockets.
pub mod pipes {
    pub const NONE: u32 = 0;
    /// Those of the processes that this one forks: it hands them work through pipes.
    pub const CHILDREN: u32 = 1;
    /// Its own; none of the processes that it forks.
    pub const OWN: u32 = 2;
}

/// Value of the map `TARGETS`, keyed by tgid (initial pid namespace).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct Target {
    pub layout: Layout,
    pub exceptions: ExceptionLayout,
    /// Unique for this process's time as a target (`CLOCK_MONOTONIC` nanoseconds when it became one): tells
    /// what an earlier process of the same pid left in a map from what is this one's.
    pub generation: u64,
    /// 1: when the process runs another program by exec it stays a target, without a layout, and its children
    /// are followed at once. 0: it is a target no longer; userspace decides.
    pub follow_exec: u32,
    /// One of [`pipes`].
    pub pipes: u32,
    pub contexts: Contexts,
    /// 1 once a thread of the process, or of the one that it was forked from, has called a TLS library; the kernel half sets
    /// it.
    pub tls: u32,
    pub padding: u32,
}

/// Processes that can be targets at once.
pub const MAX_TARGETS: u32 = 4096;

/// Threads of targets whose time off the CPU can be followed at once.
pub const MAX_SLEEPERS: u32 = 32_768;

const _: () = assert!(size_of::<Target>() == 376);
