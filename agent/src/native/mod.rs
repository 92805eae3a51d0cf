//! C, C++ and Rust frames: from a copied stack to functions, and to their places between Python frames.
//!
//! ```text
//! object     one mapped file: unwind sections, symbols, which code is the interpreter's loop
//! evaluation the code of the interpreter's loop, wherever the compiler has put its parts
//! names      symbols as people read them
//! unwinder   one process: where its files are mapped, and the walk over a copied stack
//! join       native and Python frames to one stack
//! plumbing   functions that do nothing but call
//! ```
//!
//! What is unwound is a copy that the kernel half made of the thread's own stack, so it cannot change meanwhile; code
//! and unwind tables come from the files. This is not the Python side of a stack, which needs none of this.

mod evaluation;
mod join;
mod names;
mod object;
mod plumbing;
mod unwinder;

pub use join::{Joined, PythonStack, join};
pub use unwinder::{NativeFrame, NativeStack, Unwinders};
