//! The state of one application at one moment, aggregated over all its workers: what views draw.
//! Durations in nanoseconds. `None` is unknown, and is drawn as such.

use crate::dump::State;
use crate::error::ErrorGroup;
use crate::line::{Frame, WarningKind};
use crate::recent::Recent;
use crate::stack::Stack;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Snapshot {
    pub application: String,
    /// `gunicorn`, `uwsgi` ...; `None` when not recognised.
    pub server: Option<String>,
    pub python: Option<String>,
    /// Other vendors' agents that run inside it.
    #[serde(default)]
    pub agents: Vec<String>,
    /// Samples per second and CPU, while there are fewer than configured because the daemon would exceed its budget.
    #[serde(default)]
    pub slowed_hz: Option<u32>,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub taken_ns: u64,
    /// Since the attach.
    pub elapsed_ns: u64,
    /// Length of the window behind rates and percentiles, at most the elapsed time.
    pub window_ns: u64,
    pub totals: Totals,
    /// Busiest first (by total time in the window).
    pub routes: Vec<Route>,
    /// Longest elapsed first.
    pub active: Vec<Active>,
    /// Most samples first.
    pub functions: Vec<Function>,
    /// Most total time first.
    pub statements: Vec<Statement>,
    /// Latest first. Since the attach.
    #[serde(default)]
    pub errors: Vec<ErrorGroup>,
    /// Most time first.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    pub workers: Vec<Worker>,
    /// Longest blocked first; empty where nothing runs an event loop.
    #[serde(default)]
    pub loops: Vec<EventLoop>,
    /// Of the service: what fires first, then what is over, latest first. Empty outside of a service.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    pub losses: Losses,
    /// Empty while nobody watches.
    #[serde(default)]
    pub tree: CallTree,
    /// Empty while nobody watches. Not part of what is sent: see [`Recent`].
    #[serde(skip)]
    pub recent: Recent,
}

impl Snapshot {
    /// Whether a process only looks after others. An application of one process is its own worker.
    #[must_use]
    pub fn is_master(&self, worker: &Worker) -> bool {
        worker.is_master && self.workers.len() > 1
    }

    /// How many processes serve.
    #[must_use]
    pub fn serving(&self) -> usize {
        self.workers.iter().filter(|worker| !self.is_master(worker)).count()
    }
}

/// Over the window, unless said otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Totals {
    pub transactions: u64,
    pub per_second: f64,
    /// Status 500 to 599, aborted by the worker's end, or an unhandled exception.
    pub errors: u64,
    pub p50_ns: Option<u64>,
    pub p95_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    /// CPU of all workers together, 1.0 = one core; `None` until two readings exist.
    pub cpu_cores: Option<f64>,
    /// Since the attach.
    pub all_transactions: u64,
    pub all_errors: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Route {
    /// `GET /users/{id}`
    pub name: String,
    pub count: u64,
    pub per_second: f64,
    pub errors: u64,
    pub p50_ns: u64,
    pub p95_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    /// Sum of durations: what the list is sorted by.
    pub total_ns: u64,
    /// Mean time per transaction spent in database spans.
    pub db_mean_ns: u64,
    /// Mean database spans per transaction.
    pub db_calls: f64,
    /// By hundreds of the status: `[1xx, 2xx, 3xx, 4xx, 5xx]`.
    pub status_classes: [u64; 5],
}

/// A transaction that has not ended.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Active {
    pub name: String,
    pub path: Option<String>,
    pub pid: u32,
    pub tid: u32,
    pub elapsed_ns: u64,
    /// As the caller gave it; `None` when it gave none: one of its own it gets at its end.
    #[serde(default)]
    pub trace_id: Option<String>,
    pub doing: Doing,
    /// Calls that it has begun.
    #[serde(default)]
    pub calls: u64,
    /// Where the kernel has its thread; `None` when that is not known, or the thread serves others, too.
    #[serde(default)]
    pub state: Option<State>,
    /// Of its thread, innermost frame first, while it provably did not run; empty when it is not known.
    #[serde(default)]
    pub stack: Stack,
    /// The innermost frame of `stack` that is the application's own.
    #[serde(default)]
    pub place: Option<Frame>,
}

/// What an active transaction is doing now.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// In this statement (normalised) for so long.
    Statement {
        text: String,
        elapsed_ns: u64,
    },
    /// In this Python function: last seen there by a sample or by reading the parked thread.
    Function(Frame),
    Unknown,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Function {
    pub function: String,
    pub file: String,
    /// Share of all samples in the window whose innermost Python frame is this function, 0.0 to 1.0.
    pub self_share: f64,
    /// Share of samples with this function anywhere on the stack, 0.0 to 1.0.
    pub total_share: f64,
    pub samples: u64,
}

/// Where the on-CPU samples of the window fell, by who called whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct CallTree {
    /// All samples; those of callers too small for a node among them.
    pub samples: u64,
    /// Samples whose stack was one too many in its second: in no node.
    pub left_out: u64,
    /// Callers before what they call, siblings by samples, most first.
    pub nodes: Vec<CallNode>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct CallNode {
    pub function: String,
    pub file: String,
    /// Of the application's own code, not of the standard library or an installed package.
    pub is_application: bool,
    /// 0 has no caller. Each node's caller is the nearest one before it whose depth is smaller by one.
    pub depth: u32,
    /// In it, or in what it calls.
    pub samples: u64,
    /// In itself.
    pub own: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Statement {
    /// Normalised text.
    pub text: String,
    pub count: u64,
    pub errors: u64,
    pub mean_ns: u64,
    pub max_ns: u64,
    pub total_ns: u64,
    /// Innermost application frame of one of its calls.
    pub call_site: Option<Frame>,
}

/// One kind of trouble in the calls of one route, over the window.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Warning {
    pub kind: WarningKind,
    /// `GET /users/{id}`
    pub route: String,
    /// Of the calls: their statement, or their name.
    pub text: String,
    /// Transactions in which it was seen.
    pub transactions: u64,
    /// Most calls in one of them.
    pub most_calls: u64,
    /// All calls, and their time.
    pub calls: u64,
    pub total_ns: u64,
    pub call_site: Option<Frame>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Worker {
    pub pid: u32,
    pub is_master: bool,
    /// Since the attach.
    pub transactions: u64,
    /// Transactions in flight now.
    pub active: u64,
    /// 1.0 = one core; `None` until two readings exist.
    pub cpu_cores: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub threads: Option<u64>,
    /// Share of the time since the snapshot before in which one of its threads held the interpreter's lock on a CPU, by
    /// samples, 0.0 to 1.0; `None` where there is no lock, or not yet.
    #[serde(default)]
    pub gil_held: Option<f64>,
    /// Threads that waited for the lock in that time, on average.
    #[serde(default)]
    pub gil_waiting: Option<f64>,
    /// Garbage collections a second; `None` until two readings exist.
    #[serde(default)]
    pub collections: Option<f64>,
}

/// A thread that turns an event loop.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct EventLoop {
    pub pid: u32,
    pub tid: u32,
    /// Of the latest second, 0.0 to 1.0: it worked and did not wait for events; `None` until there was one.
    pub busy_share: Option<f64>,
    /// Turns since the attach in which it did not come back for longer than the threshold, and their time.
    pub blocked: u64,
    pub blocked_ns: u64,
    pub longest_ns: u64,
    /// Where it was in the longest; innermost frame first, empty when that is not known.
    pub stack: Vec<Frame>,
}

/// A rule of the service that was broken, about this application.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Alert {
    /// As the rule is called.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub since_ns: u64,
    /// `None` while it fires.
    pub until_ns: Option<u64>,
}

/// `seen = delivered + sum(dropped)`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Losses {
    pub seen: u64,
    pub delivered: u64,
    pub dropped: BTreeMap<String, u64>,
    /// What delivered records lacked, by reason.
    pub incomplete: BTreeMap<String, u64>,
}
