//! The tables: which there are, what they can be sorted by, which rows they show in which order.

use pyapm_model::recent::Point;
use pyapm_model::service::Figures;
use pyapm_model::snapshot::{EventLoop, Snapshot};
use std::cmp::{Ordering, Reverse};
use std::ops::Deref;
use std::sync::Arc;

/// The lists that tables are of; reads as the snapshot among them.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub snapshot: Arc<Snapshot>,
    pub applications: Arc<Vec<Figures>>,
    pub chosen: Arc<Vec<Point>>,
}

impl Deref for Shown {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// The tables; those of the overview first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    #[default]
    Routes,
    Active,
    Functions,
    Statements,
    Workers,
    Errors,
    Applications,
    Transactions,
}

impl Panel {
    pub const OVERVIEW: [Self; 5] =
        [Self::Routes, Self::Active, Self::Functions, Self::Statements, Self::Workers];

    pub const ALL: [Self; 8] = [
        Self::Routes,
        Self::Active,
        Self::Functions,
        Self::Statements,
        Self::Workers,
        Self::Errors,
        Self::Applications,
        Self::Transactions,
    ];

    pub fn is_in_overview(self) -> bool {
        Self::OVERVIEW.contains(&self)
    }

    /// From 0, as in [`Panel::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// What the panel can be sorted by, its default first.
    pub fn sorts(self) -> &'static [Sort] {
        match self {
            Self::Routes => &[
                Sort::Time,
                Sort::Count,
                Sort::Errors,
                Sort::P50,
                Sort::P95,
                Sort::P99,
                Sort::Database,
                Sort::Calls,
                Sort::Name,
            ],
            Self::Active => &[Sort::Elapsed, Sort::Pid, Sort::Name],
            Self::Functions => &[Sort::Own, Sort::Total, Sort::Name],
            Self::Statements => &[Sort::Time, Sort::Count, Sort::Errors, Sort::Mean, Sort::Max, Sort::Name],
            Self::Workers => &[
                Sort::Pid,
                Sort::Count,
                Sort::Active,
                Sort::Cpu,
                Sort::Memory,
                Sort::Gil,
                Sort::Loop,
                Sort::Blocked,
                Sort::Collections,
            ],
            Self::Errors => &[Sort::Latest, Sort::Count, Sort::Unhandled, Sort::Name],
            Self::Applications => &[Sort::Rate, Sort::P95, Sort::Errors, Sort::Active, Sort::Cpu, Sort::Name],
            Self::Transactions => &[Sort::Elapsed, Sort::Latest, Sort::Status, Sort::Pid, Sort::Name],
        }
    }
}

/// What a table is sorted by. Figures run from the largest down, names and pids from the smallest up;
/// unknown figures come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Sum of the durations.
    Time,
    Count,
    Errors,
    P50,
    P95,
    P99,
    Database,
    Calls,
    Name,
    Elapsed,
    Pid,
    /// Share of samples in the function itself.
    Own,
    Total,
    Mean,
    Max,
    Active,
    Cpu,
    Memory,
    /// Share of the time with the interpreter's lock.
    Gil,
    /// Share of the time that the event loop works.
    Loop,
    Blocked,
    /// Of garbage.
    Collections,
    Latest,
    Unhandled,
    Rate,
    Status,
}

impl Sort {
    /// As it is called in a panel's title.
    pub fn label(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Count => "count",
            Self::Errors => "errors",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Database => "db time",
            Self::Calls => "db calls",
            Self::Name => "name",
            Self::Elapsed => "elapsed",
            Self::Pid => "pid",
            Self::Own => "self",
            Self::Total => "total",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Active => "active",
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Gil => "GIL %",
            Self::Loop => "loop %",
            Self::Blocked => "blocked",
            Self::Collections => "GC/s",
            Self::Latest => "latest",
            Self::Unhandled => "unhandled",
            Self::Rate => "/s",
            Self::Status => "status",
        }
    }
}

/// A selection follows its row, not its position: rows move each time new figures arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub key: String,
    /// Position in the table's order. Kept when the row is gone, so that the cursor stays about there.
    pub position: usize,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Index into [`Panel::sorts`].
    pub sort: usize,
    pub selection: Option<Selection>,
    /// Rows to show, as indices into the snapshot's list: filtered and sorted.
    pub order: Vec<usize>,
}

/// Rows in the panel's list.
pub fn rows(shown: &Shown, panel: Panel) -> usize {
    match panel {
        Panel::Routes => shown.routes.len(),
        Panel::Active => shown.active.len(),
        Panel::Functions => shown.functions.len(),
        Panel::Statements => shown.statements.len(),
        Panel::Workers => shown.workers.len(),
        Panel::Errors => shown.errors.len(),
        Panel::Applications => shown.applications.len(),
        Panel::Transactions => shown.chosen.len(),
    }
}

/// What a row is called, and found again by in the next snapshot.
pub fn key(shown: &Shown, panel: Panel, index: usize) -> String {
    let key = match panel {
        Panel::Routes => shown.routes.get(index).map(|route| route.name.clone()),
        // One thread serves one transaction at a time under sync workers; under asyncio the name helps.
        Panel::Active => {
            shown.active.get(index).map(|active| format!("{}:{}:{}", active.pid, active.tid, active.name))
        }
        Panel::Functions => {
            shown.functions.get(index).map(|function| format!("{}:{}", function.file, function.function))
        }
        Panel::Statements => shown.statements.get(index).map(|statement| statement.text.clone()),
        Panel::Workers => shown.workers.get(index).map(|worker| worker.pid.to_string()),
        Panel::Errors => shown.errors.get(index).map(|group| {
            let place = group.frame.as_ref().map(|frame| (&frame.file, &frame.function, frame.line));
            format!("{} {:?} {place:?}", group.kind, group.module)
        }),
        Panel::Applications => shown.applications.get(index).map(|one| one.info.id.to_string()),
        Panel::Transactions => shown.chosen.get(index).map(|point| point.number.to_string()),
    };
    key.unwrap_or_default()
}

fn name(shown: &Shown, panel: Panel, index: usize) -> &str {
    let name = match panel {
        Panel::Routes => shown.routes.get(index).map(|route| route.name.as_str()),
        Panel::Active => shown.active.get(index).map(|active| active.name.as_str()),
        Panel::Functions => shown.functions.get(index).map(|function| function.function.as_str()),
        Panel::Statements => shown.statements.get(index).map(|statement| statement.text.as_str()),
        Panel::Workers => None,
        Panel::Errors => shown.errors.get(index).map(|group| group.kind.as_str()),
        Panel::Applications => shown.applications.get(index).map(|one| one.info.name.as_str()),
        Panel::Transactions => shown.chosen.get(index).map(|point| &*point.name),
    };
    name.unwrap_or_default()
}

/// The figure that a row is sorted by; `None` (unknown) sorts last.
fn figure(shown: &Shown, panel: Panel, sort: Sort, index: usize) -> Option<f64> {
    match panel {
        Panel::Routes => shown.routes.get(index).and_then(|route| match sort {
            Sort::Time => Some(route.total_ns as f64),
            Sort::Count => Some(route.count as f64),
            Sort::Errors => Some(route.errors as f64),
            Sort::P50 => Some(route.p50_ns as f64),
            Sort::P95 => Some(route.p95_ns as f64),
            Sort::P99 => Some(route.p99_ns as f64),
            Sort::Database => Some(route.db_mean_ns as f64),
            Sort::Calls => Some(route.db_calls),
            _ => None,
        }),
        Panel::Active => shown.active.get(index).and_then(|active| match sort {
            Sort::Elapsed => Some(active.elapsed_ns as f64),
            // Pids run from the smallest up.
            Sort::Pid => Some(-f64::from(active.pid)),
            _ => None,
        }),
        Panel::Functions => shown.functions.get(index).and_then(|function| match sort {
            Sort::Own => Some(function.self_share),
            Sort::Total => Some(function.total_share),
            _ => None,
        }),
        Panel::Statements => shown.statements.get(index).and_then(|statement| match sort {
            Sort::Time => Some(statement.total_ns as f64),
            Sort::Count => Some(statement.count as f64),
            Sort::Errors => Some(statement.errors as f64),
            Sort::Mean => Some(statement.mean_ns as f64),
            Sort::Max => Some(statement.max_ns as f64),
            _ => None,
        }),
        Panel::Workers => shown.workers.get(index).and_then(|worker| match sort {
            Sort::Pid => Some(-f64::from(worker.pid)),
            Sort::Count => Some(worker.transactions as f64),
            Sort::Active => Some(worker.active as f64),
            Sort::Cpu => worker.cpu_cores,
            Sort::Memory => worker.rss_bytes.map(|bytes| bytes as f64),
            Sort::Gil => worker.gil_held,
            Sort::Loop => loops(shown, worker.pid).filter_map(|one| one.busy_share).reduce(f64::max),
            Sort::Blocked => loops(shown, worker.pid).map(|one| one.blocked as f64).reduce(|a, b| a + b),
            Sort::Collections => worker.collections,
            _ => None,
        }),
        Panel::Errors => shown.errors.get(index).and_then(|group| match sort {
            Sort::Latest => Some(group.last_seen_ns as f64),
            Sort::Count => Some(group.count as f64),
            Sort::Unhandled => Some(group.unhandled as f64),
            _ => None,
        }),
        Panel::Applications => shown.applications.get(index).and_then(|one| match sort {
            Sort::Rate => Some(one.per_second),
            Sort::P95 => one.p95_ns.map(|value| value as f64),
            Sort::Errors => Some(one.errors as f64),
            Sort::Active => Some(one.active as f64),
            Sort::Cpu => one.cpu_cores,
            _ => None,
        }),
        Panel::Transactions => shown.chosen.get(index).and_then(|point| match sort {
            Sort::Elapsed => Some(point.duration_ns as f64),
            Sort::Latest => Some(point.number as f64),
            Sort::Status => Some(f64::from(point.status?)),
            Sort::Pid => Some(-f64::from(point.pid)),
            _ => None,
        }),
    }
}

fn loops(shown: &Shown, pid: u32) -> impl Iterator<Item = &EventLoop> {
    shown.loops.iter().filter(move |one| one.pid == pid)
}

/// The rows to show, filtered and sorted.
pub(super) fn order(shown: &Shown, panel: Panel, sort: Sort, filter: &str) -> Vec<usize> {
    let filter = filter.to_lowercase();
    let mut order: Vec<usize> = (0..rows(shown, panel))
        .filter(|&index| filter.is_empty() || name(shown, panel, index).to_lowercase().contains(&filter))
        .collect();
    if sort == Sort::Name {
        order.sort_by(|&a, &b| name(shown, panel, a).cmp(name(shown, panel, b)));
    } else {
        // Stable: rows that are equal keep the snapshot's own order, and do not dance.
        order.sort_by_cached_key(|&index| Reverse(Figure(figure(shown, panel, sort, index))));
    }
    order
}

/// A total order over figures: unknown first, then by value. Reversed by its user.
#[derive(PartialEq)]
struct Figure(Option<f64>);

impl Eq for Figure {}

impl Ord for Figure {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

impl PartialOrd for Figure {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
