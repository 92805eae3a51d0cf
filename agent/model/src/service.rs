//! What the service tells of itself: which applications it watches, how it fares, and the protocol of its socket.
//!
//! The protocol is JSON, one object a line each way. A client sends one [`Request`]; the service answers with
//! [`Response`]s. Names are append-only, as those of [`crate::line`].

use crate::line::Transaction;
use crate::metric::Metrics;
use crate::recent::Points;
use crate::snapshot::{Losses, Snapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An application that the service watches, or has watched a while ago.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ApplicationInfo {
    /// Never used again for another application while the service runs.
    pub id: u32,
    pub name: String,
    /// `gunicorn`, `uwsgi` ...; `None` when not recognised.
    pub server: Option<String>,
    pub python: Option<String>,
    /// The master's.
    pub pid: u32,
    /// All processes that live, the master among them.
    pub processes: u64,
    /// Wall clock, nanoseconds since the Unix epoch, since when it is watched.
    pub since_ns: u64,
    pub state: ApplicationState,
    /// The systemd unit of the master.
    pub unit: Option<String>,
    /// The container of the master, as its runtime numbers it.
    pub container: Option<String>,
    /// The pod of the master in Kubernetes, by its UID.
    #[serde(default)]
    pub pod: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationState {
    #[default]
    Running,
    /// Nothing of it lives. Should it start again, it goes on under the same number.
    Ended,
}

/// One application at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct State {
    pub info: Arc<ApplicationInfo>,
    pub snapshot: Snapshot,
    /// Totals since the start. Not sent over the socket.
    #[serde(skip)]
    pub metrics: Arc<Metrics>,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Overview {
    /// By id, ascending.
    pub applications: Vec<Arc<State>>,
    pub health: Health,
}

/// How the service itself fares.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Health {
    /// Wall clock, nanoseconds since the Unix epoch.
    pub taken_ns: u64,
    /// 1.0 = one core, over the last seconds; `None` until two readings exist. The daemon alone: what its programs
    /// cost in the kernel is charged to the processes that they run in.
    pub cpu_cores: Option<f64>,
    pub rss_bytes: Option<u64>,
    /// Size of the ring between kernel and daemon.
    pub ring_bytes: u64,
    /// Most bytes that were found waiting in it at one time since the last reading.
    pub ring_peak_bytes: u64,
    /// On-CPU samples per second and CPU, now.
    pub sampling_hz: u32,
    /// Sampling was slowed down to stay within the budget.
    pub is_over_budget: bool,
    /// By the name of the subscriber.
    pub subscribers: BTreeMap<String, SubscriberHealth>,
    /// By the name of the program; empty unless the kernel counts (`health.probe_costs`).
    pub probes: BTreeMap<String, ProbeCost>,
    /// Applications that were left out because there were too many.
    pub applications_overflow: u64,
    /// Reloads of the configuration that were refused.
    pub reloads_failed: u64,
    /// Of the kernel half, which is one for all applications; `None` while nothing is attached.
    #[serde(default)]
    pub losses: Option<Losses>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct SubscriberHealth {
    /// Lines that wait for it.
    pub waiting: u64,
    /// Lines that it was too slow for.
    pub dropped: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ProbeCost {
    pub hits: u64,
    pub total_ns: u64,
}

/// What a client of the socket asks for.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Answered by one [`Response::Applications`].
    Applications,
    /// Answered by one [`Response::Health`].
    Health,
    /// Answered by a [`Response::Snapshot`] each second, until the client leaves or the application is forgotten.
    Watch(Watch),
    /// As [`Request::Watch`], for views: each second a [`Response::Figures`] of all applications, and of the one that is
    /// watched a [`Response::Snapshot`] and [`Response::Points`]. Without anything in it, none is watched at first where
    /// there are several. The client may go on to send [`Ask`]s, one a line.
    View(Watch),
}

/// What the client of a [`Request::View`] may want besides.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Ask {
    /// To watch another application, by its number.
    Choose { application: u32 },
    /// Answered by a [`Response::Transaction`].
    Transaction { application: u32, number: u64 },
}

/// How one application fares, in short.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Figures {
    pub info: Arc<ApplicationInfo>,
    /// Over the window.
    pub per_second: f64,
    pub transactions: u64,
    pub errors: u64,
    pub p50_ns: Option<u64>,
    pub p95_ns: Option<u64>,
    /// In flight now.
    pub active: u64,
    pub cpu_cores: Option<f64>,
    /// Of all processes; `None` when it is not known of one.
    pub rss_bytes: Option<u64>,
}

impl Figures {
    #[must_use]
    pub fn of(info: &Arc<ApplicationInfo>, snapshot: &Snapshot) -> Self {
        let totals = &snapshot.totals;
        Self {
            info: Arc::clone(info),
            per_second: totals.per_second,
            transactions: totals.transactions,
            errors: totals.errors,
            p50_ns: totals.p50_ns,
            p95_ns: totals.p95_ns,
            active: snapshot.active.len() as u64,
            cpu_cores: totals.cpu_cores,
            rss_bytes: snapshot.workers.iter().map(|worker| worker.rss_bytes).sum(),
        }
    }
}

/// Which application is meant: the one that fits all that is given; without anything, the only one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Its number.
    pub application: Option<u32>,
    pub name: Option<String>,
    /// Any of its processes.
    pub pid: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    Applications {
        applications: Vec<ApplicationInfo>,
    },
    Health(Box<Health>),
    Snapshot(Arc<State>),
    /// By number, ascending.
    Figures {
        applications: Vec<Figures>,
    },
    /// Of the application that is watched.
    Points {
        application: u32,
        points: Points,
    },
    Transaction {
        application: u32,
        number: u64,
        /// `None` when it is no longer kept, or never was.
        transaction: Option<Arc<Transaction>>,
    },
    /// The request could not be met; the connection ends.
    Error {
        message: String,
    },
}
