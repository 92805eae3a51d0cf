//! `cargo xtask setup`: installs what building, testing and the demo need, and is missing. A second run finds
//! everything there and installs nothing. It starts no service and leaves none running.
//!
//! [`packages`] are the distribution's, [`linker`] comes from cargo, [`python`] makes virtual environments,
//! [`interpreters`] are unpacked from other suites, [`free_threaded`] ones built when they are asked for.

pub mod command;
pub mod free_threaded;
pub mod interpreters;
pub mod linker;
pub mod packages;
pub mod privilege;
pub mod python;
