//! Where the CPU time goes, by Python function.

use super::panel::View;
use super::table::{Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};

pub(super) const VIEW: View = View {
    title: "Functions",
    columns: &[
        text("name", 3, 0),
        figure("self %", 7, 0),
        figure("total %", 8, 12),
        figure("samples", 8, 60),
        text("file", 2, 24),
    ],
    row,
    severity: |_, _| Severity::Normal,
    empty: "no samples on a CPU yet",
};

fn row(shown: &Shown, index: usize, _theme: Theme) -> Option<Row> {
    let function = shown.functions.get(index)?;
    Some(Row {
        severity: Severity::Normal,
        cells: vec![
            format::clean(&function.function).into(),
            format::percent(function.self_share).into(),
            format::percent(function.total_share).into(),
            format::count(function.samples).into(),
            format::clean(format::short_file(&function.file)).into(),
        ],
    })
}
