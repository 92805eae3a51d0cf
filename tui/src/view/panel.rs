//! What the five panels have in common: a title with its count, an order, a selection, an empty state.

use super::table::{Column, Row, Table};
use super::{active, functions, routes, statements, workers};
use crate::format;
use crate::state::{self, Mode, Panel, Sort, State};
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::Snapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// One panel, as data. Its first column is the row's name, and its heading the panel's title.
pub(super) struct View {
    pub(super) title: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) row: fn(&Snapshot, usize, Theme) -> Option<Row>,
    /// The row's severity without the row: asked for each row, also those out of sight.
    pub(super) severity: fn(&Snapshot, usize) -> Severity,
    pub(super) empty: &'static str,
}

pub(super) fn view(panel: Panel) -> &'static View {
    match panel {
        Panel::Routes => &routes::VIEW,
        Panel::Active => &active::VIEW,
        Panel::Functions => &functions::VIEW,
        Panel::Statements => &statements::VIEW,
        Panel::Workers => &workers::VIEW,
    }
}

pub(super) fn draw(state: &State, panel: Panel, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let Some(snapshot) = &state.snapshot else { return };
    let (view, table) = (view(panel), state.table(panel));
    Table {
        title: title(state, snapshot, panel),
        columns: view.columns,
        sorted: heading(state.sort(panel)),
        ascending: matches!(state.sort(panel), Sort::Name | Sort::Pid),
        focused: state.focus == panel,
        rows: table.order.len(),
        selected: table.selection.as_ref().map(|selection| selection.position),
        empty: empty(state, snapshot, panel),
    }
    .draw(
        |position| {
            let row = table.order.get(position).and_then(|&index| (view.row)(snapshot, index, theme));
            row.unwrap_or(Row { severity: Severity::Normal, cells: Vec::new() })
        },
        theme,
        area,
        buffer,
    );
}

/// `1 Routes 12 !2`, `1 Routes 3 of 12 /users`: the critical rows are counted here because they may be out
/// of sight.
fn title(state: &State, snapshot: &Snapshot, panel: Panel) -> String {
    let (shown, all) = match panel {
        // The master is in the list, but does not count: it serves nothing.
        Panel::Workers => {
            let workers = snapshot.workers.iter().filter(|worker| !worker.is_master).count();
            (workers, workers)
        }
        _ => (state.table(panel).order.len(), state::rows(snapshot, panel)),
    };
    let title = view(panel).title;
    let number = panel.index() + 1;
    if State::filters(panel) && !state.filter.is_empty() {
        format!("{number} {title} {shown} of {all} /{}", format::clean(&state.filter))
    } else {
        let indices = state.table(panel).order.iter();
        match indices.filter(|&&index| (view(panel).severity)(snapshot, index) == Severity::Critical).count()
        {
            0 => format!("{number} {title} {all}"),
            critical => format!("{number} {title} {all} !{critical}"),
        }
    }
}

fn empty(state: &State, snapshot: &Snapshot, panel: Panel) -> String {
    if state::rows(snapshot, panel) > 0 {
        let hint = if state.mode() == Mode::Filter { "" } else { "; Esc drops the filter" };
        return format!("none of {} matches{hint}", state::rows(snapshot, panel));
    }
    match panel {
        // Panels whose emptiness may mean that something is wrong say how long they have waited.
        Panel::Routes | Panel::Statements | Panel::Functions => {
            format!("{} in {}", view(panel).empty, format::whole_seconds(snapshot.elapsed_ns))
        }
        Panel::Active | Panel::Workers => view(panel).empty.to_owned(),
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
        other => other.label(),
    }
}
