//! The selected row in full: every figure of its panel, and the texts that a table has to cut.

use super::panel::view;
use crate::format;
use crate::state::{Panel, Shown, State};
use crate::theme::Theme;
use pyapm_model::snapshot::Doing;
use ratatui::text::{Line, Span};

/// Columns of the labels.
const LABEL: usize = 13;

/// The lines, wrapped into `width` columns; `None` when the row has left.
pub(super) fn details(state: &State, theme: Theme, width: usize) -> Option<Vec<Line<'static>>> {
    let (shown, panel) = (state.shown(), state.panel());
    let index = state.selected(panel)?;
    let row = (view(panel).row)(&shown, index, theme)?;
    let mut lines = Vec::new();
    for (label, text) in texts(&shown, panel, index) {
        entry(&mut lines, label, &text, theme, width);
    }
    // Texts are above, uncut.
    for (column, cell) in view(panel).columns.iter().zip(&row.cells).skip(1) {
        if matches!(column.width, super::table::Width::Figure(_)) {
            entry(&mut lines, label(column.heading), &cell.text, theme, width);
        }
    }
    Some(lines)
}

/// A column's heading where there is room to write it out.
fn label(heading: &'static str) -> &'static str {
    match heading {
        "/s" => "per second",
        "err" => "errors",
        "db" => "db time",
        "calls" => "db calls",
        "time" => "total time",
        "hand." => "handled",
        "work." => "workers",
        "GIL %" => "GIL held, %",
        "loop %" => "loop busy, %",
        "blocked" => "loop blocked",
        "GC/s" => "GC a second",
        other => other,
    }
}

fn texts(shown: &Shown, panel: Panel, index: usize) -> Vec<(&'static str, String)> {
    match panel {
        Panel::Routes => shown.routes.get(index).map(|route| {
            let statuses = ["1xx", "2xx", "3xx", "4xx", "5xx"]
                .iter()
                .zip(route.status_classes)
                .map(|(class, count)| format!("{class} {}", format::grouped(count)))
                .collect::<Vec<_>>()
                .join("  ");
            vec![("route", format::clean(&route.name)), ("statuses", statuses)]
        }),
        Panel::Active => shown.active.get(index).map(|active| {
            vec![
                ("name", format::clean(&active.name)),
                ("path", format::known(active.path.as_deref(), format::clean)),
                (
                    "doing now",
                    match &active.doing {
                        Doing::Statement { text, elapsed_ns } => {
                            format!("SQL for {}: {}", format::duration(*elapsed_ns), format::clean(text))
                        }
                        Doing::Function(frame) => full_frame(frame),
                        Doing::Unknown => format::UNKNOWN.to_owned(),
                    },
                ),
                ("thread", active.tid.to_string()),
            ]
        }),
        Panel::Functions => shown.functions.get(index).map(|function| {
            vec![("function", format::clean(&function.function)), ("file", format::clean(&function.file))]
        }),
        Panel::Statements => shown.statements.get(index).map(|statement| {
            vec![
                ("statement", format::clean(&statement.text)),
                ("called from", format::known(statement.call_site.as_ref(), full_frame)),
            ]
        }),
        Panel::Workers => shown.workers.get(index).map(|worker| {
            vec![("role", if shown.is_master(worker) { "master" } else { "worker" }.to_owned())]
        }),
        Panel::Errors => shown.errors.get(index).map(|group| {
            vec![
                ("error", format::clean(&group.kind)),
                ("message", format::known(group.latest.message.as_deref(), format::clean)),
                ("raised in", format::known(group.frame.as_ref(), full_frame)),
            ]
        }),
        Panel::Applications => shown.applications.get(index).map(|one| {
            vec![
                ("name", format::clean(&one.info.name)),
                ("server", format::known(one.info.server.as_deref(), format::clean)),
                ("Python", format::known(one.info.python.as_deref(), format::clean)),
                ("unit", format::known(one.info.unit.as_deref(), format::clean)),
                ("container", format::known(one.info.container.as_deref(), format::clean)),
            ]
        }),
        Panel::Transactions => {
            shown.chosen.get(index).map(|point| vec![("name", format::clean(&point.name))])
        }
    }
    .unwrap_or_default()
}

/// With the whole path.
pub(super) fn full_frame(frame: &pyapm_model::line::Frame) -> String {
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{} {}{line}", format::clean(&frame.function), format::clean(&frame.file))
}

pub(super) fn entry(
    lines: &mut Vec<Line<'static>>,
    label: &'static str,
    text: &str,
    theme: Theme,
    width: usize,
) {
    let mut label = label;
    for part in format::wrap(text, width.saturating_sub(LABEL)) {
        lines
            .push(Line::from(vec![Span::styled(format::left(label, LABEL), theme.label()), Span::raw(part)]));
        label = "";
    }
}
