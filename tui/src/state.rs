//! Everything that is on the screen, as data: no terminal, no drawing, no clock. Changed only by
//! [`update`](crate::update), read only by the view.

use pyapm_model::snapshot::Snapshot;
use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

/// Snapshots are due once a second; after so many without one the figures are marked as old.
const STALE_SECONDS: u64 = 5;

/// The tables that can have the focus, in the order of their digit keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    #[default]
    Routes,
    Active,
    Functions,
    Statements,
    Workers,
}

impl Panel {
    pub const ALL: [Self; 5] = [Self::Routes, Self::Active, Self::Functions, Self::Statements, Self::Workers];

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
            Self::Workers => &[Sort::Pid, Sort::Count, Sort::Active, Sort::Cpu, Sort::Memory],
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
        }
    }
}

/// What lies over the panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    Help,
    Losses,
    /// The selected row of the focused panel, in full.
    Details,
}

/// What a key press means at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Normal,
    /// The filter is being typed: letters are text.
    Filter,
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

#[derive(Clone, Debug, Default)]
pub struct State {
    /// What is drawn; `None` until the first one arrives.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The newest one that arrived while paused.
    pub held: Option<Arc<Snapshot>>,
    pub paused: bool,
    /// The source ended: what is drawn is the last there is.
    pub ended: bool,
    /// Seconds since the last snapshot arrived, or since the start.
    pub silent_seconds: u64,
    pub focus: Panel,
    pub overlay: Option<Overlay>,
    /// First line of the overlay that is drawn.
    pub overlay_scroll: usize,
    /// Narrows routes and statements; empty means no filter.
    pub filter: String,
    /// While the filter is typed: what it was before, to return to.
    pub filter_before: Option<String>,
    pub tables: [Table; 5],
}

impl State {
    pub fn mode(&self) -> Mode {
        if self.filter_before.is_some() { Mode::Filter } else { Mode::Normal }
    }

    /// Whether figures should have arrived long ago: what is drawn may no longer be so.
    pub fn is_stale(&self) -> bool {
        !self.ended && self.silent_seconds >= STALE_SECONDS
    }

    pub fn table(&self, panel: Panel) -> &Table {
        &self.tables[panel.index()]
    }

    pub fn table_mut(&mut self, panel: Panel) -> &mut Table {
        &mut self.tables[panel.index()]
    }

    pub fn sort(&self, panel: Panel) -> Sort {
        let sorts = panel.sorts();
        sorts[self.table(panel).sort % sorts.len()]
    }

    /// The selected row of the panel, as an index into the snapshot's list; `None` when nothing is selected
    /// or the row has left the table.
    pub fn selected(&self, panel: Panel) -> Option<usize> {
        let snapshot = self.snapshot.as_ref()?;
        let selection = self.table(panel).selection.as_ref()?;
        let index = *self.table(panel).order.get(selection.position)?;
        (key(snapshot, panel, index) == selection.key).then_some(index)
    }

    /// Whether the filter applies to the panel.
    pub fn filters(panel: Panel) -> bool {
        matches!(panel, Panel::Routes | Panel::Statements)
    }

    /// Rebuilds the order of every table from the snapshot, the filter and the sorts, and moves the
    /// selections along.
    pub fn refresh(&mut self) {
        for panel in Panel::ALL {
            let Some(snapshot) = &self.snapshot else { return };
            let filter = if Self::filters(panel) { self.filter.as_str() } else { "" };
            let order = order(snapshot, panel, self.sort(panel), filter);
            let snapshot = Arc::clone(snapshot);
            let table = self.table_mut(panel);
            table.order = order;
            if let Some(selection) = &mut table.selection {
                let found =
                    table.order.iter().position(|&index| key(&snapshot, panel, index) == selection.key);
                selection.position =
                    found.unwrap_or(selection.position).min(table.order.len().saturating_sub(1));
            }
        }
    }
}

/// Rows in the panel's list.
pub fn rows(snapshot: &Snapshot, panel: Panel) -> usize {
    match panel {
        Panel::Routes => snapshot.routes.len(),
        Panel::Active => snapshot.active.len(),
        Panel::Functions => snapshot.functions.len(),
        Panel::Statements => snapshot.statements.len(),
        Panel::Workers => snapshot.workers.len(),
    }
}

/// What a row is called, and found again by in the next snapshot.
pub fn key(snapshot: &Snapshot, panel: Panel, index: usize) -> String {
    let key = match panel {
        Panel::Routes => snapshot.routes.get(index).map(|route| route.name.clone()),
        // One thread serves one transaction at a time under sync workers; under asyncio the name helps.
        Panel::Active => {
            snapshot.active.get(index).map(|active| format!("{}:{}:{}", active.pid, active.tid, active.name))
        }
        Panel::Functions => {
            snapshot.functions.get(index).map(|function| format!("{}:{}", function.file, function.function))
        }
        Panel::Statements => snapshot.statements.get(index).map(|statement| statement.text.clone()),
        Panel::Workers => snapshot.workers.get(index).map(|worker| worker.pid.to_string()),
    };
    key.unwrap_or_default()
}

fn name(snapshot: &Snapshot, panel: Panel, index: usize) -> &str {
    let name = match panel {
        Panel::Routes => snapshot.routes.get(index).map(|route| route.name.as_str()),
        Panel::Active => snapshot.active.get(index).map(|active| active.name.as_str()),
        Panel::Functions => snapshot.functions.get(index).map(|function| function.function.as_str()),
        Panel::Statements => snapshot.statements.get(index).map(|statement| statement.text.as_str()),
        Panel::Workers => None,
    };
    name.unwrap_or_default()
}

/// The figure that a row is sorted by; `None` (unknown) sorts last.
fn figure(snapshot: &Snapshot, panel: Panel, sort: Sort, index: usize) -> Option<f64> {
    match panel {
        Panel::Routes => snapshot.routes.get(index).and_then(|route| match sort {
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
        Panel::Active => snapshot.active.get(index).and_then(|active| match sort {
            Sort::Elapsed => Some(active.elapsed_ns as f64),
            // Pids run from the smallest up.
            Sort::Pid => Some(-f64::from(active.pid)),
            _ => None,
        }),
        Panel::Functions => snapshot.functions.get(index).and_then(|function| match sort {
            Sort::Own => Some(function.self_share),
            Sort::Total => Some(function.total_share),
            _ => None,
        }),
        Panel::Statements => snapshot.statements.get(index).and_then(|statement| match sort {
            Sort::Time => Some(statement.total_ns as f64),
            Sort::Count => Some(statement.count as f64),
            Sort::Errors => Some(statement.errors as f64),
            Sort::Mean => Some(statement.mean_ns as f64),
            Sort::Max => Some(statement.max_ns as f64),
            _ => None,
        }),
        Panel::Workers => snapshot.workers.get(index).and_then(|worker| match sort {
            Sort::Pid => Some(-f64::from(worker.pid)),
            Sort::Count => Some(worker.transactions as f64),
            Sort::Active => Some(worker.active as f64),
            Sort::Cpu => worker.cpu_cores,
            Sort::Memory => worker.rss_bytes.map(|bytes| bytes as f64),
            _ => None,
        }),
    }
}

fn order(snapshot: &Snapshot, panel: Panel, sort: Sort, filter: &str) -> Vec<usize> {
    let filter = filter.to_lowercase();
    let mut order: Vec<usize> = (0..rows(snapshot, panel))
        .filter(|&index| filter.is_empty() || name(snapshot, panel, index).to_lowercase().contains(&filter))
        .collect();
    if sort == Sort::Name {
        order.sort_by(|&a, &b| name(snapshot, panel, a).cmp(name(snapshot, panel, b)));
    } else {
        // Stable: rows that are equal keep the snapshot's own order, and do not dance.
        order.sort_by_cached_key(|&index| Reverse(Figure(figure(snapshot, panel, sort, index))));
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
