//! All applications that are watched, one a row.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};
use pyapm_model::service::{ApplicationState, Figures};

pub(super) const VIEW: View = View {
    title: "Applications",
    columns: &[
        text("name", 2, 0),
        figure("/s", 6, 0),
        figure("err", 6, 14),
        figure("p50", 7, 24),
        figure("p95", 7, 14),
        figure("active", 7, 16),
        figure("CPU", 6, 18),
        figure("memory", 8, 20),
        figure("work.", 6, 22),
        figure("pid", 8, 26),
        text("server", 1, 40),
    ],
    row,
    severity,
    empty: "no application is watched yet",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let one = shown.applications.get(index)?;
    let severity = severity(shown, index);
    let name = format::clean(&one.info.name);
    let server = format::known(one.info.server.as_deref(), format::clean);
    let python = format::known(one.info.python.as_deref(), format::clean);
    Some(Row {
        severity,
        cells: vec![
            if is_over(one) { format!("{name} (ended)") } else { name }.into(),
            format::rate(one.per_second).into(),
            Cell::styled(format::count(one.errors), theme.severity(severity)),
            format::known(one.p50_ns, format::duration).into(),
            format::known(one.p95_ns, format::duration).into(),
            format::count(one.active).into(),
            format::known(one.cpu_cores, format::cores).into(),
            format::known(one.rss_bytes, format::bytes).into(),
            format::count(one.info.processes).into(),
            one.info.pid.to_string().into(),
            format!("{server}, Python {python}").into(),
        ],
    })
}

fn is_over(one: &Figures) -> bool {
    one.info.state == ApplicationState::Ended
}

/// One error in a hundred is worth waking up for.
fn severity(shown: &Shown, index: usize) -> Severity {
    let Some(one) = shown.applications.get(index) else { return Severity::Normal };
    match one.errors {
        0 if is_over(one) => Severity::Warning,
        0 => Severity::Normal,
        errors if errors.saturating_mul(100) < one.transactions => Severity::Warning,
        _ => Severity::Critical,
    }
}
