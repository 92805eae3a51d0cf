//! What was lost on the way, by reason: one line that is always there, and the full account.

use crate::format;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::Losses;
use ratatui::text::{Line, Span};
use std::collections::BTreeMap;

/// The header's line. Losses of none are said, too: silence could mean that nobody counts.
pub(super) fn line(losses: &Losses, theme: Theme, width: usize) -> Line<'static> {
    let lost: u64 = losses.dropped.values().fold(0, |sum, count| sum.saturating_add(*count));
    let mut text = format!("losses {} of {} events", format::grouped(lost), format::grouped(losses.seen));
    let style = if lost > 0 {
        text.push_str(&format!(" ({}): {}", format::percent_of(lost, losses.seen), reasons(&losses.dropped)));
        theme.severity(Severity::Critical)
    } else {
        theme.good()
    };
    let text = format::fit(&text, width);
    let mut rest = String::new();
    if losses.incomplete.values().any(|count| *count > 0) {
        rest.push_str(&format!("  incomplete: {}", reasons(&losses.incomplete)));
    }
    let rest = format::fit(&rest, width - format::width(&text));
    Line::from(vec![Span::styled(text, style), Span::styled(rest, theme.label())])
}

/// `ring_full 12, unreadable 3`: the largest first.
fn reasons(counts: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<String> = sorted(counts)
        .map(|(reason, count)| format!("{} {}", format::clean(reason), format::count(count)))
        .collect();
    reasons.join(", ")
}

fn sorted(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let mut counts: Vec<(&str, u64)> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter()
}

/// The account in full, for the overlay.
pub(super) fn account(losses: &Losses, theme: Theme) -> Vec<Line<'static>> {
    let lost: u64 = losses.dropped.values().fold(0, |sum, count| sum.saturating_add(*count));
    let entry = |name: &str, count: u64, style| {
        let name = format::left(name, 34);
        Line::styled(format!("{name} {}", format::right(&format::grouped(count), 15)), style)
    };
    let alarm = |count: u64| if count > 0 { theme.severity(Severity::Critical) } else { theme.plain() };
    let mut lines = vec![
        entry("seen by the kernel half", losses.seen, theme.strong()),
        entry("delivered", losses.delivered, theme.plain()),
        entry("dropped", lost, alarm(lost)),
    ];
    lines.extend(
        sorted(&losses.dropped)
            .map(|(reason, count)| entry(&format!("  {}", format::clean(reason)), count, alarm(count))),
    );
    // Not an error by itself: records may be on their way at the moment of the snapshot.
    let open = losses.seen.saturating_sub(losses.delivered.saturating_add(lost));
    lines.push(entry("on the way or unaccounted for", open, theme.plain()));
    lines.push(Line::default());
    lines.push(Line::styled("Delivered, but incomplete", theme.strong()));
    let incomplete: Vec<_> = sorted(&losses.incomplete)
        .map(|(reason, count)| entry(&format!("  {}", format::clean(reason)), count, theme.plain()))
        .collect();
    if incomplete.is_empty() {
        lines.push(Line::styled("  none", theme.label()));
    }
    lines.extend(incomplete);
    lines
}
