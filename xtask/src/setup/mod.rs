//! `cargo xtask setup`: installs what building, testing and the demo need, and is missing. A second run finds
//! everything there and installs nothing. It starts no service and leaves none running.
//!
//! [`packages`] are the distribution's, [`linker`] comes from cargo, [`python`] makes virtual environments.

pub mod command;
pub mod linker;
pub mod packages;
pub mod privilege;
pub mod python;
