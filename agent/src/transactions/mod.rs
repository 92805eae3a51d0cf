//! From typed events to finished transactions: which request, which spans inside it, which samples.
//!
//! Pure state machines. No aya, no /proc, no clock: times come with the events, and the wall clock's offset
//! is handed in. Everything that grows has a bound, and everything that is left out is counted by name in
//! [`Counts`].
//!
//! - [`http`]: where the messages of a connection begin and end.
//! - [`clients`]: what the process asks of others, by protocol.
//! - `trace_context`: the caller's trace, by its headers.
//! - [`tasks`]: work that a process is handed through a pipe.
//! - [`sql`]: statements without their values.
//! - [`fuzz`]: the parsers of all of these, as functions of bytes.
//! - [`Transactions`]: puts them together.

pub mod callsite;
pub mod clients;
pub mod fuzz;
pub mod http;
pub mod name;
pub mod naming;
pub mod sql;

mod assemble;
mod checkout;
mod connecting;
mod connection;
mod correlation;
mod counts;
mod errors;
mod finish;
mod ids;
mod joining;
mod settings;
mod spans;
mod tasks;
mod thread;
mod tls;
mod trace_context;
mod waits;
mod warnings;
mod work;

pub use assemble::Transactions;
pub use counts::Counts;
pub use errors::Raised;
pub use joining::{Applications, CallKey, Joining, Made, Parent, Whereabouts};
pub use settings::{Clock, FinishedError, FinishedTransaction, Hint, Limits, Output, Settings};
pub use tasks::Link;

#[cfg(test)]
mod tests;
