//! Database statements, equal ones together, with the code that makes them.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::Statement;

const SLOW_MEAN_NS: u64 = 1_000_000_000;

pub(super) const VIEW: View = View {
    title: "Statements",
    columns: &[
        text("name", 3, 0),
        figure("count", 6, 30),
        figure("err", 5, 36),
        figure("mean", 7, 0),
        figure("max", 7, 60),
        figure("time", 7, 20),
        text("called from", 2, 40),
    ],
    row,
    severity,
    empty: "no statements seen yet",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let statement = shown.statements.get(index)?;
    let (errors, slow) = (errors(statement), slowness(statement));
    Some(Row {
        severity: errors.max(slow),
        cells: vec![
            format::clean(&statement.text).into(),
            format::count(statement.count).into(),
            Cell::styled(format::count(statement.errors), theme.severity(errors)),
            Cell::styled(format::duration(statement.mean_ns), theme.severity(slow)),
            format::duration(statement.max_ns).into(),
            format::duration(statement.total_ns).into(),
            format::known(statement.call_site.as_ref(), format::call_site).into(),
        ],
    })
}

fn severity(shown: &Shown, index: usize) -> Severity {
    shown
        .statements
        .get(index)
        .map_or(Severity::Normal, |statement| errors(statement).max(slowness(statement)))
}

fn errors(statement: &Statement) -> Severity {
    if statement.errors > 0 { Severity::Warning } else { Severity::Normal }
}

fn slowness(statement: &Statement) -> Severity {
    if statement.mean_ns >= SLOW_MEAN_NS { Severity::Warning } else { Severity::Normal }
}
