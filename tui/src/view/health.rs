//! Whether anything is wrong, with the application or with the watching of it: alerts, other agents, losses.

use super::details::entry;
use super::losses;
use crate::format;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::{Alert, Snapshot};
use ratatui::text::{Line, Span};

/// Of those that are over.
const MOST_OVER: usize = 10;

/// How many fire.
pub(super) fn firing(snapshot: &Snapshot) -> usize {
    snapshot.alerts.iter().filter(|alert| alert.until_ns.is_none()).count()
}

/// All of it, for the overlay.
pub(super) fn account(snapshot: &Snapshot, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled("Alerts", theme.strong())];
    let (firing, over): (Vec<&Alert>, Vec<&Alert>) =
        snapshot.alerts.iter().partition(|alert| alert.until_ns.is_none());
    if snapshot.alerts.is_empty() {
        lines.push(Line::styled("  none", theme.label()));
    }
    let since = |ns: u64| format::whole_seconds(snapshot.taken_ns.saturating_sub(ns));
    for alert in firing {
        let text = format!("{}, for {}", alert.summary, since(alert.since_ns));
        one(&mut lines, "! fires", &text, theme, true, width);
    }
    for alert in over.iter().take(MOST_OVER) {
        let until = alert.until_ns.unwrap_or_default();
        let held = format::duration(until.saturating_sub(alert.since_ns));
        let text = format!("{}, ended {} ago after {held}", alert.summary, since(until));
        one(&mut lines, "  over", &text, theme, false, width);
    }
    lines.push(Line::default());
    lines.push(Line::styled("Other agents inside the process", theme.strong()));
    if snapshot.agents.is_empty() {
        lines.push(Line::styled("  none found", theme.label()));
    }
    for agent in &snapshot.agents {
        entry(&mut lines, "", &format::clean(agent), theme, width);
    }
    lines.push(Line::default());
    lines.push(Line::styled("Losses since the start", theme.strong()));
    lines.extend(losses::account(&snapshot.losses, theme));
    lines
}

fn one(
    lines: &mut Vec<Line<'static>>,
    mark: &'static str,
    text: &str,
    theme: Theme,
    fires: bool,
    width: usize,
) {
    const MARK: usize = 9;
    let style = if fires { theme.severity(Severity::Critical) } else { theme.plain() };
    let mut mark = mark;
    for part in format::wrap(&format::clean(text), width.saturating_sub(MARK)) {
        lines
            .push(Line::from(vec![Span::styled(format::left(mark, MARK), style), Span::styled(part, style)]));
        mark = "";
    }
}
