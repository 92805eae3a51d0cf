//! The whole terminal: header, line of screens, the screen, footer, and what lies over them.

use super::{details, document, flame, header, health, help, layout, panel, tabs, xview};
use crate::state::{Overlay, Screen, State};
use crate::theme::{Palette, Theme};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

pub(crate) fn draw(state: &State, theme: Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < layout::MIN_WIDTH || area.height < layout::MIN_HEIGHT {
        let lines = vec![
            Line::raw("too small"),
            Line::raw(format!(
                "{}x{}, needs {}x{}",
                area.width,
                area.height,
                layout::MIN_WIDTH,
                layout::MIN_HEIGHT
            )),
            Line::raw("q quits"),
        ];
        frame.render_widget(Paragraph::new(lines), area);
        return;
    }
    let footer = Rect { y: area.bottom() - 1, height: 1, ..area };
    frame.render_widget(help::footer(state, theme, usize::from(area.width)), footer);
    let above = Rect { height: area.height - 1, ..area };
    if state.snapshot.is_none() && state.screen != Screen::Applications {
        let text = if state.ended {
            "the application ended before the first figures arrived".to_owned()
        } else {
            format!("waiting for the first figures, {} s", state.silent_seconds)
        };
        frame.render_widget(Line::styled(text, theme.label()), Rect { height: 1, ..above });
        overlay(state, theme, above, frame);
        return;
    }
    let lines = head(state, theme, area);
    let height = (lines.len() as u16).min(above.height);
    frame.render_widget(Paragraph::new(lines), Rect { height, ..above });
    let body = body(state, area);
    let buffer = frame.buffer_mut();
    match state.screen {
        Screen::Overview => {
            for (panel, place) in layout::panels(body, state.focus) {
                panel::draw(state, panel, theme, place, buffer);
            }
        }
        Screen::XView => xview::draw(state, theme, body, buffer),
        Screen::Flame => flame::draw(state, theme, body, buffer),
        screen if screen.is_document() => document::draw(state, theme, body, buffer),
        screen => {
            if let Some(panel) = screen.panel() {
                panel::draw(state, panel, theme, body, buffer);
            }
        }
    }
    overlay(state, theme, body, frame);
}

/// The lines above the screen.
fn head(state: &State, theme: Theme, area: Rect) -> Vec<Line<'static>> {
    let mut lines = match &state.snapshot {
        Some(snapshot) => header::lines(state, snapshot, theme, area.width),
        None => Vec::new(),
    };
    lines.push(tabs::line(state, theme, usize::from(area.width)));
    lines
}

/// The place of the screen on a terminal of this size.
pub(super) fn body(state: &State, area: Rect) -> Rect {
    // Neither colours nor styles change how many lines there are.
    let head = head(state, Theme::new(Palette::None), area).len() as u16;
    let head = head.min(area.height);
    Rect { y: area.y + head, height: area.height.saturating_sub(head + 1), ..area }
}

/// Columns that an overlay has at most, its border and margin among them.
const OVERLAY_WIDTH: u16 = 100;
const OVERLAY_FRAME: u16 = 4;

/// Title and text of what lies over the screen.
fn overlay_text(
    state: &State,
    overlay: Overlay,
    theme: Theme,
    area: Rect,
) -> (&'static str, Vec<Line<'static>>) {
    let width = usize::from(area.width.min(OVERLAY_WIDTH).saturating_sub(OVERLAY_FRAME));
    match overlay {
        Overlay::Help => (" Keys and marks ", help::help(state.mode(), theme, width)),
        Overlay::Health => (
            " Health ",
            state
                .snapshot
                .as_ref()
                .map(|snapshot| health::account(snapshot, theme, width))
                .unwrap_or_default(),
        ),
        Overlay::Details => (
            " Details ",
            details::details(state, theme, width)
                .unwrap_or_else(|| vec![Line::styled("no longer in the list", theme.label())]),
        ),
    }
}

/// Lines of the overlay for which there is no room.
pub(super) fn overlay_hidden(state: &State, area: Rect) -> usize {
    let Some(overlay) = state.overlay else { return 0 };
    let (_, lines) = overlay_text(state, overlay, Theme::new(Palette::None), area);
    lines.len().saturating_sub(usize::from(area.height.saturating_sub(2)))
}

/// In the middle of the panels; header and footer stay in sight.
fn overlay(state: &State, theme: Theme, area: Rect, frame: &mut Frame<'_>) {
    let Some(overlay) = state.overlay else { return };
    let width = area.width.min(OVERLAY_WIDTH);
    let (title, lines) = overlay_text(state, overlay, theme, area);
    let height = (lines.len() as u16).saturating_add(2).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let hidden = lines.len().saturating_sub(usize::from(height.saturating_sub(2)));
    let scroll = state.overlay_scroll.min(hidden);
    let mut block = Block::bordered().title(title).border_style(theme.heading_border());
    if hidden > scroll {
        block = block.title_bottom(format!(" {} more below ", hidden - scroll));
    }
    block = block.title_bottom(Line::from(" Esc closes ").right_aligned());
    frame.render_widget(Clear, place);
    let text = Paragraph::new(lines).scroll((scroll as u16, 0));
    frame.render_widget(block, place);
    let inside = Rect {
        x: place.x + 2,
        y: place.y + 1,
        width: place.width.saturating_sub(4),
        height: place.height.saturating_sub(2),
    };
    frame.render_widget(text, inside);
}
