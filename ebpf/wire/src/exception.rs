//! Exceptions on their way through frames: what the kernel half sends of them, and where each version of CPython
//! keeps what it has to read for that.

use crate::event::Header;
use crate::python::Frame;
use crate::scope::Scope;
use bytemuck::{Pod, Zeroable};

/// Where an interpreter keeps the exception that is being raised, and what is in it. Offsets in bytes;
/// [`crate::python::ABSENT`] where the version has no such field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct ExceptionLayout {
    /// Types whose exceptions are how Python ends a loop, not errors (`StopIteration` and its kin). They are not looked at.
    pub control_flow: [u64; CONTROL_FLOW],
    /// In the thread state: `current_exception` (3.12 on), or `curexc_value` with `curexc_type` before it and
    /// `curexc_traceback` behind it.
    pub tstate_exception: u32,
    /// 1: type, value and traceback are three words of the thread state (up to 3.11), and the value may still be
    /// only the arguments. 0: there is one exception object, which holds all.
    pub in_three: u32,
    /// In an exception object.
    pub args: u32,
    pub traceback: u32,
    pub context: u32,
    pub cause: u32,
    pub suppress_context_u8: u32,
    /// In an `OSError`: `filename`, which is no argument any more.
    pub os_filename: u32,
    /// In a frame object: the interpreter's frame. [`crate::python::ABSENT`] up to 3.10, where they are one.
    pub frame_object_frame: u32,
    /// In a tuple: the first member.
    pub tuple_items: u32,
    /// Sizes of the heads of a string, behind which its characters lie: ASCII, and any other.
    pub ascii_head: u32,
    pub compact_head: u32,
    /// Which register holds the frame object where the probe is, as an index into [`crate::exception::register`].
    pub frame_register: u32,
    /// Which register holds the exception there, because the thread state does not any more.
    /// [`crate::python::ABSENT`] where it does.
    pub exception_register: u32,
    /// Which register holds the traceback that the exception had so far, where the probe lies on the path that only
    /// exceptions with a traceback take. [`crate::python::ABSENT`] where every exception passes the probe.
    pub traceback_register: u32,
    /// 1: [`Self::frame_register`] holds the new head of the traceback, which knows its frame.
    pub frame_in_traceback: u32,
    /// 1: the probe lies behind the moment in which the frame has been put into the traceback, and the thread state has
    /// the exception again.
    pub is_restored: u32,
    pub padding: u32,
}

/// Entries of [`ExceptionLayout::control_flow`].
pub const CONTROL_FLOW: usize = 3;

/// Numbers of registers, as x86 instructions have them.
pub mod register {
    pub const RAX: u32 = 0;
    pub const RDI: u32 = 7;
    /// Numbers there are.
    pub const COUNT: usize = 16;
}

/// Values of [`Exception::relation`]: to the exception that [`Exception::other`] names.
pub mod relation {
    /// To none: it has just left the frame that raised it.
    pub const NONE: u16 = 0;
    /// This is its `__cause__`.
    pub const CAUSE_OF: u16 = 1;
    /// This is its `__context__`, and not suppressed.
    pub const CONTEXT_OF: u16 = 2;
    /// This one was raised with the other's traceback, which it goes on with.
    pub const CONTINUES: u16 = 3;
}

/// Flags of an `EXCEPTION` record's header.
pub mod flag {
    /// It has more frames than [`super::MAX_FRAMES`]; the outermost are kept.
    pub const FRAMES_CUT: u16 = 1;
    /// Some of its frames could not be read.
    pub const FRAMES_UNREADABLE: u16 = 2;
    /// The chain of causes and contexts goes on behind the last that is sent.
    pub const CHAIN_CUT: u16 = 4;
}

/// Frames of one record.
pub const MAX_FRAMES: usize = 32;
/// Exceptions of a chain that are sent, the first one among them.
pub const MAX_CHAIN: usize = 4;
/// Bytes of a string among the values.
pub const MAX_TEXT: usize = 256;
/// Bytes of a class's name.
pub const MAX_NAME: usize = 64;
/// Values of one record.
pub const VALUES: usize = 3;

/// Values of [`Value::kind`].
pub mod value {
    /// There is none.
    pub const NONE: u16 = 0;
    /// A string: `width` bytes for each character.
    pub const TEXT: u16 = 1;
    /// An int, or a subclass's: the first 24 bytes behind its head.
    pub const INT: u16 = 2;
    /// Anything else: only its class is told.
    pub const OTHER: u16 = 3;
    /// It could not be read.
    pub const UNREADABLE: u16 = 4;
}

/// One object that belongs to an exception.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Value {
    /// Address of its class.
    pub class: u64,
    /// Characters of the whole string.
    pub length: u64,
    /// One of [`value`].
    pub kind: u16,
    /// Bytes of a character: 1, 2 or 4.
    pub width: u16,
    /// Bytes of `bytes` that are filled.
    pub captured: u32,
    pub bytes: [u8; MAX_TEXT],
}

/// `EXCEPTION`: an exception has left the frame that raised it; or, with a relation, one that belongs to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Exception {
    pub header: Header,
    pub scope: Scope,
    /// Unique for the life of the daemon.
    pub id: u64,
    /// The exception that this one is related to; 0 when there is none.
    pub other: u64,
    /// Address of its class.
    pub class: u64,
    /// Exceptions of this class, raised at this place, that were not sent since the last that was.
    pub suppressed: u32,
    /// Frames that are filled: the outermost first.
    pub frames: u32,
    /// Arguments it has; the first two are in `values`, and then the file's name of an `OSError`.
    pub arguments: u32,
    /// One of [`relation`].
    pub relation: u16,
    pub padding: u16,
    /// Hash of its class and of where it was raised, by which the kernel half keeps its rates; 0 where it was not asked.
    pub place: u64,
    /// `tp_name` of its class, up to a NUL.
    pub class_name: [u8; MAX_NAME],
    pub values: [Value; VALUES],
    pub stack: [Frame; MAX_FRAMES],
}

/// Rows that the kernel half has for places, a power of two; places that meet in one displace each other.
pub const PLACES: u32 = 4096;

/// The row of a place: of its rate, and in the array `QUIET`, where userspace writes which places raise what libraries
/// always catch themselves. Of such a place fewer are sent.
#[must_use]
pub const fn place_slot(place: u64) -> u32 {
    (place >> 40) as u32 & (PLACES - 1)
}

/// `EXCEPTION_PASSED`: an exception that was sent has reached one more frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Passed {
    pub header: Header,
    pub id: u64,
    pub frame: Frame,
}

const _: () = assert!(size_of::<ExceptionLayout>() == 96);
const _: () = assert!(size_of::<Value>() == 280);
const _: () = assert!(size_of::<Exception>() == 24 + 24 + 24 + 16 + 8 + 64 + 3 * 280 + 32 * 16);
const _: () = assert!(size_of::<Passed>() == 48);
