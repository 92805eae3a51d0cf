//! A profile as a file: one format a file here. Each is given the same [`Recording`] and writes it whole.

mod flamegraph;
mod folded;
mod format;
mod json;
mod messages;
mod names;
mod pprof;
mod recording;
mod speedscope;
#[cfg(test)]
mod tests;

pub use format::{Format, write};
pub use recording::{About, Look, Recording};
