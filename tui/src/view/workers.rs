//! The processes that serve the application.

use super::panel::View;
use super::table::{Row, figure, text};
use crate::format;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::Snapshot;

pub(super) const VIEW: View = View {
    title: "Workers",
    columns: &[
        text("name", 1, 0),
        figure("pid", 8, 0),
        figure("count", 7, 8),
        figure("active", 7, 9),
        figure("CPU", 6, 9),
        figure("memory", 8, 10),
        figure("threads", 8, 10),
    ],
    row,
    severity: |_, _| Severity::Normal,
    empty: "no workers",
};

fn row(snapshot: &Snapshot, index: usize, _theme: Theme) -> Option<Row> {
    let worker = snapshot.workers.get(index)?;
    Some(Row {
        severity: Severity::Normal,
        cells: vec![
            if worker.is_master { "master" } else { "worker" }.to_owned().into(),
            worker.pid.to_string().into(),
            format::count(worker.transactions).into(),
            format::count(worker.active).into(),
            format::known(worker.cpu_cores, format::cores).into(),
            format::known(worker.rss_bytes, format::bytes).into(),
            format::known(worker.threads, format::count).into(),
        ],
    })
}
