//! The flame graph, hanging from the top: each function as wide as its share of the samples, what it calls below it.

use crate::format;
use crate::state::{State, children};
use crate::theme::{Flame, Theme};
use pyapm_model::snapshot::CallTree;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// Lines above the boxes, and below for the selected one.
const TITLE: u16 = 1;
const FOOT: u16 = 2;

/// Where the boxes are.
pub(super) fn place(area: Rect) -> Rect {
    Rect { y: area.y + TITLE.min(area.height), height: area.height.saturating_sub(TITLE + FOOT), ..area }
}

/// One function, where it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Box {
    /// In the tree.
    pub(super) node: usize,
    pub(super) row: u16,
    pub(super) x: u16,
    pub(super) width: u16,
}

/// The boxes that are at least one column wide: no more than there are cells. `zoomed` fills the width, with its callers
/// as lines above it.
pub(super) fn boxes(tree: &CallTree, zoomed: Option<usize>, width: u16, rows: u16) -> Vec<Box> {
    let mut boxes = Vec::new();
    let mut open: Vec<Box> = Vec::new();
    let all = match zoomed {
        Some(node) => tree.nodes.get(node).map_or(0, |node| node.samples),
        None => children(tree, None)
            .filter_map(|node| tree.nodes.get(node))
            .fold(0_u64, |sum, node| sum.saturating_add(node.samples)),
    };
    match zoomed {
        Some(node) => open.push(Box { node, row: 0, x: 0, width }),
        None => below(tree, None, (all, 0, width), 0, &mut open),
    }
    while let Some(one) = open.pop() {
        if one.row >= rows {
            continue;
        }
        boxes.push(one);
        let samples = tree.nodes.get(one.node).map_or(0, |node| node.samples);
        below(tree, Some(one.node), (samples, one.x, one.width), one.row + 1, &mut open);
    }
    boxes
}

/// Shares the width of a caller out, by running sums.
fn below(
    tree: &CallTree,
    caller: Option<usize>,
    (samples, x, width): (u64, u16, u16),
    row: u16,
    open: &mut Vec<Box>,
) {
    let mut upto = 0_u64;
    for node in children(tree, caller) {
        let Some(its) = tree.nodes.get(node) else { continue };
        let at = |count: u64| {
            let share = u128::from(count.min(samples)) * u128::from(width) / u128::from(samples.max(1));
            share as u16
        };
        let start = at(upto);
        upto = upto.saturating_add(its.samples);
        let width = at(upto) - start;
        if width > 0 {
            open.push(Box { node, row, x: x + start, width });
        }
    }
}

pub(super) fn node_at(state: &State, place: Rect, x: u16, y: u16) -> Option<usize> {
    let tree = &state.snapshot.as_ref()?.tree;
    if !place.contains((x, y).into()) {
        return None;
    }
    let (x, row) = (x - place.x, y - place.y);
    let boxes = boxes(tree, state.flame.zoomed(tree), place.width, place.height);
    let hit = boxes.iter().find(|one| one.row == row && (one.x..one.x + one.width).contains(&x));
    hit.map(|hit| hit.node)
}

pub(super) fn draw(state: &State, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let Some(snapshot) = &state.snapshot else { return };
    let tree = &snapshot.tree;
    let width = usize::from(area.width);
    buffer.set_line(area.x, area.y, &title(state, tree, theme, width), area.width);
    let place = place(area);
    let (zoomed, selected) = (state.flame.zoomed(tree), state.flame.selected(tree));
    let filter = state.filter.to_lowercase();
    for one in boxes(tree, zoomed, place.width, place.height) {
        let Some(node) = tree.nodes.get(one.node) else { continue };
        let kind = if selected == Some(one.node) {
            Flame::Selected
        } else if !filter.is_empty() && node.function.to_lowercase().contains(&filter) {
            Flame::Found
        } else if node.is_application {
            Flame::Application
        } else {
            Flame::Library
        };
        let style = theme.flame(&node.function, kind);
        // A blank at the right edge tells it from its neighbour.
        let room = usize::from(one.width).saturating_sub(1);
        let mut text = format::left(&format::clean(&node.function), room);
        text.push(if room == 0 { '▏' } else { ' ' });
        buffer.set_string(place.x + one.x, place.y + one.row, &text, style);
        if room > 0
            && let Some(edge) = buffer.cell_mut((place.x + one.x + one.width - 1, place.y + one.row))
        {
            edge.set_char('▕').set_style(style);
        }
    }
    let foot = area.bottom().saturating_sub(FOOT);
    for (line, y) in about(state, tree, theme, width).into_iter().zip(foot..area.bottom()) {
        buffer.set_line(area.x, y, &line, area.width);
    }
}

fn title(state: &State, tree: &CallTree, theme: Theme, width: usize) -> Line<'static> {
    let mut text = format!("Flame  {} samples on a CPU", format::grouped(tree.samples));
    if let Some(node) = state.flame.zoomed(tree).and_then(|node| tree.nodes.get(node)) {
        text.push_str(&format!(
            "  in {} {}",
            format::clean(&node.function),
            format::percent_of(node.samples, tree.samples)
        ));
    }
    if !state.filter.is_empty() {
        text.push_str(&format!("  /{}", format::clean(&state.filter)));
    }
    if tree.left_out > 0 {
        text.push_str(&format!("  {} left out", format::grouped(tree.left_out)));
    }
    if tree.nodes.is_empty() {
        text.push_str("  none has met Python code yet");
    }
    Line::from(Span::styled(format::left(&format::fit(&text, width), width), theme.heading_focused()))
}

/// The selected function in full.
fn about(state: &State, tree: &CallTree, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let Some(node) = state.flame.selected(tree).and_then(|node| tree.nodes.get(node)) else {
        return vec![Line::styled("arrows or a click select a function", theme.label())];
    };
    let share = |count: u64| format::percent_of(count, tree.samples);
    let figures = format!(
        "{} samples, {}; itself {}, {}",
        format::grouped(node.samples),
        share(node.samples),
        format::grouped(node.own),
        share(node.own)
    );
    let name = format!("{}  {}", format::clean(&node.function), format::clean(&node.file));
    vec![
        Line::styled(format::fit(&name, width), theme.strong()),
        Line::styled(format::fit(&figures, width), theme.plain()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::snapshot::CallNode;

    fn tree(nodes: &[(u32, u64)]) -> CallTree {
        let nodes = nodes.iter().map(|(depth, samples)| CallNode {
            depth: *depth,
            samples: *samples,
            ..CallNode::default()
        });
        CallTree { samples: 100, left_out: 0, nodes: nodes.collect() }
    }

    #[test]
    fn boxes_lie_within_their_caller_and_never_overlap() {
        let tree = tree(&[(0, 70), (1, 40), (2, 39), (1, 20), (0, 30), (1, 1), (1, 1)]);
        for width in [1, 7, 60, 300] {
            for zoomed in [None, Some(0), Some(4)] {
                let boxes = boxes(&tree, zoomed, width, 20);
                for (index, one) in boxes.iter().enumerate() {
                    assert!(one.width > 0 && one.x + one.width <= width, "{one:?} of {width}");
                    for other in &boxes[index + 1..] {
                        let apart = one.row != other.row
                            || one.x + one.width <= other.x
                            || other.x + other.width <= one.x;
                        assert!(apart, "{one:?} {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn shares_are_widths() {
        let tree = tree(&[(0, 70), (1, 40), (0, 30)]);
        let mut all = boxes(&tree, None, 100, 5);
        all.sort_by_key(|one| one.node);
        let widths: Vec<(u16, u16, u16)> = all.iter().map(|one| (one.row, one.x, one.width)).collect();
        assert_eq!(widths, [(0, 0, 70), (1, 0, 40), (0, 70, 30)]);
        assert_eq!(boxes(&tree, Some(1), 100, 5), [Box { node: 1, row: 0, x: 0, width: 100 }]);
        assert_eq!(boxes(&tree, None, 100, 1).len(), 2);
    }
}
