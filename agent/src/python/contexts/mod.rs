//! `PyContext`, by which an event loop tells apart what it runs in turns: where a thread keeps its current one, and
//! where in the interpreter's code a new one is born. It reads files and handed-in numbers; it attaches nothing.
//!
//! - [`births`]: the instructions at which the address of a new context lies in a register.
//! - [`flow`]: the decoded function that they are found in.
//! - [`explain`]: what of it works in a process, in words.
//! - [`greenlets`]: the same for greenlets: which one runs, and where new ones are made.
//! - [`layout`]: what the kernel half needs to know of one process.

mod births;
mod explain;
mod flow;
mod greenlets;
mod layout;

pub use births::{Births, of_copies, of_empty};
pub use explain::event_loops;
pub use greenlets::{GreenletCode, GreenletsUnknown};
pub use layout::{ContextCode, Switching, contexts};
