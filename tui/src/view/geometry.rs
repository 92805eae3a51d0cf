//! Where things are on the terminal, as they are drawn: for cursors that must not leave a text, and for the mouse.

use super::{document, flame, screen, xview};
use crate::state::State;
use crate::theme::{Palette, Theme};
use ratatui::layout::Rect;

fn body(state: &State) -> Rect {
    let (columns, lines) = state.size;
    screen::body(state, Rect::new(0, 0, columns, lines))
}

fn written(state: &State) -> document::Document {
    // Colours change no line.
    document::document(state, Theme::new(Palette::None), usize::from(body(state).width))
}

/// Lines of the overlay for which there is no room.
pub(crate) fn overlay_hidden(state: &State) -> usize {
    screen::overlay_hidden(state, body(state))
}

/// Lines of the document that is shown.
pub(crate) fn document_lines(state: &State) -> usize {
    written(state).lines.len()
}

/// The call that a line of the document is about.
pub(crate) fn call_at(state: &State, line: usize) -> Option<usize> {
    written(state).call_at(line)
}

/// Where the dots of the X-View are.
pub(crate) fn xview_plot(state: &State) -> Rect {
    xview::place(body(state))
}

/// The function that is drawn at this place.
pub(crate) fn flame_node_at(state: &State, x: u16, y: u16) -> Option<usize> {
    flame::node_at(state, flame::place(body(state)), x, y)
}
