//! The processes that serve the application.

use super::active::by_age;
use super::panel::View;
use super::table::{Cell, Row, figure, text};
use super::worker::loops_of;
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};

pub(super) const VIEW: View = View {
    title: "Workers",
    columns: &[
        text("name", 1, 0),
        figure("pid", 8, 0),
        figure("count", 7, 8),
        figure("active", 7, 13),
        figure("CPU", 6, 9),
        figure("GIL %", 5, 11),
        figure("loop %", 6, 11),
        figure("blocked", 7, 22),
        figure("GC/s", 5, 14),
        figure("memory", 8, 10),
        figure("threads", 8, 18),
        figure("oldest", 8, 12),
        text("oldest in flight", 3, 40),
    ],
    row,
    severity: |_, _| Severity::Normal,
    empty: "no workers",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let worker = shown.workers.get(index)?;
    let its = shown.active.iter().filter(|active| active.pid == worker.pid);
    let oldest = its.max_by_key(|active| active.elapsed_ns);
    let loops = loops_of(shown, worker.pid);
    // A worker with several loops is as busy as the busiest.
    let busy = loops.iter().filter_map(|one| one.busy_share).max_by(f64::total_cmp);
    let blocked = (!loops.is_empty()).then(|| loops.iter().map(|one| one.blocked).sum::<u64>());
    let blocked_style = if blocked > Some(0) { Severity::Warning } else { Severity::Normal };
    let kind = match (shown.is_master(worker), worker.active) {
        (true, _) => "master",
        (false, 0) => "worker, idle",
        (false, _) => "worker, busy",
    };
    Some(Row {
        severity: Severity::Normal,
        cells: vec![
            kind.to_owned().into(),
            worker.pid.to_string().into(),
            format::count(worker.transactions).into(),
            format::count(worker.active).into(),
            format::known(worker.cpu_cores, format::cores).into(),
            format::known(worker.gil_held, format::percent).into(),
            format::known(busy, format::percent).into(),
            Cell::styled(format::known(blocked, format::count), theme.severity(blocked_style)),
            format::known(worker.collections, format::rate).into(),
            format::known(worker.rss_bytes, format::bytes).into(),
            format::known(worker.threads, format::count).into(),
            oldest.map_or_else(
                || format::UNKNOWN.to_owned().into(),
                |active| {
                    let age = theme.severity(by_age(active.elapsed_ns));
                    Cell::styled(format::duration(active.elapsed_ns), age)
                },
            ),
            format::known(oldest, |active| format::clean(&active.name)).into(),
        ],
    })
}
