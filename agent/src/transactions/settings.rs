//! What [`super::Transactions`] is given and what it gives back. Plain data.

use super::joining::CallKey;
use super::sql::Mode;
use super::warnings::Thresholds;
use crate::intake::ConnectionId;
use pyapm_model::error::Error;
use pyapm_model::line::{Frame, Transaction};

/// What one application's assembly needs from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    pub application: String,
    pub clock: Clock,
    /// From the operating system's random source: trace and span ids grow from it.
    pub seed: u64,
    pub limits: Limits,
    /// How much of statements is told.
    pub sql: Mode,
    /// Threads tell what they wait for.
    pub waits: bool,
}

/// How event times become wall-clock times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_to_wall_offset_ns: i64,
}

impl Clock {
    /// Nanoseconds since the Unix epoch for an event's time.
    #[must_use]
    pub fn wall_ns(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.monotonic_to_wall_offset_ns)
    }
}

/// Bounds on what is kept. What does not fit is counted, never silently lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are followed at once.
    pub connections: usize,
    /// Threads that are followed at once.
    pub threads: usize,
    /// Transactions in flight, over all connections.
    pub active: usize,
    /// Transactions in flight on one connection (pipelined requests).
    pub active_per_connection: usize,
    pub spans_per_transaction: usize,
    /// Distinct stacks per transaction.
    pub stacks_per_transaction: usize,
    /// Distinct names of transactions; the rest are called `{other}`.
    pub names: usize,
    /// Exceptions on their way.
    pub errors: usize,
    /// Exceptions of one transaction, of which one may have ended it.
    pub errors_per_transaction: usize,
    /// Normalised statements that are remembered.
    pub statements: usize,
    /// From when on calls are warned of.
    pub warn: Thresholds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            threads: 65_536,
            active: 16_384,
            active_per_connection: 128,
            spans_per_transaction: 500,
            stacks_per_transaction: 64,
            names: 500,
            errors: 4096,
            errors_per_transaction: 64,
            statements: 2_048,
            warn: Thresholds::default(),
        }
    }
}

/// What events have led to; the caller empties it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub finished: Vec<FinishedTransaction>,
    pub hints: Vec<Hint>,
    /// Places of exceptions of which the kernel half need not send each, or shall again.
    pub quiet: Vec<(u64, bool)>,
    pub errors: Vec<FinishedError>,
}

/// An exception that reaches no more frames.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedError {
    pub error: Error,
    /// Its innermost frame of the application's own; the innermost of all where it has none.
    pub frame: Option<Frame>,
    /// Others of its kind that were not told.
    pub suppressed: u64,
    /// Wall clock.
    pub raised_ns: u64,
    /// Of the transaction that it was raised in, if that has ended.
    pub transaction: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FinishedTransaction {
    pub transaction: Transaction,
    /// Monotonic time of the event that ended it.
    pub ended_ns: u64,
    pub started_ns: u64,
    /// Where the call may be met that it is. Its trace is its own as long as that has not been looked for.
    pub call: Option<CallKey>,
    /// Its own calls that may be met elsewhere, with their spans.
    pub calls: Vec<(CallKey, String)>,
}

/// For the kernel half: how much of a connection's bytes is still wanted. Field for field
/// `pyapm_wire::connection::Hint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    pub connection: ConnectionId,
    /// Inbound bytes before this stream position are not wanted.
    pub skip_in: u64,
    /// The same for outbound bytes.
    pub skip_out: u64,
    /// Most bytes wanted of one call.
    pub want_in: u32,
    pub want_out: u32,
    /// Python stacks of outgoing calls are wanted.
    pub stacks: bool,
}
