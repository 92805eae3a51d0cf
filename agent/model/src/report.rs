//! What the history says of a past window: what `pyapm report` writes as JSON, and what its other forms are drawn from.
//! Names are append-only. Times are wall clock, durations nanoseconds; `None` is unknown.

use crate::error::Error;
use crate::line::{Frame, Transaction, WarningKind};
use serde::{Deserialize, Serialize};

/// The newest form of [`Report`]; higher when a name changes its meaning.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Report {
    pub format: u32,
    /// Version of the program that wrote it.
    pub pyapm: String,
    pub window: Window,
    /// What was compared with, where that was asked for.
    pub compared: Option<Window>,
    /// By name.
    pub applications: Vec<Application>,
}

/// A span of time, in whole minutes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Window {
    /// Nanoseconds since the Unix epoch.
    pub since_ns: u64,
    /// The first that is no longer in it.
    pub until_ns: u64,
    /// How much of it the service was recording: what rates go by.
    pub recorded_ns: u64,
    /// Lines that the history was too slow for, in all runs of the service that reach into the window.
    pub lost_lines: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Application {
    pub application: String,
    pub server: Option<String>,
    pub python: Option<String>,
    pub totals: Figures,
    /// Most time first.
    pub routes: Vec<Route>,
    /// Most time first.
    pub statements: Vec<Statement>,
    /// Most first.
    pub errors: Vec<ErrorGroup>,
    /// Most time first.
    pub warnings: Vec<Warning>,
    /// Most of the CPU first.
    pub functions: Vec<Function>,
    /// On-CPU samples in the window.
    pub samples: u64,
    /// Longest first, of those that were kept whole.
    pub slowest: Vec<Transaction>,
    /// Latest first, of those that failed and were kept whole.
    pub failed: Vec<Transaction>,
    /// In order; minutes without a transaction are left out.
    pub minutes: Vec<Minute>,
    pub comparison: Option<Box<Comparison>>,
    /// Samples by folded stack: `outermost;...;innermost`, most first. Not part of the JSON, which has `functions`.
    #[serde(skip)]
    pub stacks: Vec<(String, u64)>,
}

/// Of many transactions or calls.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Figures {
    pub count: u64,
    /// Over the recorded time.
    pub per_second: f64,
    pub errors: u64,
    pub total_ns: u64,
    pub mean_ns: u64,
    pub p50_ns: u64,
    pub p95_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Route {
    /// `GET /users/{id}`
    pub name: String,
    #[serde(flatten)]
    pub figures: Figures,
    /// Of the time of all transactions, 0.0 to 1.0.
    pub share: f64,
    /// All database calls of its transactions, and their time.
    pub db_calls: u64,
    pub db_ns: u64,
    /// By hundreds of the status: `[1xx, 2xx, 3xx, 4xx, 5xx]`.
    pub status_classes: [u64; 5],
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Statement {
    #[serde(rename = "db.system.name")]
    pub system: Option<String>,
    /// Normalised; the call's name where the text is not kept.
    #[serde(rename = "db.query.text")]
    pub text: String,
    #[serde(flatten)]
    pub figures: Figures,
    /// Of the time of all database calls, 0.0 to 1.0.
    pub share: f64,
    /// Where one of them was made.
    pub call_site: Option<Frame>,
}

/// Transactions that met an exception, by class and place.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ErrorGroup {
    #[serde(rename = "error.type")]
    pub kind: String,
    pub module: Option<String>,
    /// The innermost frame of the application's own; the innermost of all where it has none.
    pub frame: Option<Frame>,
    /// Transactions.
    pub count: u64,
    /// Those among them that the application did not catch it in.
    pub unhandled: u64,
    pub first_seen_ns: u64,
    pub last_seen_ns: u64,
    /// Names of transactions, most first.
    pub transactions: Vec<String>,
    /// The latest.
    pub latest: Error,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Warning {
    pub kind: WarningKind,
    pub route: String,
    /// Of the calls: their statement, or their name.
    pub text: String,
    /// Transactions in which it was seen.
    pub transactions: u64,
    /// Most calls in one of them.
    pub most_calls: u64,
    pub calls: u64,
    pub total_ns: u64,
    pub call_site: Option<Frame>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Function {
    pub function: String,
    pub file: String,
    /// Samples with it innermost, and with it anywhere.
    pub self_samples: u64,
    pub total_samples: u64,
    /// Of all samples, 0.0 to 1.0.
    pub self_share: f64,
    pub total_share: f64,
}

/// One minute of an application.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Minute {
    pub start_ns: u64,
    pub count: u64,
    pub errors: u64,
    pub p50_ns: u64,
    pub p95_ns: u64,
}

/// The window against another one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Comparison {
    pub totals: Change,
    pub routes: Changes,
    pub statements: Changes,
    /// Groups that the other window has not.
    pub new_errors: Vec<ErrorGroup>,
    /// Groups that this window has not.
    pub gone_errors: Vec<ErrorGroup>,
    /// By their share of the CPU, greatest growth first.
    pub functions: Vec<FunctionChange>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Changes {
    /// Most time added first.
    pub slower: Vec<Change>,
    /// Most time saved first.
    pub faster: Vec<Change>,
    /// In this window alone, most time first.
    pub new: Vec<Change>,
    /// In the other window alone, most time first.
    pub gone: Vec<Change>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Change {
    pub name: String,
    pub before: Option<Figures>,
    pub now: Option<Figures>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct FunctionChange {
    pub function: String,
    pub file: String,
    /// Of all samples with it innermost, 0.0 to 1.0.
    pub before_share: f64,
    pub now_share: f64,
}
