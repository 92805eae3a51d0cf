//! Screens that are a text with a cursor: how they are put together, and how they are drawn. What one looks into is
//! longer than a screen, so the cursor takes the text along.

use super::details::{entry, full_frame};
use super::{failure, in_flight, transaction, worker};
use crate::format;
use crate::state::{Screen, State};
use crate::theme::Theme;
use pyapm_model::line::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Lines of one document: more is not read on a screen, and what a drawing costs has a bound.
const MOST_LINES: usize = 4_000;

/// A document under way.
pub(super) struct Writer {
    pub(super) theme: Theme,
    pub(super) width: usize,
    lines: Vec<Line<'static>>,
    /// The call that a line is about, by its position in the transaction.
    calls: Vec<(usize, usize)>,
}

/// Finished.
pub(super) struct Document {
    pub(super) lines: Vec<Line<'static>>,
    calls: Vec<(usize, usize)>,
}

impl Document {
    /// The call that a line is about.
    pub(super) fn call_at(&self, line: usize) -> Option<usize> {
        self.calls.iter().find(|(at, _)| *at == line).map(|(_, call)| *call)
    }
}

impl Writer {
    pub(super) fn new(theme: Theme, width: usize) -> Self {
        Self { theme, width, lines: Vec::new(), calls: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= MOST_LINES
    }

    pub(super) fn line(&mut self, spans: Vec<Span<'static>>) {
        if !self.is_full() {
            self.lines.push(Line::from(spans));
        }
    }

    /// A line that the cursor can unfold.
    pub(super) fn call(&mut self, call: usize, spans: Vec<Span<'static>>) {
        if !self.is_full() {
            self.calls.push((self.lines.len(), call));
            self.line(spans);
        }
    }

    pub(super) fn text(&mut self, text: &str, style: Style) {
        self.line(vec![Span::styled(format::fit(text, self.width), style)]);
    }

    /// What follows belongs together.
    pub(super) fn heading(&mut self, text: &str) {
        if !self.lines.is_empty() {
            self.line(Vec::new());
        }
        let text = format::left(&format::fit(text, self.width), self.width);
        self.line(vec![Span::styled(text, self.theme.heading())]);
    }

    /// A label, and a text that may take several lines.
    pub(super) fn entry(&mut self, label: &'static str, text: &str) {
        if !self.is_full() {
            entry(&mut self.lines, label, text, self.theme, self.width);
        }
    }

    /// Wrapped, with a margin.
    pub(super) fn indented(&mut self, margin: usize, text: &str, style: Style) {
        for part in format::wrap(text, self.width.saturating_sub(margin)) {
            self.line(vec![Span::raw(" ".repeat(margin)), Span::styled(part, style)]);
        }
    }

    /// Frames as they are given.
    pub(super) fn frames<'a>(&mut self, margin: usize, frames: impl Iterator<Item = &'a Frame>) {
        for frame in frames {
            let text = full_frame(frame);
            let room = self.width.saturating_sub(margin);
            self.line(vec![Span::raw(" ".repeat(margin)), Span::raw(format::fit(&text, room))]);
        }
    }

    pub(super) fn finish(mut self) -> Document {
        if self.is_full() {
            self.lines.push(Line::styled("the rest is left out", self.theme.label()));
        }
        Document { lines: self.lines, calls: self.calls }
    }
}

/// The text of a document screen.
pub(super) fn document(state: &State, theme: Theme, width: usize) -> Document {
    let writer = Writer::new(theme, width);
    match state.screen {
        Screen::InFlight => in_flight::document(state, writer),
        Screen::Failure => failure::document(state, writer),
        Screen::Worker => worker::document(state, writer),
        _ => transaction::document(state, writer),
    }
}

pub(super) fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let Document { lines, .. } = document(state, theme, usize::from(area.width));
    let height = usize::from(area.height);
    let cursor = state.reading.line.min(lines.len().saturating_sub(1));
    let first = cursor.saturating_sub(height / 2).min(lines.len().saturating_sub(height));
    for (y, (index, line)) in (area.y..area.bottom()).zip(lines.iter().enumerate().skip(first)) {
        buffer.set_line(area.x, y, line, area.width);
        if index == cursor {
            buffer.set_style(Rect { y, height: 1, ..area }, theme.selected());
        }
    }
}
