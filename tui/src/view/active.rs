//! Transactions that have not ended: how long they have been running, and what they are doing now.

use super::panel::View;
use super::table::{Cell, Row, figure, text};
use crate::format;
use crate::state::Shown;
use crate::theme::{Severity, Theme};
use pyapm_model::dump::State;
use pyapm_model::snapshot::{Active, Doing};

const OLD_NS: u64 = 1_000_000_000;
const VERY_OLD_NS: u64 = 5_000_000_000;

pub(super) const VIEW: View = View {
    title: "Active",
    columns: &[
        text("name", 4, 0),
        figure("elapsed", 8, 0),
        figure("pid", 7, 20),
        figure("calls", 6, 90),
        text("waits for", 2, 60),
        text("doing now", 6, 30),
        text("function", 4, 90),
    ],
    row,
    severity,
    empty: "nothing in flight",
};

fn row(shown: &Shown, index: usize, theme: Theme) -> Option<Row> {
    let active = shown.active.get(index)?;
    let severity = severity(shown, index);
    Some(Row {
        severity,
        cells: vec![
            format::clean(&active.name).into(),
            Cell::styled(format::duration(active.elapsed_ns), theme.severity(severity)),
            active.pid.to_string().into(),
            format::count(active.calls).into(),
            format::known(active.state.as_ref(), waits).into(),
            doing(active, theme),
            format::known(active.place.as_ref(), format::frame).into(),
        ],
    })
}

/// The call it is in, else the function.
fn doing(active: &Active, theme: Theme) -> Cell {
    match &active.doing {
        Doing::Statement { text, elapsed_ns } => Cell::styled(
            format!("SQL {}: {}", format::duration(*elapsed_ns), format::clean(text)),
            theme.statement(),
        ),
        Doing::Function(frame) => format::frame(frame).into(),
        Doing::Unknown => format::UNKNOWN.to_owned().into(),
    }
}

/// Where the kernel has a thread, in few words.
pub(super) fn waits(state: &State) -> String {
    match state {
        State::OnCpu | State::Running => "runs".to_owned(),
        State::Gil => "the GIL".to_owned(),
        State::Lock { .. } => "a lock".to_owned(),
        State::Sleep { .. } => "sleeps".to_owned(),
        State::Io { call, file: None, .. } => format::clean(call),
        State::Io { file: Some(file), .. } => format::clean(file),
        State::Child { .. } => "a child".to_owned(),
        State::Call { call } => format::clean(call),
        State::Kernel => "the kernel".to_owned(),
        State::Stopped => "stopped".to_owned(),
        State::Unknown => format::UNKNOWN.to_owned(),
    }
}

fn severity(shown: &Shown, index: usize) -> Severity {
    shown.active.get(index).map_or(Severity::Normal, |active| by_age(active.elapsed_ns))
}

pub(super) fn by_age(elapsed_ns: u64) -> Severity {
    match elapsed_ns {
        VERY_OLD_NS.. => Severity::Critical,
        OLD_NS.. => Severity::Warning,
        _ => Severity::Normal,
    }
}
