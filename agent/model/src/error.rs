//! Exceptions: one with its traceback, and many of a kind together.

use crate::line::Frame;
use crate::stack::Stack;
use serde::{Deserialize, Serialize};

/// One exception.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Error {
    /// Qualified name of its class, without the module.
    #[serde(rename = "type")]
    pub kind: String,
    /// As Python prints it; of a class with a `__str__` of its own, what `BaseException` would print. `None` when it
    /// cannot be told. Cut after 256 bytes of text.
    pub message: Option<String>,
    /// Whether the application caught it; false when it left the application's code. `None` when that is not known.
    pub handled: Option<bool>,
    /// The traceback, innermost frame first: where it was raised, then those that it passed.
    pub stack: Stack,
    /// Module of its class; `None` when it could not be told.
    #[serde(default)]
    pub module: Option<String>,
    /// What it was raised from, nearest first.
    #[serde(default)]
    pub chain: Vec<Chained>,
    /// More of the traceback, or of the chain, was there than is told.
    #[serde(default)]
    pub cut: bool,
    /// Thread that raised it.
    #[serde(default)]
    pub tid: u32,
}

/// A cause, or what was being handled when the next one was raised.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Chained {
    pub relation: Relation,
    #[serde(rename = "type")]
    pub kind: String,
    pub module: Option<String>,
    pub message: Option<String>,
    /// Innermost frame first.
    pub stack: Stack,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// `raise ... from ...`
    Cause,
    /// Raised while this one was being handled.
    Context,
}

/// Exceptions of one class with one innermost frame of the application's own, since the attach.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ErrorGroup {
    pub application: String,
    #[serde(rename = "error.type")]
    pub kind: String,
    pub module: Option<String>,
    /// The innermost frame of the application's own; the innermost of all where it has none.
    pub frame: Option<Frame>,
    /// `suppressed` among them.
    pub count: u64,
    /// Counted by class and place only, because there were too many at once.
    pub suppressed: u64,
    /// Of those that were looked at, how many left the application's code.
    pub unhandled: u64,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    pub last_seen_ns: u64,
    /// Transaction in which the latest was raised, by name.
    pub transaction: Option<String>,
    /// The latest.
    pub latest: Error,
}
