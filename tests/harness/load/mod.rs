//! A load generator that knows exactly what it asked and what it was answered: the truth that transactions are
//! compared with. Blocking sockets and threads; it is to be right, not fast.
//!
//! [`Connection`] speaks HTTP/1.1, [`drive`] keeps several of them busy and counts.

mod connection;
mod drive;
mod request;

pub use connection::{Address, Answer, Connection};
pub use drive::{Counts, Measured, Plan, Stream, drive};
pub use request::{Body, Request};
