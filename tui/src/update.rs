//! `(state, message) -> state + effect`. Pure: no terminal, no clock, no channel; the loop carries the
//! effect out, and asks the source what the state wants asked.

mod into;
mod picture;

#[cfg(test)]
mod tests;

use crate::keys::Action;
use crate::source::Delivery;
use crate::state::{Asked, Overlay, Panel, Screen, Selection, State, Table, key};
use crate::view;
use pyapm_model::recent::Point;
use std::sync::Arc;

/// A filter longer than this finds nothing anyway.
const FILTER_BOUND: usize = 200;
/// Screens that are remembered on the way into something.
const WAY_BOUND: usize = 50;

#[derive(Clone, Debug)]
pub enum Message {
    Action(Action),
    Mouse(Mouse),
    Delivery(Delivery),
    SourceEnded,
    /// One more second has passed.
    Second,
    /// The terminal has so many columns and lines.
    Size(u16, u16),
}

/// What the mouse did, at a column and a line of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mouse {
    Pressed(u16, u16),
    Dragged(u16, u16),
    Released(u16, u16),
}

/// What the loop is to do; the larger one wins when several meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Nothing,
    Draw,
    Quit,
}

pub fn update(state: &mut State, message: Message) -> Effect {
    match message {
        Message::Action(action) => act(state, action),
        Message::Mouse(mouse) => picture::mouse(state, mouse),
        Message::Delivery(delivery) => {
            deliver(state, delivery);
            Effect::Draw
        }
        Message::SourceEnded => {
            state.ended = true;
            Effect::Draw
        }
        Message::Second => {
            state.silent_seconds = state.silent_seconds.saturating_add(1);
            // Only these screens count seconds.
            if state.is_stale() || state.snapshot.is_none() { Effect::Draw } else { Effect::Nothing }
        }
        Message::Size(columns, lines) => {
            state.size = (columns, lines);
            Effect::Draw
        }
    }
}

fn deliver(state: &mut State, delivery: Delivery) {
    match delivery {
        Delivery::Applications(mut applications) => {
            state.silent_seconds = 0;
            applications.sort_by_key(|one| one.info.id);
            if !state.paused {
                state.applications = Arc::new(applications);
            }
            if state.snapshot.is_none() && state.application_is_open() {
                // Nobody has said which: the list is where to.
                state.screen = Screen::Applications;
            }
            state.refresh();
        }
        Delivery::Snapshot { application, snapshot } => {
            state.silent_seconds = 0;
            if state.wanted.is_some_and(|wanted| wanted != application) {
                return;
            }
            state.wanted = Some(application);
            state.application = application;
            if state.paused {
                state.held = Some(snapshot);
            } else {
                state.snapshot = Some(snapshot);
                into::follow(state);
                state.refresh();
            }
        }
        Delivery::Points { application, points } => {
            if state.wanted == Some(application) {
                state.dots.add(points);
            }
        }
        Delivery::Transaction { application, number, transaction } => {
            if let Some(opened) = &mut state.opened
                && (opened.application, opened.point.number) == (application, number)
            {
                opened.whole = transaction.map_or(Asked::Gone, Asked::Here);
            }
        }
    }
}

fn act(state: &mut State, action: Action) -> Effect {
    match action {
        Action::Quit => return Effect::Quit,
        Action::Back => return back(state),
        Action::Help => toggle(state, Overlay::Help),
        Action::Health => toggle(state, Overlay::Health),
        Action::Details => details(state),
        Action::Enter => into::enter(state),
        Action::UnfoldAll => into::unfold_all(state),
        Action::Next => next(state, 1),
        Action::Previous => next(state, -1),
        Action::Screen(screen) => go(state, screen),
        Action::Move(by) => match (state.overlay, state.screen.is_document()) {
            (Some(Overlay::Help | Overlay::Health), _) => {
                // It ends where the text does, or it would take as many presses to return.
                let last = view::overlay_hidden(state);
                state.overlay_scroll = state.overlay_scroll.saturating_add_signed(by).min(last);
            }
            (_, true) => read(state, |line, _| line.saturating_add_signed(by)),
            (_, false) => {
                select(state, |position, _| {
                    position.map_or(0, |position| position.saturating_add_signed(by))
                });
            }
        },
        Action::First if state.screen.is_document() => read(state, |_, _| 0),
        Action::First => select(state, |_, _| 0),
        Action::Last if state.screen.is_document() => read(state, |_, last| last),
        Action::Last => select(state, |_, last| last),
        Action::Sort => {
            let panel = state.panel();
            let table = state.table_mut(panel);
            table.sort = (table.sort + 1) % panel.sorts().len();
            state.refresh();
        }
        Action::Pause => pause(state),
        Action::Filter => {
            state.overlay = None;
            state.filter_before = Some(state.filter.clone());
            if state.screen == Screen::Overview && !State::filters(state.focus) {
                state.focus = Panel::Routes;
            }
        }
        Action::Reset => {
            state.filter.clear();
            state.tables = Default::default();
            state.xview = Default::default();
            state.flame = Default::default();
            state.refresh();
        }
        Action::Push(..)
        | Action::Stretch(..)
        | Action::StretchAll
        | Action::Widen(_)
        | Action::Raise(_)
        | Action::Bend
        | Action::Step(_) => picture::act(state, action),
        Action::Type(character) => {
            if !character.is_control() && state.filter.len() < FILTER_BOUND {
                state.filter.push(character);
                state.refresh();
            }
        }
        Action::Erase => {
            state.filter.pop();
            state.refresh();
        }
        Action::Accept => state.filter_before = None,
        Action::Cancel => {
            state.filter = state.filter_before.take().unwrap_or_default();
            state.refresh();
        }
    }
    Effect::Draw
}

/// One step out: of what lies over the screen, of what is chosen on it, of the screen; at last of the view.
fn back(state: &mut State) -> Effect {
    if state.overlay.take().is_some() {
        return Effect::Draw;
    }
    if state.screen == Screen::XView && state.xview.is_held() {
        state.xview.release();
    } else if state.screen == Screen::Flame && state.flame.unzoom() {
    } else if !state.filter.is_empty() {
        state.filter.clear();
        state.refresh();
    } else if let Some(before) = state.before.pop() {
        leave(state);
        state.screen = before;
        state.refresh();
    } else if state.screen != Screen::Overview && state.snapshot.is_some() {
        go(state, Screen::Overview);
    } else {
        return Effect::Quit;
    }
    Effect::Draw
}

/// To a screen of the line of screens: whatever was gone into is left.
fn go(state: &mut State, screen: Screen) {
    leave(state);
    state.before.clear();
    state.screen = screen;
    state.refresh();
}

/// Into something, with a way back.
fn descend(state: &mut State, screen: Screen) {
    state.overlay = None;
    state.filter.clear();
    if state.before.len() < WAY_BOUND {
        state.before.push(state.screen);
    }
    state.screen = screen;
    state.reading = Default::default();
    state.refresh();
}

fn leave(state: &mut State) {
    state.overlay = None;
    match state.screen {
        Screen::XView => state.xview.release(),
        Screen::Transaction => state.opened = None,
        Screen::InFlight => state.in_flight = None,
        Screen::Failure => state.failure = None,
        Screen::Worker => state.worker = None,
        _ => {}
    }
}

fn next(state: &mut State, by: isize) {
    if state.screen == Screen::Overview {
        let count = Panel::OVERVIEW.len();
        let index = (state.focus.index() + count).saturating_add_signed(by) % count;
        focus(state, Panel::OVERVIEW[index]);
        return;
    }
    let count = Screen::TABS.len();
    let first = state.before.first().copied().unwrap_or(state.screen);
    let index = Screen::TABS.iter().position(|tab| *tab == first).unwrap_or(0);
    go(state, Screen::TABS[(index + count).saturating_add_signed(by) % count]);
}

fn toggle(state: &mut State, overlay: Overlay) {
    state.overlay = if state.overlay == Some(overlay) { None } else { Some(overlay) };
    state.overlay_scroll = 0;
}

/// Details need a row: the first one, when none is selected yet.
fn details(state: &mut State) {
    let panel = state.panel();
    if state.table(panel).selection.is_none() {
        select(state, |_, _| 0);
    }
    if state.overlay == Some(Overlay::Details) || state.selected(panel).is_some() {
        toggle(state, Overlay::Details);
    }
}

fn focus(state: &mut State, panel: Panel) {
    state.focus = panel;
    // The details are those of the focused panel, which may have no selection.
    if state.overlay == Some(Overlay::Details) {
        state.overlay = None;
    }
}

/// Moves the selection of the panel that has the keys to where `target` says, given the present and the last position.
fn select(state: &mut State, target: impl FnOnce(Option<usize>, usize) -> usize) {
    let panel = state.panel();
    let shown = state.shown();
    let table: &mut Table = state.table_mut(panel);
    let Some(last) = table.order.len().checked_sub(1) else {
        table.selection = None;
        return;
    };
    let present = table.selection.as_ref().map(|selection| selection.position);
    let position = target(present, last).min(last);
    table.selection = Some(Selection { key: key(&shown, panel, table.order[position]), position });
}

/// Moves the cursor of the document to where `target` says, given its present and last line.
fn read(state: &mut State, target: impl FnOnce(usize, usize) -> usize) {
    let last = view::document_lines(state).saturating_sub(1);
    state.reading.line = target(state.reading.line.min(last), last).min(last);
}

fn pause(state: &mut State) {
    state.paused = !state.paused;
    if !state.paused
        && let Some(held) = state.held.take()
    {
        state.snapshot = Some(held);
        into::follow(state);
        state.refresh();
    }
}

/// Opens the list of these transactions.
fn list(state: &mut State, points: Vec<Point>, chosen_by: String) {
    state.chosen = Arc::new(points);
    state.chosen_by = chosen_by;
    *state.table_mut(Panel::Transactions) = Table::default();
    descend(state, Screen::Transactions);
    select(state, |_, _| 0);
}
