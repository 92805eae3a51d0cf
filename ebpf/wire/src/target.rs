//! Which processes are watched. Written by userspace at attach, copied by the kernel at fork.

use crate::python::Layout;
use bytemuck::{Pod, Zeroable};

/// Value of the map `TARGETS`, keyed by tgid (initial pid namespace).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct Target {
    pub layout: Layout,
    /// Which application this is: an index that userspace chose; workers share their master's.
    pub application: u32,
    pub padding: u32,
}

/// Processes that can be targets at once.
pub const MAX_TARGETS: u32 = 4096;

const _: () = assert!(size_of::<Target>() == 88);
