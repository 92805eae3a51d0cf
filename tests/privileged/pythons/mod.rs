//! Stacks of every version of CPython, as they come from the kernel half: true, whole, and named as the interpreter
//! itself names them.

mod sampler;

mod depth;
mod exceptions;
mod flutter;
mod free_threaded;
mod jit;
mod lines;
mod names;
mod native;
mod places;
mod released;
mod robust;
