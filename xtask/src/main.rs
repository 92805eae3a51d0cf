//! `cargo xtask`: one file per command.
fn main() {}
