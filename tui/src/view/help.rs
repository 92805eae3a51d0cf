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
    for (name, label) in KEYS.iter().filter(|key| key.is_for(state.mode())).filter_map(|key| key.footer) {
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

/// Every key of the screen, then what the marks on it mean.
pub(super) fn help(mode: Mode, theme: Theme) -> Vec<Line<'static>> {
    let entry = |name: &str, text: &'static str, style| {
        Line::from(vec![Span::styled(format::left(name, 18), style), Span::raw(text)])
    };
    let mut lines: Vec<Line<'static>> = KEYS
        .iter()
        .filter(|key| key.is_for(mode))
        .map(|key| entry(key.names, key.help, theme.strong()))
        .collect();
    lines.push(Line::default());
    let warning = theme.severity(Severity::Warning);
    let critical = theme.severity(Severity::Critical);
    match mode {
        Mode::XView => {
            lines.push(entry("dots", "up to eight transactions in a cell", theme.strong()));
            lines.push(entry("×", "one of them failed", critical));
            lines.push(entry("▴", "one of them took longer than the top", warning));
            lines.push(entry(
                "no dot for",
                "too many in a second: slow, failed, a fair choice are there",
                theme.strong(),
            ));
        }
        Mode::Flame => {
            lines.push(entry("width", "share of the CPU samples of the last minute", theme.strong()));
            lines.push(entry(
                "colour",
                "red, yellow: the application; green, blue, grey: libraries",
                theme.strong(),
            ));
        }
        Mode::Document => {
            lines.push(entry("▸ ▾ !", "a call; unfolded; one that failed", theme.strong()));
            lines.push(entry(
                "+ and the bar",
                "when the call began, and where it lay in time",
                theme.strong(),
            ));
        }
        Mode::Table | Mode::Filter => {
            lines.push(entry("*", "a route has errors or a p95 of 1 s; active for 1 s", warning));
            lines.push(entry("!", "5 % errors, a p95 of 5 s, or active for 5 s; unhandled", critical));
            lines.push(entry("▼", "sorted by this column", theme.strong()));
            lines.push(entry("db, calls", "database: mean time, mean calls per transaction", theme.strong()));
            lines.push(entry(
                "self, total %",
                "share of CPU samples in it; with what it calls",
                theme.strong(),
            ));
        }
    }
    lines.push(entry("-", "not known", theme.strong()));
    lines
}
