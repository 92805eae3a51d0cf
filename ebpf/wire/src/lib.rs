//! What crosses the kernel boundary, in both directions. `no_std`, `repr(C)`, explicit padding,
//! sizes asserted at compile time. It holds no logic: the kernel half fills these structs, the
//! userspace half reads them, and neither learns anything else about the other.
#![no_std]

pub mod connection;
pub mod count;
pub mod event;
pub mod exception;
pub mod greenlet;
pub mod python;
pub mod scope;
pub mod settings;
pub mod target;
