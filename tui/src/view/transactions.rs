//! Transactions that were chosen, one a row: the dots of a rectangle, or the latest of a route.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};

pub(super) const VIEW: View = View {
    title: "Transactions",
    columns: &[
        text("name", 1, 0),
        figure("elapsed", 8, 0),
        figure("status", 6, 12),
        figure("last", 9, 16),
        figure("pid", 8, 24),
        figure("details", 8, 20),
    ],
    row,
    severity,
    empty: "none",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let point = shown.chosen.get(index)?;
    let severity = severity(shown, index);
    Some(Row {
        severity,
        cells: vec![
            format::clean(&point.name).into(),
            format::duration(point.duration_ns).into(),
            Cell::styled(format::known(point.status, |status| status.to_string()), theme.severity(severity)),
            format!("{} ago", format::whole_seconds(shown.taken_ns.saturating_sub(point.ended_ns))).into(),
            point.pid.to_string().into(),
            if point.is_whole { "kept" } else { format::UNKNOWN }.to_owned().into(),
        ],
    })
}

fn severity(shown: &Shown, index: usize) -> Severity {
    match shown.chosen.get(index) {
        Some(point) if point.is_error => Severity::Critical,
        _ => Severity::Normal,
    }
}
