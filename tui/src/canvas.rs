//! Drawing without a terminal: what one would be sent is counted and thrown away. For measuring what a drawing costs.

use crate::state::State;
use crate::theme::{Palette, Theme};
use crate::update::{Message, update};
use crate::view;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

/// A terminal of a fixed size that nobody looks at.
#[derive(Debug)]
pub struct Canvas {
    terminal: Terminal<CrosstermBackend<Counter>>,
    sent: Rc<Cell<u64>>,
    size: (u16, u16),
    theme: Theme,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    bytes: Rc<Cell<u64>>,
}

impl Write for Counter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bytes.set(self.bytes.get() + buffer.len() as u64);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Canvas {
    /// # Errors
    /// Never on a canvas: as drawing on a terminal.
    pub fn new(columns: u16, lines: u16, palette: Palette) -> io::Result<Self> {
        let viewport = Viewport::Fixed(Rect::new(0, 0, columns, lines));
        let counter = Counter::default();
        let sent = Rc::clone(&counter.bytes);
        let backend = CrosstermBackend::new(counter);
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        Ok(Self { terminal, sent, size: (columns, lines), theme: Theme::new(palette) })
    }

    /// Draws what has changed since the last time, and says how many bytes a terminal would have been sent.
    ///
    /// # Errors
    /// Never on a canvas: as drawing on a terminal.
    pub fn draw(&mut self, state: &mut State) -> io::Result<u64> {
        let before = self.sent.get();
        let (columns, lines) = self.size;
        let _drawn_anyway = update(state, Message::Size(columns, lines));
        self.terminal.draw(|frame| view::draw(state, self.theme, frame))?;
        Ok(self.sent.get() - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::source::Delivery;
    use std::sync::Arc;

    #[test]
    fn only_what_has_changed_is_sent() {
        let mut state = State::default();
        let mut canvas = Canvas::new(80, 24, Palette::True).unwrap();
        let snapshot = Arc::new(fixture::shop());
        update(&mut state, Message::Delivery(Delivery::Snapshot { application: 0, snapshot }));
        let first = canvas.draw(&mut state).unwrap();
        assert!(first > 80 * 10, "{first}");
        assert!(canvas.draw(&mut state).unwrap() < first / 10);
    }
}
