//! What is remembered of one application: totals since the attach, and a sliding window of the last
//! minute behind rates, percentiles and rankings.
//!
//! It holds no transaction: each is counted into its second and let go. No clock: times are handed in,
//! wall clock as the model has them. Everything has a bound, with a `{other}` for what does not fit.

mod durations;
mod errors;
mod functions;
mod intern;
mod loops;
mod series;
mod settings;
mod stacks;
mod tally;
mod warnings;
mod window;

pub use durations::{Durations, histogram};
pub use loops::{LoopTimes, Loops};
pub use settings::Limits;
pub use stacks::Stacks;
pub use tally::{RouteTally, StatementTally, is_error};
pub use window::Store;

#[cfg(test)]
mod tests;
