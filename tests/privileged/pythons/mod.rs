//! Stacks of every version of CPython, as they come from the kernel half: true, whole, and named as the interpreter
//! itself names them.

mod sampler;

mod depth;
mod flutter;
mod lines;
mod names;
mod places;
mod released;
mod robust;
