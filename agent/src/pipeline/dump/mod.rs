//! `pyapm dump`: what every thread of some processes is doing now.
//!
//! ```text
//! act       pid -> processes -> rounds of looks and samples -> text or JSON
//! subject   one process: its threads, what was learnt of each, what it became in the model
//! running   threads that run: a moment of sampling, so that each gives its stack itself
//! state     where the kernel has a thread -> what it waits for
//! service   the running service, if there is one -> which transactions the threads are in
//! ```
//!
//! Nothing is stopped. A thread that sleeps is read from outside and believed only if it provably did not run
//! meanwhile; a thread that runs gives its stack itself, by the sampling probe. What neither gets is said to
//! be unreadable.

mod act;
mod running;
mod service;
mod state;
mod subject;

pub use act::dump;
pub(in crate::pipeline) use state::Surroundings;
