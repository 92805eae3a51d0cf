//! `PyContext`, by which an event loop tells apart what it runs in turns: where a thread keeps its current one, and
//! where in the interpreter's code a new one is born. It reads files and handed-in numbers; it attaches nothing.
//!
//! - [`births`]: the instructions at which the address of a new context lies in a register.
//! - [`flow`]: the decoded function that they are found in.
//! - [`layout`]: what the kernel half needs to know of one process.

mod births;
mod flow;
mod layout;

pub use births::{Births, of_copies, of_empty};
pub use layout::{ContextCode, Switching, contexts};
