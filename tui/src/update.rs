//! `(state, message) -> state + effect`. Pure: no terminal, no clock, no channel; the loop carries the
//! effect out.

use crate::keys::{Action, KEYS};
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
            focus(state, (state.focus.index() + Panel::ALL.len() - 1) % Panel::ALL.len());
        }
        Action::Focus(panel) => focus(state, panel.index()),
        Action::Move(by) => match state.overlay {
            Some(Overlay::Help | Overlay::Losses) => {
                state.overlay_scroll =
                    state.overlay_scroll.saturating_add_signed(by).min(overlay_lines(state));
            }
            _ => {
                select(state, |position, _| {
                    position.map_or(0, |position| position.saturating_add_signed(by))
                });
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

/// About as many lines as the overlay has: scrolling ends there, or it would take as many presses to return.
fn overlay_lines(state: &State) -> usize {
    match (state.overlay, &state.snapshot) {
        (Some(Overlay::Help), _) => KEYS.len(),
        (Some(Overlay::Losses), Some(snapshot)) => {
            snapshot.losses.dropped.len() + snapshot.losses.incomplete.len()
        }
        _ => 0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::state::{Mode, Sort};
    use pyapm_model::snapshot::Route;

    fn shown(snapshot: Snapshot) -> State {
        let mut state = State::default();
        assert_eq!(update(&mut state, Message::Snapshot(Arc::new(snapshot))), Effect::Draw);
        state
    }

    fn press(state: &mut State, actions: &[Action]) -> Effect {
        actions.iter().map(|action| update(state, Message::Action(*action))).last().unwrap()
    }

    fn names(state: &State) -> Vec<String> {
        let snapshot = state.snapshot.as_ref().unwrap();
        state.table(Panel::Routes).order.iter().map(|&index| snapshot.routes[index].name.clone()).collect()
    }

    fn selected(state: &State) -> Option<String> {
        let index = state.selected(state.focus)?;
        Some(key(state.snapshot.as_ref().unwrap(), state.focus, index))
    }

    #[test]
    fn quit_quits_and_escape_first_closes_what_is_open() {
        let mut state = shown(fixture::shop());
        assert_eq!(press(&mut state, &[Action::Quit]), Effect::Quit);
        press(&mut state, &[Action::Filter, Action::Type('a'), Action::Accept, Action::Help]);
        assert_eq!(press(&mut state, &[Action::Back]), Effect::Draw);
        assert_eq!((state.overlay, state.filter.as_str()), (None, "a"));
        assert_eq!(press(&mut state, &[Action::Back]), Effect::Draw);
        assert_eq!(state.filter, "");
        assert_eq!(press(&mut state, &[Action::Back]), Effect::Quit);
    }

    #[test]
    fn the_selection_follows_its_row_when_rows_move() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Move(1), Action::Move(2)]);
        let row = selected(&state).unwrap();
        let mut moved = fixture::shop();
        moved.routes.reverse();
        for (index, route) in moved.routes.iter_mut().enumerate() {
            route.total_ns = 1_000 - index as u64;
        }
        update(&mut state, Message::Snapshot(Arc::new(moved)));
        assert_eq!(selected(&state), Some(row));
    }

    #[test]
    fn a_selected_row_that_leaves_is_not_replaced_by_its_neighbour() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Last]);
        let row = selected(&state).unwrap();
        let mut fewer = fixture::shop();
        fewer.routes.retain(|route| route.name != row);
        update(&mut state, Message::Snapshot(Arc::new(fewer)));
        assert_eq!(selected(&state), None);
        update(&mut state, Message::Snapshot(Arc::new(fixture::shop())));
        assert_eq!(selected(&state), Some(row));
    }

    #[test]
    fn moving_stays_within_the_table() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Move(-5)]);
        assert_eq!(state.table(Panel::Routes).selection.as_ref().unwrap().position, 0);
        press(&mut state, &[Action::Move(500)]);
        assert_eq!(state.table(Panel::Routes).selection.as_ref().unwrap().position, 11);
        let mut empty = shown(Snapshot::default());
        press(&mut empty, &[Action::Move(1), Action::Last, Action::Details]);
        assert_eq!((empty.table(Panel::Routes).selection.clone(), empty.overlay), (None, None));
    }

    #[test]
    fn sorting_goes_through_every_column_and_comes_back() {
        let mut state = shown(fixture::shop());
        let default = names(&state);
        for expected in Panel::Routes.sorts().iter().skip(1) {
            press(&mut state, &[Action::Sort]);
            assert_eq!(state.sort(Panel::Routes), *expected);
        }
        assert_eq!(state.sort(Panel::Routes), Sort::Name);
        assert!(names(&state).is_sorted());
        press(&mut state, &[Action::Sort]);
        assert_eq!(names(&state), default);
    }

    #[test]
    fn by_errors_the_worst_route_is_first_and_equal_ones_keep_their_order() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Sort, Action::Sort]);
        assert_eq!(state.sort(Panel::Routes), Sort::Errors);
        assert_eq!(names(&state)[..2], ["POST /checkout", "GET /boom"]);
        let without: Vec<String> = fixture::shop()
            .routes
            .into_iter()
            .filter(|route| route.errors == 0)
            .map(|route| route.name)
            .collect();
        assert!(names(&state).ends_with(&without));
    }

    #[test]
    fn unknown_figures_sort_last() {
        let mut state = shown(fixture::shop());
        state.focus = Panel::Workers;
        press(&mut state, &[Action::Sort, Action::Sort, Action::Sort]);
        assert_eq!(state.sort(Panel::Workers), Sort::Cpu);
        let last = *state.table(Panel::Workers).order.last().unwrap();
        assert_eq!(state.snapshot.as_ref().unwrap().workers[last].cpu_cores, None);
    }

    #[test]
    fn the_filter_narrows_routes_and_statements_without_regard_to_case() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Focus(Panel::Workers), Action::Filter]);
        assert_eq!((state.mode(), state.focus), (Mode::Filter, Panel::Routes));
        press(&mut state, &"users".chars().map(Action::Type).collect::<Vec<_>>());
        assert_eq!(names(&state), ["GET /users/{id}"]);
        assert_eq!(state.table(Panel::Statements).order.len(), 1);
        assert_eq!(state.table(Panel::Workers).order.len(), 5);
        press(&mut state, &[Action::Erase, Action::Accept]);
        assert_eq!((state.mode(), state.filter.as_str()), (Mode::Normal, "user"));
        press(&mut state, &[Action::Filter, Action::Type('x'), Action::Cancel]);
        assert_eq!((state.mode(), state.filter.as_str()), (Mode::Normal, "user"));
    }

    #[test]
    fn a_filter_cannot_grow_without_bound() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Filter]);
        for _ in 0..1_000 {
            press(&mut state, &[Action::Type('订')]);
        }
        assert!(state.filter.len() < FILTER_BOUND + 4);
    }

    #[test]
    fn paused_figures_stand_still_and_the_newest_ones_come_back() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::Pause]);
        for number in 1..4 {
            let mut newer = fixture::shop();
            newer.routes = vec![Route { name: format!("GET /{number}"), ..Route::default() }];
            update(&mut state, Message::Snapshot(Arc::new(newer)));
            assert_eq!(names(&state).len(), 12);
        }
        press(&mut state, &[Action::Pause]);
        assert_eq!(names(&state), ["GET /3"]);
        assert!(state.held.is_none());
    }

    #[test]
    fn reset_drops_selection_order_and_filter() {
        let mut state = shown(fixture::shop());
        let default = names(&state);
        press(&mut state, &[Action::Filter, Action::Type('c'), Action::Accept, Action::Sort, Action::Last]);
        press(&mut state, &[Action::Reset]);
        assert_eq!(
            (names(&state), state.selected(Panel::Routes), state.filter.as_str()),
            (default, None, "")
        );
    }

    #[test]
    fn panels_go_round_both_ways() {
        let mut state = shown(fixture::shop());
        press(&mut state, &[Action::PreviousPanel]);
        assert_eq!(state.focus, Panel::Workers);
        press(&mut state, &[Action::NextPanel, Action::NextPanel]);
        assert_eq!(state.focus, Panel::Active);
    }

    #[test]
    fn seconds_draw_only_where_they_are_shown() {
        let mut state = State::default();
        assert_eq!(update(&mut state, Message::Second), Effect::Draw);
        let mut state = shown(fixture::shop());
        assert_eq!(update(&mut state, Message::Second), Effect::Nothing);
        for _ in 0..5 {
            update(&mut state, Message::Second);
        }
        assert_eq!(update(&mut state, Message::Second), Effect::Draw);
        update(&mut state, Message::Snapshot(Arc::new(fixture::shop())));
        assert!(!state.is_stale());
    }

    #[test]
    fn overlays_scroll_no_further_than_their_end() {
        let mut state = shown(fixture::lossy());
        press(&mut state, &[Action::Losses]);
        for _ in 0..100 {
            press(&mut state, &[Action::Move(1)]);
        }
        assert!(state.overlay_scroll <= 3);
        assert!(state.table(Panel::Routes).selection.is_none());
    }
}
