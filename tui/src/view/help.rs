//! The help and the footer, both from the key table.

use crate::format;
use crate::keys::KEYS;
use crate::state::{Mode, State};
use crate::theme::{Severity, Theme};
use ratatui::text::{Line, Span};

/// The keys that fit into `width`, or the filter while it is typed.
pub(super) fn footer(state: &State, theme: Theme, width: usize) -> Line<'static> {
    if state.mode() == Mode::Filter {
        let hint = "  Enter keep  Esc cancel";
        let room = width.saturating_sub(hint.len() + "filter: _".len());
        // The end is what is being typed.
        let filter = format::fit_end(&format::clean(&state.filter), room);
        return Line::from(vec![
            Span::styled("filter: ", theme.strong()),
            Span::raw(filter),
            Span::styled("_", theme.selected()),
            Span::styled(hint, theme.label()),
        ]);
    }
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for (name, label) in KEYS.iter().filter_map(|key| key.footer) {
        let wide = format::width(name) + 1 + format::width(label);
        let gap = if used == 0 { 0 } else { 2 };
        if used + gap + wide > width {
            break;
        }
        used += gap + wide;
        spans.push(Span::raw(" ".repeat(gap)));
        spans.push(Span::styled(name, theme.strong()));
        spans.push(Span::styled(format!(" {label}"), theme.label()));
    }
    Line::from(spans)
}

/// Every key, then what the marks on the screen mean.
pub(super) fn help(theme: Theme) -> Vec<Line<'static>> {
    let entry = |name: &str, text: &'static str, style| {
        Line::from(vec![Span::styled(format::left(name, 15), style), Span::raw(text)])
    };
    let mut lines: Vec<Line<'static>> =
        KEYS.iter().map(|key| entry(key.names, key.help, theme.strong())).collect();
    lines.push(Line::default());
    let warning = theme.severity(Severity::Warning);
    let critical = theme.severity(Severity::Critical);
    lines.push(entry("*", "a route has errors or a p95 of 1 s; active for 1 s", warning));
    lines.push(entry("!", "5 % errors, a p95 of 5 s, or active for 5 s", critical));
    lines.push(entry("-", "not known", theme.strong()));
    lines.push(entry("▼", "sorted by this column", theme.strong()));
    lines.push(entry("db, calls", "database: mean time and mean calls per transaction", theme.strong()));
    lines.push(entry("self, total %", "share of CPU samples in it; in it or what it calls", theme.strong()));
    lines
}
