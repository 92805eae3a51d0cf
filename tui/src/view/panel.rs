//! What all tables have in common: a title with its count, an order, a selection, an empty state.

use super::table::{Column, Row, Table};
use super::{active, applications, errors, functions, routes, statements, transactions, workers};
use crate::format;
use crate::state::{self, Mode, Panel, Screen, Shown, Sort, State};
use crate::theme::{Severity, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// One panel, as data. Its first column is the row's name, and its heading the panel's title.
pub(super) struct View {
    pub(super) title: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) row: fn(&Shown, usize, Theme) -> Option<Row>,
    /// The row's severity without the row: asked for each row, also those out of sight.
    pub(super) severity: fn(&Shown, usize) -> Severity,
    pub(super) empty: &'static str,
}

pub(super) fn view(panel: Panel) -> &'static View {
    match panel {
        Panel::Routes => &routes::VIEW,
        Panel::Active => &active::VIEW,
        Panel::Functions => &functions::VIEW,
        Panel::Statements => &statements::VIEW,
        Panel::Workers => &workers::VIEW,
        Panel::Errors => &errors::VIEW,
        Panel::Applications => &applications::VIEW,
        Panel::Transactions => &transactions::VIEW,
    }
}

pub(super) fn draw(state: &State, panel: Panel, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let shown = state.shown();
    let (view, table) = (view(panel), state.table(panel));
    Table {
        title: title(state, &shown, panel),
        columns: view.columns,
        sorted: heading(state.sort(panel)),
        ascending: matches!(state.sort(panel), Sort::Name | Sort::Pid),
        focused: state.panel() == panel,
        rows: table.order.len(),
        selected: table.selection.as_ref().map(|selection| selection.position),
        empty: empty(state, &shown, panel),
    }
    .draw(
        |position| {
            let row = table.order.get(position).and_then(|&index| (view.row)(&shown, index, theme));
            row.unwrap_or(Row { severity: Severity::Normal, cells: Vec::new() })
        },
        theme,
        area,
        buffer,
    );
}

/// `Routes 12 !2`, `Routes 3 of 12 /users`: the critical rows are counted here because they may be out
/// of sight.
fn title(state: &State, shown: &Shown, panel: Panel) -> String {
    let (listed, all) = match panel {
        // The master is in the list, but does not count: it serves nothing.
        Panel::Workers => {
            let workers = shown.serving();
            (workers, workers)
        }
        _ => (state.table(panel).order.len(), state::rows(shown, panel)),
    };
    let title = match panel {
        Panel::Transactions => format!("Transactions of {}", format::clean(&state.chosen_by)),
        _ => view(panel).title.to_owned(),
    };
    if State::filters(panel) && !state.filter.is_empty() {
        format!("{title} {listed} of {all} /{}", format::clean(&state.filter))
    } else {
        let indices = state.table(panel).order.iter();
        match indices.filter(|&&index| (view(panel).severity)(shown, index) == Severity::Critical).count() {
            0 => format!("{title} {all}"),
            critical => format!("{title} {all} !{critical}"),
        }
    }
}

fn empty(state: &State, shown: &Shown, panel: Panel) -> String {
    if state::rows(shown, panel) > 0 {
        let hint = if state.mode() == Mode::Filter { "" } else { "; Esc drops the filter" };
        return format!("none of {} matches{hint}", state::rows(shown, panel));
    }
    match panel {
        // Panels whose emptiness may mean that something is wrong say how long they have waited.
        Panel::Routes | Panel::Statements | Panel::Functions => {
            format!("{} in {}", view(panel).empty, format::whole_seconds(shown.elapsed_ns))
        }
        Panel::Transactions if state.before.last() == Some(&Screen::Routes) => {
            "none of them has become a dot yet".to_owned()
        }
        _ => view(panel).empty.to_owned(),
    }
}

/// The heading of the column that shows what the panel is sorted by.
fn heading(sort: Sort) -> &'static str {
    match sort {
        Sort::Own => "self %",
        Sort::Total => "total %",
        Sort::Errors => "err",
        Sort::Database => "db",
        Sort::Calls => "calls",
        Sort::Latest => "last",
        other => other.label(),
    }
}
