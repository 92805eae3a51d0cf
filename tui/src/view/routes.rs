//! Transactions by route.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::Route;

/// A route whose slow requests take this long keeps people waiting.
const SLOW_P95_NS: u64 = 1_000_000_000;
const VERY_SLOW_P95_NS: u64 = 5_000_000_000;
/// Errors among so many requests are an outage of that route, not an accident.
const MANY_ERRORS: f64 = 0.05;

pub(super) const VIEW: View = View {
    title: "Routes",
    columns: &[
        text("name", 1, 0),
        figure("count", 6, 19),
        figure("/s", 5, 18),
        figure("err", 5, 0),
        figure("p50", 7, 17),
        figure("p95", 7, 10),
        figure("p99", 7, 14),
        figure("max", 7, 36),
        figure("db", 7, 15),
        figure("calls", 6, 16),
        figure("time", 7, 40),
        figure("4xx", 6, 44),
    ],
    row,
    severity,
    empty: "no transactions seen yet",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let route = shown.routes.get(index)?;
    let (errors, slow) = (errors(route), slowness(route.p95_ns));
    Some(Row {
        severity: severity(shown, index),
        cells: vec![
            format::clean(&route.name).into(),
            format::count(route.count).into(),
            format::rate(route.per_second).into(),
            Cell::styled(format::count(route.errors), theme.severity(errors)),
            Cell::styled(format::duration(route.p50_ns), theme.severity(slowness(route.p50_ns))),
            Cell::styled(format::duration(route.p95_ns), theme.severity(slow)),
            Cell::styled(format::duration(route.p99_ns), theme.severity(slowness(route.p99_ns))),
            format::duration(route.max_ns).into(),
            format::duration(route.db_mean_ns).into(),
            format::rate(route.db_calls).into(),
            format::duration(route.total_ns).into(),
            format::count(route.status_classes[3]).into(),
        ],
    })
}

fn severity(shown: &Shown, index: usize) -> Severity {
    shown.routes.get(index).map_or(Severity::Normal, |route| errors(route).max(slowness(route.p95_ns)))
}

fn errors(route: &Route) -> Severity {
    if route.errors == 0 {
        Severity::Normal
    } else if route.errors as f64 >= MANY_ERRORS * route.count as f64 {
        Severity::Critical
    } else {
        Severity::Warning
    }
}

fn slowness(ns: u64) -> Severity {
    match ns {
        VERY_SLOW_P95_NS.. => Severity::Critical,
        SLOW_P95_NS.. => Severity::Warning,
        _ => Severity::Normal,
    }
}
