//! Everything that is on the screen, as data: no terminal, no drawing, no clock. Changed only by
//! [`update`](crate::update), read only by the view.

mod dots;
mod flame;
mod tables;

pub use dots::{Dots, Plot, Rectangle, XView};
pub use flame::{Flame, Path, Step, children};
pub use tables::{Panel, Selection, Shown, Sort, Table, key, rows};

use pyapm_model::error::ErrorGroup;
use pyapm_model::line::Transaction;
use pyapm_model::recent::Point;
use pyapm_model::service::{Ask, Figures};
use pyapm_model::snapshot::{Active, Snapshot};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Snapshots are due once a second; after so many without one the figures are marked as old.
const STALE_SECONDS: u64 = 5;

/// What fills the terminal between header and footer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Screen {
    Applications,
    /// The most important tables side by side.
    #[default]
    Overview,
    Active,
    XView,
    Routes,
    Statements,
    Errors,
    Functions,
    Flame,
    Workers,
    /// Reached from others only: transactions that were chosen.
    Transactions,
    /// One of them.
    Transaction,
    /// A transaction that has not ended.
    InFlight,
    /// One group of errors.
    Failure,
    /// One process.
    Worker,
}

impl Screen {
    /// In the order of their digit keys, from 0.
    pub const TABS: [Self; 10] = [
        Self::Applications,
        Self::Overview,
        Self::Active,
        Self::XView,
        Self::Routes,
        Self::Statements,
        Self::Errors,
        Self::Functions,
        Self::Flame,
        Self::Workers,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Applications => "Apps",
            Self::Overview => "Overview",
            Self::Active => "Active",
            Self::XView => "X-View",
            Self::Routes => "Routes",
            Self::Statements => "SQL",
            Self::Errors => "Errors",
            Self::Functions => "Functions",
            Self::Flame => "Flame",
            Self::Workers => "Workers",
            Self::Transactions => "Transactions",
            Self::Transaction => "Transaction",
            Self::InFlight => "In flight",
            Self::Failure => "Error",
            Self::Worker => "Worker",
        }
    }

    /// The table that fills it.
    pub fn panel(self) -> Option<Panel> {
        match self {
            Self::Applications => Some(Panel::Applications),
            Self::Active => Some(Panel::Active),
            Self::Routes => Some(Panel::Routes),
            Self::Statements => Some(Panel::Statements),
            Self::Errors => Some(Panel::Errors),
            Self::Functions => Some(Panel::Functions),
            Self::Workers => Some(Panel::Workers),
            Self::Transactions => Some(Panel::Transactions),
            Self::Overview
            | Self::XView
            | Self::Flame
            | Self::Transaction
            | Self::InFlight
            | Self::Failure
            | Self::Worker => None,
        }
    }

    /// Text with a cursor.
    pub fn is_document(self) -> bool {
        matches!(self, Self::Transaction | Self::InFlight | Self::Failure | Self::Worker)
    }
}

/// What lies over the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    Help,
    /// Alerts, other agents, losses.
    Health,
    /// The selected row of the focused panel, in full.
    Details,
}

/// What a key press means at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Table,
    XView,
    Flame,
    Document,
    /// The filter is being typed: letters are text.
    Filter,
}

/// The transaction that is looked into.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    pub application: u32,
    /// What is known of it in any case.
    pub point: Point,
    pub whole: Asked,
}

/// A whole transaction that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Waiting,
    Here(Arc<Transaction>),
    /// It is not kept.
    Gone,
}

/// The transaction in flight that is looked into.
#[derive(Clone, Debug, PartialEq)]
pub struct InFlight {
    /// As it was last seen.
    pub active: Active,
    pub has_ended: bool,
}

/// Where a document is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The line of the cursor.
    pub line: usize,
    /// Calls that are shown in full, by their position.
    pub unfolded: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    /// What is drawn; `None` until the first one arrives.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The application that it is of.
    pub application: u32,
    /// The one that was asked for, or was delivered without asking; `None` before either.
    pub wanted: Option<u32>,
    /// How all fare.
    pub applications: Arc<Vec<Figures>>,
    /// The newest one that arrived while paused.
    pub held: Option<Arc<Snapshot>>,
    pub paused: bool,
    /// The source ended: what is drawn is the last there is.
    pub ended: bool,
    /// Seconds since the last snapshot arrived, or since the start.
    pub silent_seconds: u64,
    /// Columns and lines of the terminal.
    pub size: (u16, u16),
    pub screen: Screen,
    /// The screens that led to this one, to return to.
    pub before: Vec<Screen>,
    /// The panel of the overview that keys are for.
    pub focus: Panel,
    pub overlay: Option<Overlay>,
    /// First line of the overlay that is drawn.
    pub overlay_scroll: usize,
    /// Narrows lists by name; empty means no filter.
    pub filter: String,
    /// While the filter is typed: what it was before, to return to.
    pub filter_before: Option<String>,
    pub tables: [Table; Panel::ALL.len()],
    pub dots: Dots,
    pub xview: XView,
    pub flame: Flame,
    /// The transactions that were chosen, and by what.
    pub chosen: Arc<Vec<Point>>,
    pub chosen_by: String,
    pub opened: Option<Opened>,
    pub in_flight: Option<InFlight>,
    pub failure: Option<ErrorGroup>,
    /// The process that is looked into.
    pub worker: Option<u32>,
    pub reading: Reading,
    /// To be asked of the source; the loop takes it away.
    pub asks: Vec<Ask>,
}

impl State {
    pub fn mode(&self) -> Mode {
        if self.filter_before.is_some() {
            return Mode::Filter;
        }
        match self.screen {
            Screen::XView => Mode::XView,
            Screen::Flame => Mode::Flame,
            screen if screen.is_document() => Mode::Document,
            _ => Mode::Table,
        }
    }

    /// Whether figures should have arrived long ago: what is drawn may no longer be so.
    pub fn is_stale(&self) -> bool {
        !self.ended && self.silent_seconds >= STALE_SECONDS
    }

    /// The application is watched no longer.
    pub fn is_gone(&self) -> bool {
        self.snapshot.is_some()
            && !self.applications.is_empty()
            && self.applications.iter().all(|one| one.info.id != self.application)
    }

    /// Nobody has said which application to look at, and there are others than one.
    pub fn application_is_open(&self) -> bool {
        self.wanted.is_none() && self.applications.len() != 1
    }

    /// Whether the mouse does something here.
    pub fn wants_mouse(&self) -> bool {
        matches!(self.screen, Screen::XView | Screen::Flame)
    }

    /// The panel that keys are for.
    pub fn panel(&self) -> Panel {
        self.screen.panel().unwrap_or(self.focus)
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

    /// The lists that tables are of.
    pub fn shown(&self) -> Shown {
        Shown {
            snapshot: self.snapshot.clone().unwrap_or_default(),
            applications: Arc::clone(&self.applications),
            chosen: Arc::clone(&self.chosen),
        }
    }

    /// The selected row of the panel, as an index into the panel's list; `None` when nothing is selected
    /// or the row has left the table.
    pub fn selected(&self, panel: Panel) -> Option<usize> {
        let selection = self.table(panel).selection.as_ref()?;
        let index = *self.table(panel).order.get(selection.position)?;
        (key(&self.shown(), panel, index) == selection.key).then_some(index)
    }

    /// Whether the filter applies to the panel.
    pub fn filters(panel: Panel) -> bool {
        !matches!(panel, Panel::Workers)
    }

    /// Rebuilds the order of every table that may be on the screen from its list, the filter and the sorts, and moves
    /// the selections along.
    pub fn refresh(&mut self) {
        let shown = self.shown();
        for panel in Panel::ALL {
            let is_drawn = match self.screen {
                Screen::Overview => panel.is_in_overview(),
                screen => screen.panel() == Some(panel),
            };
            if !is_drawn {
                continue;
            }
            let filter = if Self::filters(panel) { self.filter.as_str() } else { "" };
            let order = tables::order(&shown, panel, self.sort(panel), filter);
            let table = self.table_mut(panel);
            table.order = order;
            if let Some(selection) = &mut table.selection {
                let found = table.order.iter().position(|&index| key(&shown, panel, index) == selection.key);
                selection.position =
                    found.unwrap_or(selection.position).min(table.order.len().saturating_sub(1));
            }
        }
    }

    /// The latest moment on the screen, wall clock.
    pub fn now_ns(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.taken_ns)
    }

    /// What the X-View is a picture of at this size: `plot` is its place.
    pub fn plot(&self, columns: u16, rows: u16) -> Plot {
        self.xview.plot(&self.dots, self.now_ns(), columns, rows)
    }
}
