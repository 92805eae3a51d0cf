//! `cargo xtask bench`: what pyapm costs, measured on this machine and written down with the command that did it.

mod aims;
pub mod bystander;
mod capacity;
pub mod command;
pub mod contenders;
pub mod drivers;
mod families;
pub mod figures;
pub mod overhead;
pub mod probes;
pub mod profiler;
pub mod soak;
pub mod view;
