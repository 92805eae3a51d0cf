//! The X-View's dots, and how a moment and a response time become a place: one dot for each transaction, time to the
//! right, response time upwards.

use pyapm_model::recent::{Point, Points};
use std::collections::VecDeque;

/// Dots that are remembered, at most; the oldest give way. Also what one drawing goes through at most.
const MOST: usize = 120_000;
/// Seconds that the picture may be wide.
const SPANS: [u64; 7] = [10, 30, 60, 120, 300, 600, 1_800];
const DEFAULT_SPAN: usize = 3;
/// Transactions become dots in the order in which they are told of, and that is so much later than their end at most.
const LATE_NS: u64 = 10_000_000_000;
/// The lowest response time that a logarithmic axis tells apart.
const FLOOR_NS: u64 = 100_000;
/// The lowest top that the axis has.
const LOWEST_TOP_NS: u64 = 1_000_000;
const HIGHEST_TOP_NS: u64 = 10_000_000_000_000;
/// Each cell has two columns and four rows of dots (the Braille patterns of Unicode, U+2800).
const ACROSS: u64 = 2;
const DOWN: u64 = 4;

/// The dots themselves, those told of last at the end.
#[derive(Clone, Debug, Default)]
pub struct Dots {
    points: VecDeque<Point>,
    /// Transactions that became no dot.
    pub left_out: u64,
}

impl Dots {
    pub fn add(&mut self, points: Points) {
        self.left_out = points.left_out;
        self.points.extend(points.points);
        let excess = self.points.len().saturating_sub(MOST);
        self.points.drain(..excess);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Of the transactions that ended between these moments.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Point> {
        let first = self.points.partition_point(|point| point.ended_ns.saturating_add(LATE_NS) < from_ns);
        self.points.range(first..).filter(move |point| (from_ns..=to_ns).contains(&point.ended_ns))
    }

    /// Of all transactions of this name.
    pub fn named(&self, name: &str) -> Vec<Point> {
        self.points.iter().filter(|point| &*point.name == name).cloned().collect()
    }
}

/// In cells of the plot, from its upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    pub x: u16,
    pub y: u16,
    pub width: u16,
    pub height: u16,
}

impl Rectangle {
    /// The one with these two cells in opposite corners.
    pub fn between((ax, ay): (u16, u16), (bx, by): (u16, u16)) -> Self {
        Self { x: ax.min(bx), y: ay.min(by), width: ax.abs_diff(bx) + 1, height: ay.abs_diff(by) + 1 }
    }

    pub fn contains(self, (x, y): (u16, u16)) -> bool {
        (self.x..self.x.saturating_add(self.width)).contains(&x)
            && (self.y..self.y.saturating_add(self.height)).contains(&y)
    }

    /// The same one within a plot of this size.
    #[must_use]
    pub fn within(self, columns: u16, rows: u16) -> Self {
        let (width, height) = (self.width.clamp(1, columns.max(1)), self.height.clamp(1, rows.max(1)));
        let x = self.x.min(columns.saturating_sub(width));
        Self { x, y: self.y.min(rows.saturating_sub(height)), width, height }
    }
}

/// How the picture is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct XView {
    /// Index into [`SPANS`].
    span: usize,
    /// Response time at the top; `None` follows the dots.
    top_ns: Option<u64>,
    pub is_logarithmic: bool,
    /// While a choice is made the picture stands still: its latest moment, and its top.
    held: Option<(u64, u64)>,
    pub rectangle: Option<Rectangle>,
    /// Where the mouse was pressed.
    pub pressed: Option<(u16, u16)>,
}

impl Default for XView {
    fn default() -> Self {
        Self {
            span: DEFAULT_SPAN,
            top_ns: None,
            is_logarithmic: false,
            held: None,
            rectangle: None,
            pressed: None,
        }
    }
}

impl XView {
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Has the picture stand still as it is.
    pub fn hold(&mut self, dots: &Dots, now_ns: u64) {
        if self.held.is_none() {
            self.held = Some((now_ns, self.top(dots, now_ns)));
        }
    }

    /// Gives the choice up.
    pub fn release(&mut self) {
        (self.held, self.rectangle, self.pressed) = (None, None, None);
    }

    /// Wider or narrower by so many steps; a choice would not fit any more.
    pub fn widen(&mut self, steps: isize) {
        self.release();
        self.span = self.span.saturating_add_signed(steps).min(SPANS.len() - 1);
    }

    /// A higher or lower top, by so many doublings.
    pub fn raise(&mut self, dots: &Dots, now_ns: u64, steps: isize) {
        let top = self.top(dots, now_ns);
        self.release();
        let top = if steps > 0 { top.saturating_mul(2) } else { top / 2 };
        self.top_ns = Some(top.clamp(LOWEST_TOP_NS, HIGHEST_TOP_NS));
    }

    /// Straight to logarithmic and back; the top follows the dots again.
    pub fn bend(&mut self) {
        self.release();
        self.is_logarithmic = !self.is_logarithmic;
        self.top_ns = None;
    }

    pub fn plot(&self, dots: &Dots, now_ns: u64, columns: u16, rows: u16) -> Plot {
        let (now_ns, top_ns) = self.held.unwrap_or_else(|| (now_ns, self.top(dots, now_ns)));
        let span_ns = self.span_ns();
        Plot { columns, rows, now_ns, span_ns, top_ns, is_logarithmic: self.is_logarithmic }
    }

    fn span_ns(&self) -> u64 {
        SPANS.get(self.span).copied().unwrap_or(SPANS[DEFAULT_SPAN]) * 1_000_000_000
    }

    /// A round figure above nearly all dots. A few far above would press the rest to the floor: they are drawn at the
    /// top instead.
    fn top(&self, dots: &Dots, now_ns: u64) -> u64 {
        if let Some(top_ns) = self.top_ns {
            return top_ns;
        }
        let from = now_ns.saturating_sub(self.span_ns());
        let mut durations: Vec<u64> = dots.between(from, now_ns).map(|point| point.duration_ns).collect();
        let Some(last) = durations.len().checked_sub(1) else { return round_up(LOWEST_TOP_NS) };
        let above = if self.is_logarithmic { 0 } else { last / 200 };
        let (_, highest, _) = durations.select_nth_unstable(last - above);
        round_up(*highest)
    }
}

/// The next of 1, 2, 5, 10, 20 ...
fn round_up(ns: u64) -> u64 {
    let mut decade = LOWEST_TOP_NS;
    loop {
        for step in [1, 2, 5] {
            if decade * step >= ns {
                return decade * step;
            }
        }
        if decade >= HIGHEST_TOP_NS {
            return decade;
        }
        decade *= 10;
    }
}

/// The picture's axes at one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plot {
    pub columns: u16,
    pub rows: u16,
    /// At the right edge.
    pub now_ns: u64,
    pub span_ns: u64,
    pub top_ns: u64,
    pub is_logarithmic: bool,
}

/// Where a dot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub cell: (u16, u16),
    /// Bit of the Braille pattern.
    pub bit: u8,
    /// It would be above the top.
    pub is_above: bool,
}

impl Plot {
    pub fn from_ns(&self) -> u64 {
        self.now_ns.saturating_sub(self.span_ns)
    }

    /// `None` when it is not in the picture.
    pub fn place(&self, point: &Point) -> Option<Place> {
        /// Dots 1 to 8 of a pattern, by column and row.
        const BITS: [[u8; 4]; 2] = [[0, 1, 2, 6], [3, 4, 5, 7]];
        let since = point.ended_ns.checked_sub(self.from_ns())?;
        if point.ended_ns > self.now_ns || self.columns == 0 || self.rows == 0 {
            return None;
        }
        let across = u64::from(self.columns) * ACROSS;
        let x = (u128::from(since) * u128::from(across) / u128::from(self.span_ns.max(1))) as u64;
        let x = x.min(across - 1);
        let down = u64::from(self.rows) * DOWN;
        let height = self.height(point.duration_ns);
        let up = ((height * down as f64) as u64).min(down - 1);
        let y = down - 1 - up;
        let bit = BITS.get((x % ACROSS) as usize)?.get((y % DOWN) as usize)?;
        let cell = ((x / ACROSS) as u16, (y / DOWN) as u16);
        Some(Place { cell, bit: 1 << bit, is_above: point.duration_ns > self.top_ns })
    }

    /// From 0 at the floor to 1 at the top.
    fn height(&self, ns: u64) -> f64 {
        if self.is_logarithmic {
            let (low, high) = ((FLOOR_NS as f64).ln(), (self.top_ns.max(FLOOR_NS * 10) as f64).ln());
            ((ns.max(FLOOR_NS) as f64).ln() - low) / (high - low)
        } else {
            ns as f64 / self.top_ns.max(1) as f64
        }
    }

    /// The response time at the upper edge of a row.
    pub fn at_row(&self, row: u16) -> u64 {
        let height = 1.0 - f64::from(row) / f64::from(self.rows.max(1));
        if self.is_logarithmic {
            let (low, high) = ((FLOOR_NS as f64).ln(), (self.top_ns.max(FLOOR_NS * 10) as f64).ln());
            (low + (high - low) * height).exp() as u64
        } else {
            (self.top_ns as f64 * height) as u64
        }
    }

    /// The dots in this rectangle.
    pub fn chosen<'a>(&self, dots: &'a Dots, rectangle: Rectangle) -> impl Iterator<Item = &'a Point> {
        let plot = *self;
        dots.between(self.from_ns(), self.now_ns)
            .filter(move |point| plot.place(point).is_some_and(|place| rectangle.contains(place.cell)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_000 * SECOND;

    fn point(number: u64, ended_ns: u64, duration_ns: u64) -> Point {
        Point {
            number,
            ended_ns,
            duration_ns,
            name: "GET /".into(),
            status: Some(200),
            is_error: false,
            pid: 1,
            is_whole: false,
        }
    }

    fn dots(points: impl IntoIterator<Item = Point>) -> Dots {
        let mut dots = Dots::default();
        dots.add(Points { points: points.into_iter().collect(), left_out: 0 });
        dots
    }

    #[test]
    fn time_runs_to_the_right_and_response_time_up() {
        let plot = Plot {
            columns: 60,
            rows: 10,
            now_ns: NOW,
            span_ns: 60 * SECOND,
            top_ns: SECOND,
            is_logarithmic: false,
        };
        let cell = |ended, duration| plot.place(&point(1, ended, duration)).map(|place| place.cell);
        assert_eq!(cell(NOW, 0), Some((59, 9)));
        assert_eq!(cell(NOW - 60 * SECOND, 0), Some((0, 9)));
        assert_eq!(cell(NOW - 30 * SECOND, SECOND / 2), Some((30, 4)));
        assert_eq!(cell(NOW - 30 * SECOND, SECOND), Some((30, 0)));
        assert_eq!(cell(NOW - 61 * SECOND, 0), None);
        assert_eq!(cell(NOW + 1, 0), None);
        let above = plot.place(&point(1, NOW, u64::MAX)).unwrap();
        assert_eq!((above.cell, above.is_above), ((59, 0), true));
        assert_eq!(plot.at_row(0), SECOND);
        assert_eq!(plot.at_row(5), SECOND / 2);
    }

    #[test]
    fn every_place_is_in_the_picture_at_every_size() {
        for (columns, rows) in [(1, 1), (7, 3), (300, 80)] {
            for is_logarithmic in [false, true] {
                for top_ns in [LOWEST_TOP_NS, 77 * SECOND] {
                    let plot =
                        Plot { columns, rows, now_ns: NOW, span_ns: 10 * SECOND, top_ns, is_logarithmic };
                    for ended in [NOW - 10 * SECOND, NOW - 1, NOW] {
                        for duration in [0, 1, FLOOR_NS, top_ns - 1, top_ns, top_ns + 1, u64::MAX] {
                            let (x, y) = plot.place(&point(1, ended, duration)).unwrap().cell;
                            assert!(x < columns && y < rows, "{x} {y} of {columns}x{rows}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_top_follows_the_dots_and_not_a_few_far_above() {
        let mut xview = XView::default();
        let many = (0..1_000).map(|number| point(number, NOW - number, 30_000_000));
        let dots = dots(many.chain([point(2_000, NOW, 60 * SECOND)]));
        assert_eq!(xview.plot(&dots, NOW, 10, 10).top_ns, 50_000_000);
        xview.bend();
        assert_eq!(xview.plot(&dots, NOW, 10, 10).top_ns, 100 * SECOND);
        xview.raise(&dots, NOW, -1);
        assert_eq!(xview.plot(&dots, NOW, 10, 10).top_ns, 50 * SECOND);
        assert_eq!(XView::default().plot(&Dots::default(), NOW, 10, 10).top_ns, LOWEST_TOP_NS);
    }

    #[test]
    fn while_a_choice_is_made_the_picture_stands_still() {
        let mut xview = XView::default();
        let mut dots = dots([point(1, NOW, SECOND)]);
        xview.hold(&dots, NOW);
        let before = xview.plot(&dots, NOW, 10, 10);
        dots.add(Points { points: vec![point(2, NOW + SECOND, 90 * SECOND)], left_out: 0 });
        assert_eq!(xview.plot(&dots, NOW + SECOND, 10, 10), before);
        xview.release();
        assert_ne!(xview.plot(&dots, NOW + SECOND, 10, 10), before);
    }

    #[test]
    fn a_rectangle_has_the_dots_that_are_drawn_in_it() {
        let xview = XView::default();
        let dots = dots((0..60).map(|second| point(second, NOW - second * SECOND, second * 10_000_000)));
        let plot = xview.plot(&dots, NOW, 120, 40);
        let all = Rectangle { x: 0, y: 0, width: 120, height: 40 };
        assert_eq!(plot.chosen(&dots, all).count(), 60);
        let left = Rectangle { width: 60, ..all };
        let right = Rectangle { x: 60, ..all };
        assert_eq!(plot.chosen(&dots, left).count() + plot.chosen(&dots, right.within(120, 40)).count(), 60);
        assert_eq!(Rectangle::between((5, 9), (2, 3)), Rectangle { x: 2, y: 3, width: 4, height: 7 });
        let outside = Rectangle { x: 200, y: 90, width: 500, height: 2 };
        assert_eq!(outside.within(50, 20), Rectangle { x: 0, y: 18, width: 50, height: 2 });
    }

    #[test]
    fn dots_have_a_bound() {
        let mut dots = Dots::default();
        for round in 0..15 {
            let points = (0..10_000).map(|number| point(round * 10_000 + number, NOW, 1)).collect();
            dots.add(Points { points, left_out: 0 });
        }
        assert_eq!(dots.between(0, NOW).count(), MOST);
        assert_eq!(dots.between(0, NOW).last().unwrap().number, 149_999);
    }
}
