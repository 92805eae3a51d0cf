//! Names for frames: a bounded memory of the code objects and stacks of every process that was seen. It asks
//! the room `python` to read what it does not know, and never names a frame by a code object that is not
//! provably the one that the frame ran.

mod cache;
mod classes;
mod clock;
mod limits;
mod resolver;

pub use limits::Limits;
pub use resolver::{Counts, Symbols, UNKNOWN, left_out};
