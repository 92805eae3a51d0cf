//! Transactions that have not ended: how long they have been running, and what they are doing now.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::{Doing, Snapshot};

const OLD_NS: u64 = 1_000_000_000;
const VERY_OLD_NS: u64 = 5_000_000_000;

pub(super) const VIEW: View = View {
    title: "Active",
    columns: &[text("name", 2, 0), figure("elapsed", 8, 0), figure("pid", 7, 20), text("doing now", 3, 30)],
    row,
    severity,
    empty: "nothing in flight",
};

fn row(snapshot: &Snapshot, index: usize, theme: Theme) -> Option<Row> {
    let active = snapshot.active.get(index)?;
    let severity = severity(snapshot, index);
    Some(Row {
        severity,
        cells: vec![
            format::clean(&active.name).into(),
            Cell::styled(format::duration(active.elapsed_ns), theme.severity(severity)),
            active.pid.to_string().into(),
            match &active.doing {
                Doing::Statement { text, elapsed_ns } => Cell::styled(
                    format!("SQL {}: {}", format::duration(*elapsed_ns), format::clean(text)),
                    theme.statement(),
                ),
                Doing::Function(frame) => format::frame(frame).into(),
                Doing::Unknown => format::UNKNOWN.to_owned().into(),
            },
        ],
    })
}

fn severity(snapshot: &Snapshot, index: usize) -> Severity {
    match snapshot.active.get(index).map_or(0, |active| active.elapsed_ns) {
        VERY_OLD_NS.. => Severity::Critical,
        OLD_NS.. => Severity::Warning,
        _ => Severity::Normal,
    }
}
