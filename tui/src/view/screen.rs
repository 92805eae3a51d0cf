//! The whole screen: header, panels, footer, and what lies over them.

use super::{details, header, help, layout, losses, panel};
use crate::state::{Overlay, State};
use crate::theme::Theme;
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
    let Some(snapshot) = &state.snapshot else {
        let text = if state.ended {
            "the application ended before the first figures arrived".to_owned()
        } else {
            format!("waiting for the first figures, {} s", state.silent_seconds)
        };
        frame.render_widget(Line::styled(text, theme.label()), Rect { height: 1, ..above });
        overlay(state, theme, above, frame);
        return;
    };
    let lines = header::lines(state, snapshot, theme, above.width);
    let head = (lines.len() as u16).min(above.height);
    frame.render_widget(Paragraph::new(lines), Rect { height: head, ..above });
    let body = Rect { y: above.y + head, height: above.height - head, ..above };
    for (panel, place) in layout::panels(body, state.focus) {
        panel::draw(state, panel, theme, place, frame.buffer_mut());
    }
    overlay(state, theme, body, frame);
}

/// In the middle of the panels; header and footer stay in sight.
fn overlay(state: &State, theme: Theme, area: Rect, frame: &mut Frame<'_>) {
    let Some(overlay) = state.overlay else { return };
    let width = area.width.min(100);
    let inner = usize::from(width.saturating_sub(4));
    let (title, lines) = match overlay {
        Overlay::Help => (" Keys and marks ", help::help(theme)),
        Overlay::Losses => (
            " Losses since the start ",
            state
                .snapshot
                .as_ref()
                .map(|snapshot| losses::account(&snapshot.losses, theme))
                .unwrap_or_default(),
        ),
        Overlay::Details => (
            " Details ",
            details::details(state, theme, inner)
                .unwrap_or_else(|| vec![Line::styled("no longer in the list", theme.label())]),
        ),
    };
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
