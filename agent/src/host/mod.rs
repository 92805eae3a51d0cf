//! The machine: what kernel this is, what we may do on it, and what will be attached because of that.

mod btf;
mod facts;
mod offsets;
mod plan;

pub use btf::{Btf, BtfError, Member, RUNNING_KERNEL};
pub use facts::{Capabilities, Facts, Lockdown};
pub use offsets::settings;
pub use plan::{FAMILIES, Family, MINIMUM_KERNEL, Obstacle, Obstacles, Plan};
