//! The X-View: response time over time, a dot for each transaction. Cells with a failed one show `×`, so that errors are
//! seen apart with and without colour.

use crate::format;
use crate::state::{Plot, State};
use crate::theme::{Severity, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// Columns of the response times at the left edge.
const LABELS: u16 = 9;
/// Lines above and below the dots.
const TITLE: u16 = 1;
const AXIS: u16 = 1;
/// Rows between two response times, and columns between two times.
const LABEL_ROWS: u16 = 4;
const LABEL_COLUMNS: u16 = 20;

/// Where the dots are, within the screen.
pub(super) fn place(area: Rect) -> Rect {
    Rect {
        x: area.x + LABELS.min(area.width),
        y: area.y + TITLE.min(area.height),
        width: area.width.saturating_sub(LABELS),
        height: area.height.saturating_sub(TITLE + AXIS),
    }
}

/// What is drawn in one cell.
#[derive(Clone, Copy, Default)]
struct Cell {
    bits: u8,
    dots: u16,
    has_error: bool,
    is_above: bool,
}

pub(super) fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let place = place(area);
    let plot = state.plot(place.width, place.height);
    let mut cells = vec![Cell::default(); usize::from(place.width) * usize::from(place.height)];
    let mut sums = Sums::default();
    let rectangle = state.xview.rectangle.map(|rectangle| rectangle.within(place.width, place.height));
    for point in state.dots.between(plot.from_ns(), plot.now_ns) {
        let Some(at) = plot.place(point) else { continue };
        let index = usize::from(at.cell.1) * usize::from(place.width) + usize::from(at.cell.0);
        let Some(cell) = cells.get_mut(index) else { continue };
        cell.bits |= at.bit;
        cell.dots = cell.dots.saturating_add(1);
        cell.has_error |= point.is_error;
        cell.is_above |= at.is_above;
        sums.dots += 1;
        sums.errors += u64::from(point.is_error);
        sums.above += u64::from(at.is_above);
        if rectangle.is_some_and(|rectangle| rectangle.contains(at.cell)) {
            sums.chosen += 1;
            sums.chosen_errors += u64::from(point.is_error);
        }
    }
    buffer.set_line(area.x, area.y, &title(state, &plot, &sums, theme, usize::from(area.width)), area.width);
    labels(&plot, area, place, theme, buffer);
    for (index, cell) in cells.iter().enumerate() {
        let (x, y) = ((index % usize::from(place.width)) as u16, (index / usize::from(place.width)) as u16);
        let is_chosen = rectangle.is_some_and(|rectangle| rectangle.contains((x, y)));
        if cell.dots == 0 && !is_chosen {
            continue;
        }
        let (symbol, mut style) = match cell {
            Cell { has_error: true, .. } => ('×', theme.severity(Severity::Critical)),
            Cell { is_above: true, .. } => ('▴', theme.severity(Severity::Warning)),
            Cell { dots: 0, .. } => (' ', theme.plain()),
            // The Braille patterns are in the order of their bits.
            Cell { bits, dots, .. } => {
                (char::from_u32(0x2800 + u32::from(*bits)).unwrap_or('.'), theme.dots(*dots))
            }
        };
        if is_chosen {
            style = style.patch(theme.chosen());
        }
        if let Some(target) = buffer.cell_mut((place.x + x, place.y + y)) {
            target.set_char(symbol).set_style(style);
        }
    }
}

#[derive(Default)]
struct Sums {
    dots: u64,
    errors: u64,
    above: u64,
    chosen: u64,
    chosen_errors: u64,
}

/// What the picture is of; what is chosen, while something is.
fn title(state: &State, plot: &Plot, sums: &Sums, theme: Theme, width: usize) -> Line<'static> {
    let mut text = format!("X-View  last {}", format::whole_seconds(plot.span_ns));
    if state.xview.rectangle.is_some() {
        text.push_str(&format!(
            "  in the rectangle {} (× {}), Enter lists them, Esc gives up",
            format::grouped(sums.chosen),
            format::grouped(sums.chosen_errors)
        ));
    } else {
        text.push_str(&format!(
            "  {} dots  × {} errors  ▴ {} above",
            format::grouped(sums.dots),
            format::grouped(sums.errors),
            format::grouped(sums.above),
        ));
        if plot.is_logarithmic {
            text.push_str("  log");
        }
        if state.dots.left_out > 0 {
            text.push_str(&format!("  no dot for {} since the start", format::count(state.dots.left_out)));
        }
        if state.dots.is_empty() {
            text.push_str("  no transaction has ended since");
        }
    }
    let text = format::left(&format::fit(&text, width), width);
    Line::from(Span::styled(text, theme.heading_focused()))
}

fn labels(plot: &Plot, area: Rect, place: Rect, theme: Theme, buffer: &mut Buffer) {
    for row in (0..place.height).filter(|row| row % LABEL_ROWS == 0) {
        let text = format::right(&format::duration(plot.at_row(row)), usize::from(LABELS - 1));
        buffer.set_string(area.x, place.y + row, text, theme.label());
    }
    let y = place.bottom();
    if y >= area.bottom() {
        return;
    }
    buffer.set_string(place.x, y, "─".repeat(usize::from(place.width)), theme.label());
    let mut column = 0;
    while column + LABEL_COLUMNS / 2 < place.width {
        let left = u64::from(place.width - column);
        let ago = (u128::from(plot.span_ns) * u128::from(left) / u128::from(place.width.max(1))) as u64;
        buffer.set_string(place.x + column, y, format!("-{} ", format::whole_seconds(ago)), theme.label());
        column += LABEL_COLUMNS;
    }
    if place.width > LABEL_COLUMNS {
        buffer.set_string(place.right() - 3, y, "now", theme.label());
    }
}
