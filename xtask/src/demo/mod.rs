//! `cargo xtask demo`: the shop, some visitors, and pyapm attached to it. Whatever way it ends, nothing that it has
//! started or made is left.

pub mod command;
pub mod interrupt;
pub mod visitors;
