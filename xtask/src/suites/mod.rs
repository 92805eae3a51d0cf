//! `cargo xtask test`: everything that is checked, in the order in which CI checks it.

mod again;
pub mod command;
mod fuzz;
