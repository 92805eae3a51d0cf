//! One table: a heading that is also the panel's title, and the rows that fit. Columns are fixed or share
//! what is left; those that matter least give way on a narrow screen. Widths never depend on the figures,
//! so nothing jumps while they change.

use crate::format;
use crate::theme::{Severity, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Columns in front of every row for its severity's marker.
const MARKER: u16 = 2;
const GAP: u16 = 1;

#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    pub(crate) width: Width,
    /// The column is drawn only if the texts still have so many columns left beside it; 0 is always.
    pub(crate) room: u16,
}

#[derive(Clone, Copy)]
pub(crate) enum Width {
    /// A figure, at the right edge.
    Figure(u16),
    /// A text, at the left edge: shares what the figures leave, by weight.
    Text(u16),
}

pub(crate) const fn figure(heading: &'static str, width: u16, room: u16) -> Column {
    Column { heading, width: Width::Figure(width), room }
}

pub(crate) const fn text(heading: &'static str, weight: u16, room: u16) -> Column {
    Column { heading, width: Width::Text(weight), room }
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

impl Cell {
    pub(crate) fn styled(text: String, style: Style) -> Self {
        Self { text, style }
    }
}

pub(crate) struct Row {
    pub(crate) severity: Severity,
    /// One for each column, drawn or not.
    pub(crate) cells: Vec<Cell>,
}

pub(crate) struct Table<'a> {
    /// First column's heading, with the count.
    pub(crate) title: String,
    pub(crate) columns: &'a [Column],
    /// Heading of the column that the rows are sorted by.
    pub(crate) sorted: &'static str,
    pub(crate) ascending: bool,
    pub(crate) focused: bool,
    /// Rows in all.
    pub(crate) rows: usize,
    pub(crate) selected: Option<usize>,
    /// Instead of rows, when there are none.
    pub(crate) empty: String,
}

/// Where one column goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    column: usize,
    x: u16,
    width: u16,
}

impl Table<'_> {
    /// Draws the heading and as many rows as fit. Only those are asked for.
    pub(crate) fn draw(&self, row: impl Fn(usize) -> Row, theme: Theme, area: Rect, buffer: &mut Buffer) {
        if area.width <= MARKER || area.height == 0 {
            return;
        }
        let placed = place(self.columns, area.width - MARKER);
        self.draw_heading(&placed, theme, area, buffer);
        let height = usize::from(area.height - 1);
        if self.rows == 0 {
            if height > 0 {
                let room = usize::from(area.width - MARKER);
                buffer.set_string(area.x + MARKER, area.y + 1, format::fit(&self.empty, room), theme.label());
            }
            return;
        }
        let first = first_row(self.rows, height, self.selected);
        for (line, index) in (first..self.rows).take(height).enumerate() {
            let y = area.y + 1 + line as u16;
            let row = row(index);
            buffer.set_string(area.x, y, row.severity.marker(), theme.severity(row.severity));
            for placed in &placed {
                let Some(cell) = row.cells.get(placed.column) else { continue };
                let width = usize::from(placed.width);
                let text = match self.columns[placed.column].width {
                    Width::Figure(_) => format::right(&cell.text, width),
                    Width::Text(_) => format::fit(&cell.text, width),
                };
                buffer.set_string(area.x + MARKER + placed.x, y, text, cell.style);
            }
            if self.selected == Some(index) {
                buffer.set_style(Rect { y, height: 1, ..area }, theme.selected());
            }
        }
    }

    fn draw_heading(&self, placed: &[Placed], theme: Theme, area: Rect, buffer: &mut Buffer) {
        let style = if self.focused { theme.heading_focused() } else { theme.heading() };
        buffer.set_style(Rect { height: 1, ..area }, style);
        if self.focused {
            buffer.set_string(area.x, area.y, "▶", style);
        }
        // The sort is marked on its column, or named in the title when that column is not drawn.
        let marked = placed.iter().any(|placed| self.columns[placed.column].heading == self.sorted);
        for placed in placed {
            let column = &self.columns[placed.column];
            let width = usize::from(placed.width);
            let text = if placed.column == 0 {
                let sorted = format!("{} by {}", self.title, self.sorted);
                let title = if marked || format::width(&sorted) > width { &self.title } else { &sorted };
                format::fit(title, width)
            } else {
                let mark = match (column.heading == self.sorted, self.ascending) {
                    (false, _) => "",
                    (true, false) => "▼",
                    (true, true) => "▲",
                };
                let heading = format!("{mark}{}", column.heading);
                match column.width {
                    Width::Figure(_) => format::right(&heading, width),
                    Width::Text(_) => format::fit(&heading, width),
                }
            };
            buffer.set_string(area.x + MARKER + placed.x, area.y, text, style);
        }
    }
}

/// The first row to draw: the selected one stays in the middle where the ends allow. Depends on nothing
/// remembered, so a resize cannot leave it out of sight.
fn first_row(rows: usize, height: usize, selected: Option<usize>) -> usize {
    selected.unwrap_or(0).saturating_sub(height / 2).min(rows.saturating_sub(height))
}

/// Chooses the columns that fit into `width` and places them.
fn place(columns: &[Column], width: u16) -> Vec<Placed> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut figures = 0_u16;
    // By need, not by position: the columns that ask for the least room are chosen first.
    let mut by_need: Vec<usize> = (0..columns.len()).collect();
    by_need.sort_by_key(|&index| columns[index].room);
    for index in by_need {
        let more = match columns[index].width {
            Width::Figure(width) => width + GAP,
            Width::Text(_) => GAP,
        };
        if columns[index].room == 0 || figures + more + columns[index].room <= width {
            chosen.push(index);
            figures += more;
        }
    }
    chosen.sort_unstable();
    // The first column has no gap before it.
    let left = width.saturating_sub(figures.saturating_sub(GAP));
    let weights: u16 = chosen
        .iter()
        .map(|&index| match columns[index].width {
            Width::Text(weight) => weight,
            Width::Figure(_) => 0,
        })
        .sum();
    let (mut x, mut given, mut weight_given) = (0, 0, 0);
    let mut placed = Vec::with_capacity(chosen.len());
    for index in chosen {
        let wanted = match columns[index].width {
            Width::Figure(width) => width,
            Width::Text(weight) => {
                // By running sums, so that rounding neither loses nor adds a column.
                weight_given += weight;
                let upto = (u32::from(left) * u32::from(weight_given) / u32::from(weights.max(1))) as u16;
                let width = upto - given;
                given = upto;
                width
            }
        };
        let width = wanted.min(width.saturating_sub(x));
        placed.push(Placed { column: index, x, width });
        x += width + GAP;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[text("name", 2, 0), figure("count", 5, 0), figure("p50", 7, 20), text("file", 1, 40)];

    fn columns(width: u16) -> Vec<usize> {
        place(COLUMNS, width).iter().map(|placed| placed.column).collect()
    }

    #[test]
    fn columns_give_way_in_the_order_of_their_need() {
        assert_eq!(columns(20), [0, 1]);
        assert_eq!(columns(35), [0, 1, 2]);
        assert_eq!(columns(60), [0, 1, 2, 3]);
    }

    #[test]
    fn columns_fill_the_width_exactly_and_never_overlap() {
        for width in 1..320 {
            let placed = place(COLUMNS, width);
            for pair in placed.windows(2) {
                assert!(pair[0].x + pair[0].width < pair[1].x + 1 + GAP, "{width}: {pair:?}");
            }
            let last = placed.last().unwrap();
            assert!(last.x + last.width <= width.max(last.x), "{width}: {placed:?}");
            if width > 20 {
                assert_eq!(last.x + last.width, width, "{width}: {placed:?}");
            }
        }
    }

    #[test]
    fn the_selected_row_is_always_in_sight() {
        for rows in [1, 5, 6, 5_000] {
            for height in 1..12 {
                for selected in (0..rows).step_by(1 + rows / 50) {
                    let first = first_row(rows, height, Some(selected));
                    assert!((first..first + height).contains(&selected), "{rows} {height} {selected}");
                    assert!(first == 0 || first + height <= rows, "blank lines at the end");
                }
            }
        }
    }
}
