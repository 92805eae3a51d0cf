//! `(state, message) -> state + effect`. Pure: no terminal, no clock, no channel; the loop carries the
//! effect out.

use crate::keys::Action;
use crate::state::{Overlay, Panel, Selection, State, Table, key};
use pyapm_model::snapshot::Snapshot;
use std::sync::Arc;

/// A filter longer than this finds nothing anyway.
const FILTER_BOUND: usize = 200;

#[derive(Clone, Debug)]
pub enum Message {
    Action(Action),
    Snapshot(Arc<Snapshot>),
    SourceEnded,
    /// One more second has passed.
    Second,
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
        Message::Snapshot(snapshot) => {
            state.silent_seconds = 0;
            if state.paused {
                state.held = Some(snapshot);
            } else {
                state.snapshot = Some(snapshot);
                state.refresh();
            }
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
    }
}

fn act(state: &mut State, action: Action) -> Effect {
    match action {
        Action::Quit => return Effect::Quit,
        Action::Back => {
            if state.overlay.take().is_none() {
                if state.filter.is_empty() {
                    return Effect::Quit;
                }
                state.filter.clear();
                state.refresh();
            }
        }
        Action::Help => toggle(state, Overlay::Help),
        Action::Losses => toggle(state, Overlay::Losses),
        Action::Details => details(state),
        Action::NextPanel => focus(state, (state.focus.index() + 1) % Panel::ALL.len()),
        Action::PreviousPanel => {
            focus(state, (state.focus.index() + Panel::ALL.len() - 1) % Panel::ALL.len())
        }
        Action::Focus(panel) => focus(state, panel.index()),
        Action::Move(by) => match state.overlay {
            Some(Overlay::Help | Overlay::Losses) => {
                state.overlay_scroll = state.overlay_scroll.saturating_add_signed(by);
            }
            _ => {
                select(state, |position, _| position.map_or(0, |position| position.saturating_add_signed(by)))
            }
        },
        Action::First => select(state, |_, _| 0),
        Action::Last => select(state, |_, last| last),
        Action::Sort => {
            let panel = state.focus;
            let table = state.table_mut(panel);
            table.sort = (table.sort + 1) % panel.sorts().len();
            state.refresh();
        }
        Action::Pause => pause(state),
        Action::Filter => {
            state.overlay = None;
            state.filter_before = Some(state.filter.clone());
            if !State::filters(state.focus) {
                state.focus = Panel::Routes;
            }
        }
        Action::Reset => {
            state.filter.clear();
            state.tables = Default::default();
            state.refresh();
        }
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

fn toggle(state: &mut State, overlay: Overlay) {
    state.overlay = if state.overlay == Some(overlay) { None } else { Some(overlay) };
    state.overlay_scroll = 0;
}

/// Details need a row: the first one, when none is selected yet.
fn details(state: &mut State) {
    if state.table(state.focus).selection.is_none() {
        select(state, |_, _| 0);
    }
    if state.overlay == Some(Overlay::Details) || state.selected(state.focus).is_some() {
        toggle(state, Overlay::Details);
    }
}

fn focus(state: &mut State, index: usize) {
    state.focus = Panel::ALL[index];
    // The details are those of the focused panel, which may have no selection.
    if state.overlay == Some(Overlay::Details) {
        state.overlay = None;
    }
}

/// Moves the selection of the focused panel to where `target` says, given the present and the last position.
fn select(state: &mut State, target: impl FnOnce(Option<usize>, usize) -> usize) {
    let panel = state.focus;
    let Some(snapshot) = state.snapshot.clone() else { return };
    let table: &mut Table = state.table_mut(panel);
    let Some(last) = table.order.len().checked_sub(1) else {
        table.selection = None;
        return;
    };
    let present = table.selection.as_ref().map(|selection| selection.position);
    let position = target(present, last).min(last);
    table.selection = Some(Selection { key: key(&snapshot, panel, table.order[position]), position });
}

fn pause(state: &mut State) {
    state.paused = !state.paused;
    if !state.paused
        && let Some(held) = state.held.take()
    {
        state.snapshot = Some(held);
        state.refresh();
    }
}
