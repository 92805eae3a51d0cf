//! What is remembered of one application: totals since the attach, and a sliding window of the last
//! minute behind rates, percentiles and rankings.
//!
//! Each transaction is counted into its second and let go; the latest stay a while as points, and some of them whole, for
//! views. No clock: times are handed in,
//! wall clock as the model has them. Everything has a bound, with a `{other}` for what does not fit.

mod collections;
mod durations;
mod errors;
mod functions;
mod gil;
mod intern;
mod loops;
mod recent;
mod series;
mod settings;
mod stacks;
mod tally;
mod tree;
mod warnings;
mod window;

pub use collections::Collections;
pub use durations::{Durations, histogram};
pub use gil::Gil;
pub use loops::{LoopTimes, Loops};
pub use settings::{Limits, RecentLimits};
pub use stacks::Stacks;
pub use tally::{RouteTally, StatementTally, is_error};
pub use window::Store;

#[cfg(test)]
mod tests;
