//! `cargo xtask tidy`: the house rules as code, so that none of them rests on anybody's memory. It reads sources as
//! text; what a compiler or clippy can hold is left to them.
//!
//! [`source`] reads a file and blanks comments and strings, [`rooms`] holds the one-way flow, [`rules`] the rest.

pub mod command;
pub mod rooms;
pub mod rules;
pub mod source;
