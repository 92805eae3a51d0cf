//! The machine: what kernel this is, what we may do on it, and what will be attached because of that.

mod btf;
mod offsets;

pub use btf::{Btf, BtfError, Member, RUNNING_KERNEL};
pub use offsets::settings;
