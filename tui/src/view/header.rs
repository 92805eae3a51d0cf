//! The lines above the panels: which application, how it is doing, and what was lost. Wraps on narrow
//! screens instead of cutting a figure.

use super::{health, losses};
use crate::format;
use crate::state::State;
use crate::theme::{Severity, Theme};
use pyapm_model::snapshot::{Snapshot, Totals};
use ratatui::text::{Line, Span};

/// From this width on the first line has room for the length of the window.
const WINDOW_FROM: usize = 76;

/// Blank columns between two figures.
const GAP: usize = 2;

/// The header's lines, each at most `width` columns.
pub(super) fn lines(state: &State, snapshot: &Snapshot, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    let mut lines = vec![identity(state, snapshot, theme, width)];
    lines.extend(wrap(vitals(snapshot, theme), width));
    lines.push(losses::line(&snapshot.losses, theme, width));
    lines
}

/// Who is watched; at the right edge the flags and for how long.
fn identity(state: &State, snapshot: &Snapshot, theme: Theme, width: usize) -> Line<'static> {
    let mut end = Vec::new();
    for flag in flags(state, snapshot) {
        end.push(Span::styled(format!(" {flag} "), theme.flag()));
        end.push(Span::raw(" "));
    }
    let attached = format::whole_seconds(snapshot.elapsed_ns);
    let window = format::whole_seconds(snapshot.window_ns);
    end.push(Span::styled(
        // The window that rates and percentiles are over is the first to give way.
        if width < WINDOW_FROM || !end.is_empty() {
            format!("attached {attached}")
        } else {
            format!("last {window} of {attached}")
        },
        theme.label(),
    ));
    let room = width.saturating_sub(end.iter().map(Span::width).sum::<usize>() + 1);

    let application = format::fit(&format::clean(&snapshot.application), room);
    let workers = snapshot.serving();
    let server = format::known(snapshot.server.as_deref(), format::clean);
    let python = format::known(snapshot.python.as_deref(), format::clean);
    let about =
        format!("  {server}  Python {python}  {workers} {}", if workers == 1 { "worker" } else { "workers" });
    let about = format::left(&about, room - format::width(&application));
    let mut spans = vec![Span::styled(application, theme.strong()), Span::styled(about, theme.label())];
    spans.push(Span::raw(" "));
    spans.extend(end);
    Line::from(spans)
}

/// What must not be overlooked, and reasons why the screen may not show what is so at this moment.
fn flags(state: &State, snapshot: &Snapshot) -> Vec<String> {
    let mut flags = Vec::new();
    match health::firing(snapshot) {
        0 => {}
        1 => flags.push("ALERT".to_owned()),
        several => flags.push(format!("{several} ALERTS")),
    }
    if state.paused {
        let behind = state.held.as_ref().map_or(0, |held| held.taken_ns.saturating_sub(snapshot.taken_ns));
        flags.push(format!("PAUSED {}", format::whole_seconds(behind)));
    }
    if state.ended {
        flags.push("ENDED".to_owned());
    } else if state.is_gone() {
        flags.push("NO LONGER WATCHED".to_owned());
    } else if state.is_stale() {
        flags.push(format!("NO DATA FOR {} s", state.silent_seconds));
    }
    if let Some(rate_hz) = snapshot.slowed_hz {
        flags.push(format!("OVER BUDGET {rate_hz} Hz"));
    }
    flags
}

fn vitals(snapshot: &Snapshot, theme: Theme) -> Vec<Vec<Span<'static>>> {
    let totals = &snapshot.totals;
    let label = |text: &'static str| Span::styled(text, theme.label());
    let percentile = |name: &'static str, value: Option<u64>| {
        vec![
            label(name),
            Span::styled(format!(" {}", format::known(value, format::duration)), theme.strong()),
        ]
    };
    let severity = errors(totals);
    let errors = if severity == Severity::Normal { theme.plain() } else { theme.severity(severity) };
    vec![
        vec![Span::styled(format::rate(totals.per_second), theme.strong()), label("/s")],
        vec![Span::styled(
            format!(
                "errors {} ({})",
                format::count(totals.errors),
                format::percent_of(totals.errors, totals.transactions)
            ),
            errors,
        )],
        percentile("p50", totals.p50_ns),
        percentile("p95", totals.p95_ns),
        percentile("p99", totals.p99_ns),
        vec![
            label("CPU "),
            Span::styled(format::known(totals.cpu_cores, format::cores), theme.strong()),
            label(" cores"),
        ],
    ]
}

/// One error in a hundred is worth waking up for.
fn errors(totals: &Totals) -> Severity {
    if totals.errors == 0 {
        Severity::Normal
    } else if totals.errors.saturating_mul(100) < totals.transactions {
        Severity::Warning
    } else {
        Severity::Critical
    }
}

/// Figures side by side, on as many lines as they need. A figure and its label stay together.
fn wrap(figures: Vec<Vec<Span<'static>>>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for figure in figures {
        let wide: usize = figure.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() + GAP + wide <= width => {
                line.spans.push(Span::raw(" ".repeat(GAP)));
                line.spans.extend(figure);
            }
            _ => lines.push(Line::from(figure)),
        }
    }
    lines
}
