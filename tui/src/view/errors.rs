//! Exceptions of one class and one place together.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};

pub(super) const VIEW: View = View {
    title: "Errors",
    columns: &[
        text("name", 3, 0),
        figure("count", 6, 0),
        figure("unhandled", 9, 24),
        figure("first", 9, 50),
        figure("last", 9, 14),
        text("in transaction", 2, 44),
        text("raised in", 3, 30),
    ],
    row,
    severity,
    empty: "no exception has left the frame that raised it",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let group = shown.errors.get(index)?;
    let severity = severity(shown, index);
    let kind = format::clean(&group.kind);
    let message = group.latest.message.as_deref().map(format::clean);
    let ago = |ns: u64| format!("{} ago", format::whole_seconds(shown.taken_ns.saturating_sub(ns)));
    Some(Row {
        severity,
        cells: vec![
            message.map_or_else(|| kind.clone(), |message| format!("{kind}: {message}")).into(),
            format::count(group.count).into(),
            Cell::styled(format::count(group.unhandled), theme.severity(severity)),
            ago(group.first_seen_ns).into(),
            ago(group.last_seen_ns).into(),
            format::known(group.transaction.as_deref(), format::clean).into(),
            format::known(group.frame.as_ref(), format::call_site).into(),
        ],
    })
}

fn severity(shown: &Shown, index: usize) -> Severity {
    match shown.errors.get(index) {
        Some(group) if group.unhandled > 0 => Severity::Critical,
        _ => Severity::Normal,
    }
}
