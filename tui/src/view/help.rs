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
pub(super) fn help(mode: Mode, theme: Theme, width: usize) -> Vec<Line<'static>> {
    const NAMES: usize = 18;
    let mut lines: Vec<Line<'static>> = Vec::new();
    let mut entry = |name: &'static str, text: &str, style| {
        let mut name = name;
        for part in format::wrap(text, width.saturating_sub(NAMES)) {
            lines.push(Line::from(vec![Span::styled(format::left(name, NAMES), style), Span::raw(part)]));
            name = "";
        }
    };
    for key in KEYS.iter().filter(|key| key.is_for(mode)) {
        entry(key.names, key.help, theme.strong());
    }
    entry("", "", theme.plain());
    let warning = theme.severity(Severity::Warning);
    let critical = theme.severity(Severity::Critical);
    match mode {
        Mode::XView => {
            entry("dots", "up to eight transactions in a cell", theme.strong());
            entry("×", "one of them failed", critical);
            entry("▴", "one of them took longer than the top", warning);
            entry(
                "no dot for",
                "too many in a second: slow, failed, a fair choice are there",
                theme.strong(),
            );
        }
        Mode::Flame => {
            entry("width", "share of the CPU samples of the last minute", theme.strong());
            entry("colour", "red, yellow: the application; green, blue, grey: libraries", theme.strong());
        }
        Mode::Document => {
            entry("▸ ▾ !", "a call; unfolded; one that failed", theme.strong());
            entry("+ and the bar", "when the call began, and where it lay in time", theme.strong());
        }
        Mode::Table | Mode::Filter => {
            entry("*", "a route has errors or a p95 of 1 s; active for 1 s", warning);
            entry("!", "5 % errors, a p95 of 5 s, or active for 5 s; unhandled", critical);
            entry("▼", "sorted by this column", theme.strong());
            entry("db, calls", "database: mean time, mean calls per transaction", theme.strong());
            entry("GIL %", "of the time: a thread ran with the interpreter's lock", theme.strong());
            entry(
                "loop %, blocked",
                "event loop: time it worked; turns that held up all others",
                theme.strong(),
            );
            entry("GC/s", "garbage collections a second", theme.strong());
            entry("self, total %", "share of CPU samples in it; with what it calls", theme.strong());
        }
    }
    entry("-", "not known", theme.strong());
    lines
}
