//! `cargo xtask bpf`: builds the kernel half and puts the object, with a record of what it was built from,
//! where the agent embeds it; `--check` proves that the committed object is what the sources build.
//!
//! [`toolchain`] finds the compiler, [`sources`] hashes what goes in, [`build`] makes the object.

pub mod build;
pub mod command;
pub mod lockfile;
pub mod sources;
pub mod toolchain;
