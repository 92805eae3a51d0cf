//! The two pictures, X-View and flame graph, by keyboard and by mouse.

use super::{Effect, Mouse, list};
use crate::format;
use crate::keys::Action;
use crate::state::{Rectangle, Screen, State};
use crate::view;
use ratatui::layout::Rect;

/// The rectangle that one begins with, in cells.
const BEGIN: (u16, u16) = (12, 5);
/// Around a place that was clicked on.
const AROUND: u16 = 1;

pub(super) fn act(state: &mut State, action: Action) {
    let now = state.now_ns();
    match action {
        Action::Push(right, down) => reshape(state, |at| Rectangle {
            x: at.x.saturating_add_signed(right),
            y: at.y.saturating_add_signed(down),
            ..at
        }),
        Action::Stretch(right, down) => reshape(state, |at| Rectangle {
            width: at.width.saturating_add_signed(right),
            height: at.height.saturating_add_signed(down),
            ..at
        }),
        Action::StretchAll => {
            reshape(state, |at| at);
            let whole = Rectangle { x: 0, y: 0, width: u16::MAX, height: u16::MAX };
            reshape(state, |_| whole);
        }
        Action::Widen(steps) => state.xview.widen(steps),
        Action::Raise(steps) => state.xview.raise(&state.dots, now, steps),
        Action::Bend => state.xview.bend(),
        Action::Step(step) => {
            if let Some(snapshot) = state.snapshot.clone() {
                state.flame.step(&snapshot.tree, step);
            }
        }
        _ => {}
    }
}

/// Changes the rectangle; the first time, it appears in the middle.
fn reshape(state: &mut State, change: impl FnOnce(Rectangle) -> Rectangle) {
    let plot = view::xview_plot(state);
    state.xview.hold(&state.dots, state.now_ns());
    let next = match state.xview.rectangle {
        Some(at) => change(at),
        None => Rectangle {
            x: plot.width.saturating_sub(BEGIN.0) / 2,
            y: plot.height.saturating_sub(BEGIN.1) / 2,
            width: BEGIN.0,
            height: BEGIN.1,
        },
    };
    state.xview.rectangle = Some(next.within(plot.width, plot.height));
}

/// The dots in the rectangle become a list.
pub(super) fn choose(state: &mut State) {
    let place = view::xview_plot(state);
    let Some(rectangle) = state.xview.rectangle else {
        // There is something to move from now on.
        return reshape(state, |at| at);
    };
    let rectangle = rectangle.within(place.width, place.height);
    let plot = state.plot(place.width, place.height);
    let points: Vec<_> = plot.chosen(&state.dots, rectangle).cloned().collect();
    if points.is_empty() {
        return;
    }
    let (slowest, fastest) = (
        points.iter().map(|point| point.duration_ns).max().unwrap_or_default(),
        points.iter().map(|point| point.duration_ns).min().unwrap_or_default(),
    );
    let chosen_by = format!("{} to {}", format::duration(fastest), format::duration(slowest));
    list(state, points, chosen_by);
}

pub(super) fn mouse(state: &mut State, mouse: Mouse) -> Effect {
    if state.overlay.is_some() {
        return Effect::Nothing;
    }
    match state.screen {
        Screen::XView => draw_rectangle(state, mouse),
        Screen::Flame => click_flame(state, mouse),
        _ => Effect::Nothing,
    }
}

fn draw_rectangle(state: &mut State, mouse: Mouse) -> Effect {
    let place = view::xview_plot(state);
    match (mouse, state.xview.pressed) {
        (Mouse::Pressed(x, y), _) => {
            let Some(cell) = cell(place, x, y) else { return Effect::Nothing };
            state.xview.release();
            state.xview.hold(&state.dots, state.now_ns());
            state.xview.pressed = Some(cell);
            state.xview.rectangle = Some(Rectangle::between(cell, cell));
        }
        (Mouse::Dragged(x, y), Some(from)) => {
            state.xview.rectangle = Some(Rectangle::between(from, nearest(place, x, y)));
        }
        (Mouse::Released(x, y), Some(from)) => {
            let to = nearest(place, x, y);
            state.xview.pressed = None;
            state.xview.rectangle = Some(if to == from {
                let low = (from.0.saturating_sub(AROUND), from.1.saturating_sub(AROUND));
                Rectangle::between(low, (from.0 + AROUND, from.1 + AROUND)).within(place.width, place.height)
            } else {
                Rectangle::between(from, to)
            });
            choose(state);
        }
        _ => return Effect::Nothing,
    }
    Effect::Draw
}

fn click_flame(state: &mut State, mouse: Mouse) -> Effect {
    let Mouse::Pressed(x, y) = mouse else { return Effect::Nothing };
    let Some(snapshot) = state.snapshot.clone() else { return Effect::Nothing };
    let Some(node) = view::flame_node_at(state, x, y) else { return Effect::Nothing };
    if state.flame.selected(&snapshot.tree) == Some(node) {
        state.flame.zoom();
    } else {
        state.flame.select(&snapshot.tree, node);
    }
    Effect::Draw
}

/// The cell of the picture at this place of the terminal.
fn cell(place: Rect, x: u16, y: u16) -> Option<(u16, u16)> {
    place.contains((x, y).into()).then(|| (x - place.x, y - place.y))
}

/// The nearest one: who drags past the edge means the edge.
fn nearest(place: Rect, x: u16, y: u16) -> (u16, u16) {
    let within =
        |value: u16, first: u16, length: u16| value.saturating_sub(first).min(length.saturating_sub(1));
    (within(x, place.x, place.width), within(y, place.y, place.height))
}
