//! Userspace's hints on how much of a connection's bytes it wants. Hints never change what is counted:
//! a late or lost hint only means that more bytes are copied than needed.

use bytemuck::{Pod, Zeroable};

/// Key of the map `CONNECTIONS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct Key {
    pub tgid: u32,
    pub fd: u32,
}

/// One slot of the array `HINTS`. It speaks of `connection` alone; two connections that meet in one slot
/// displace each other's hint, which costs copying and nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct Hint {
    pub connection: u64,
    /// Inbound bytes before this stream offset are not wanted (a request body whose length is known).
    pub skip_in: u64,
    /// The same for outbound bytes.
    pub skip_out: u64,
    /// Most bytes wanted of one call, each direction, up to [`MAX_CAPTURE`].
    pub want_in: u32,
    pub want_out: u32,
    /// 1: no Python stacks of outgoing calls, because something else tells the call site, or none is needed.
    pub no_stacks: u32,
    pub padding: u32,
}

/// Slots of `HINTS`; a power of two.
pub const HINT_SLOTS: u32 = 16_384;

/// The slot of a connection's hint: both sides must agree on it, so it stands here.
#[must_use]
pub const fn hint_slot(connection: u64) -> u32 {
    (connection.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50) as u32
}

const _: () = assert!(HINT_SLOTS == 1 << (64 - 50));

/// Bytes of one call that are copied at most, in records of at most [`RECORD_CAPTURE`] each.
pub const MAX_CAPTURE: u32 = 64 * 1024;
/// Payload bytes (head and tail together) that one record carries at most.
pub const RECORD_CAPTURE: u32 = 16 * 1024;
/// Bytes from the end of a call that are copied when its head was cut short.
pub const TAIL_CAPTURE: u32 = 64;

/// What is captured of a call on a connection that begins neither like an inbound HTTP request nor like HTTP/2, until a
/// hint says otherwise.
pub const DEFAULT_CAPTURE: u32 = 2048;

const _: () = assert!(size_of::<Key>() == 8);
const _: () = assert!(size_of::<Hint>() == 40);
