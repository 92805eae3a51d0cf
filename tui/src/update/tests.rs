//! What each message makes of the state.

use super::*;
use crate::fixture;
use crate::state::{Mode, Sort, Step};
use pyapm_model::service::Ask;
use pyapm_model::snapshot::{Route, Snapshot};

fn delivered(snapshot: Snapshot) -> Message {
    Message::Delivery(Delivery::Snapshot { application: 0, snapshot: Arc::new(snapshot) })
}

fn shown(snapshot: Snapshot) -> State {
    let mut state = State { size: (80, 24), ..State::default() };
    assert_eq!(update(&mut state, delivered(snapshot)), Effect::Draw);
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
    let index = state.selected(state.panel())?;
    Some(key(&state.shown(), state.panel(), index))
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
    update(&mut state, delivered(moved));
    assert_eq!(selected(&state), Some(row));
}

#[test]
fn a_selected_row_that_leaves_is_not_replaced_by_its_neighbour() {
    let mut state = shown(fixture::shop());
    press(&mut state, &[Action::Last]);
    let row = selected(&state).unwrap();
    let mut fewer = fixture::shop();
    fewer.routes.retain(|route| route.name != row);
    update(&mut state, delivered(fewer));
    assert_eq!(selected(&state), None);
    update(&mut state, delivered(fixture::shop()));
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
    press(&mut state, &[Action::Previous, Action::Filter]);
    assert_eq!((state.mode(), state.focus), (Mode::Filter, Panel::Routes));
    press(&mut state, &"users".chars().map(Action::Type).collect::<Vec<_>>());
    assert_eq!(names(&state), ["GET /users/{id}"]);
    assert_eq!(state.table(Panel::Statements).order.len(), 1);
    assert_eq!(state.table(Panel::Workers).order.len(), 5);
    press(&mut state, &[Action::Erase, Action::Accept]);
    assert_eq!((state.mode(), state.filter.as_str()), (Mode::Table, "user"));
    press(&mut state, &[Action::Filter, Action::Type('x'), Action::Cancel]);
    assert_eq!((state.mode(), state.filter.as_str()), (Mode::Table, "user"));
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
        update(&mut state, delivered(newer));
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
    assert_eq!((names(&state), state.selected(Panel::Routes), state.filter.as_str()), (default, None, ""));
}

#[test]
fn panels_go_round_both_ways() {
    let mut state = shown(fixture::shop());
    press(&mut state, &[Action::Previous]);
    assert_eq!(state.focus, Panel::Workers);
    press(&mut state, &[Action::Next, Action::Next]);
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
    update(&mut state, delivered(fixture::shop()));
    assert!(!state.is_stale());
}

#[test]
fn overlays_scroll_no_further_than_their_end() {
    let mut state = shown(fixture::lossy());
    update(&mut state, Message::Size(60, 14));
    press(&mut state, &[Action::Health]);
    for _ in 0..100 {
        press(&mut state, &[Action::Move(1)]);
    }
    let end = state.overlay_scroll;
    assert!((1..30).contains(&end), "{end}");
    press(&mut state, &[Action::Move(1), Action::Move(-1)]);
    assert_eq!(state.overlay_scroll, end - 1);
    assert!(state.table(Panel::Routes).selection.is_none());
}

/// With the dots, too.
fn watched() -> State {
    let mut state = shown(fixture::shop());
    let points = fixture::shop().recent.since(0, 8_000);
    update(&mut state, Message::Delivery(Delivery::Points { application: 0, points }));
    update(&mut state, Message::Delivery(Delivery::Applications(fixture::applications())));
    state
}

#[test]
fn from_a_route_to_its_transactions_to_one_of_them_and_back() {
    let mut state = watched();
    press(&mut state, &[Action::Screen(Screen::Routes), Action::Filter]);
    press(&mut state, &"checkout".chars().map(Action::Type).collect::<Vec<_>>());
    press(&mut state, &[Action::Accept, Action::Enter]);
    assert_eq!((state.screen, state.chosen.len(), state.filter.as_str()), (Screen::Transactions, 500, ""));
    press(&mut state, &[Action::Sort, Action::First, Action::Enter]);
    assert_eq!(state.screen, Screen::Transaction);
    let number = fixture::WHOLE;
    assert_eq!(state.asks, [Ask::Transaction { application: 0, number }]);
    let answer = |number, transaction| {
        Message::Delivery(Delivery::Transaction { application: 0, number, transaction })
    };
    // An answer to what was asked before is no answer to this.
    update(&mut state, answer(1, None));
    assert_eq!(state.opened.as_ref().unwrap().whole, Asked::Waiting);
    let whole = fixture::shop().recent.whole(number).cloned();
    update(&mut state, answer(number, whole.clone()));
    assert_eq!(state.opened.as_ref().unwrap().whole, Asked::Here(whole.unwrap()));
    press(&mut state, &[Action::UnfoldAll]);
    assert_eq!(state.reading.unfolded.len(), 9);
    press(&mut state, &[Action::UnfoldAll, Action::Last, Action::Move(9)]);
    assert!(state.reading.unfolded.is_empty() && state.reading.line < 200);
    for screen in [Screen::Transactions, Screen::Routes, Screen::Overview] {
        assert_eq!(press(&mut state, &[Action::Back]), Effect::Draw);
        assert_eq!((state.screen, state.opened.is_some()), (screen, false));
    }
    assert_eq!(press(&mut state, &[Action::Back]), Effect::Quit);
}

#[test]
fn a_transaction_that_is_not_kept_is_said_to_be_gone() {
    let mut state = watched();
    press(&mut state, &[Action::Screen(Screen::Routes), Action::Enter, Action::Enter]);
    let Some(Ask::Transaction { number, .. }) = state.asks.pop() else { panic!("nothing asked") };
    let answer = Delivery::Transaction { application: 0, number, transaction: None };
    update(&mut state, Message::Delivery(answer));
    assert_eq!(state.opened.as_ref().unwrap().whole, Asked::Gone);
}

#[test]
fn a_rectangle_is_moved_and_its_dots_are_listed() {
    let mut state = watched();
    press(&mut state, &[Action::Screen(Screen::XView), Action::Enter]);
    assert!(state.xview.rectangle.is_some() && state.screen == Screen::XView);
    let begin = state.xview.rectangle.unwrap();
    press(&mut state, &[Action::Push(2, 1), Action::Stretch(2, 1)]);
    let now = state.xview.rectangle.unwrap();
    assert_eq!(
        (now.x, now.y, now.width, now.height),
        (begin.x + 2, begin.y + 1, begin.width + 2, begin.height + 1)
    );
    // The first escape gives the choice up, and the picture goes on.
    assert_eq!(press(&mut state, &[Action::Back]), Effect::Draw);
    assert_eq!((state.screen, state.xview.is_held()), (Screen::XView, false));
    press(&mut state, &[Action::StretchAll, Action::Enter]);
    assert_eq!((state.screen, state.chosen.len()), (Screen::Transactions, 1_500));
    press(&mut state, &[Action::Back]);
    assert_eq!((state.screen, state.xview.is_held()), (Screen::XView, true));
}

#[test]
fn dots_are_chosen_by_dragging_the_mouse_over_them_even_past_the_edge() {
    let mut state = watched();
    press(&mut state, &[Action::Screen(Screen::XView)]);
    let plot = view::xview_plot(&state);
    let drag = |state: &mut State, from: (u16, u16), to: (u16, u16)| {
        update(state, Message::Mouse(Mouse::Pressed(from.0, from.1)));
        update(state, Message::Mouse(Mouse::Dragged(to.0, to.1)));
        update(state, Message::Mouse(Mouse::Released(to.0, to.1)))
    };
    // On the title nothing is chosen.
    assert_eq!(drag(&mut state, (plot.x, 0), (plot.x + 5, 0)), Effect::Nothing);
    drag(&mut state, (plot.x, plot.y), (u16::MAX, u16::MAX));
    assert_eq!((state.screen, state.chosen.len()), (Screen::Transactions, 1_500));
    press(&mut state, &[Action::Back, Action::Back]);
    let middle = plot.x + plot.width / 2;
    drag(&mut state, (middle, plot.bottom() - 1), (plot.x, plot.y));
    assert!((700..800).contains(&state.chosen.len()), "{}", state.chosen.len());
}

#[test]
fn another_application_is_asked_for_and_what_comes_late_of_the_first_is_not_taken_for_it() {
    let mut state = watched();
    press(&mut state, &[Action::Screen(Screen::Applications), Action::First, Action::Move(1)]);
    press(&mut state, &[Action::Enter]);
    let Some(Ask::Choose { application }) = state.asks.pop() else { panic!("nothing asked") };
    assert!(state.snapshot.is_none() && state.dots.is_empty() && application != 0);
    update(&mut state, delivered(fixture::shop()));
    let points = fixture::shop().recent.since(0, 10);
    update(&mut state, Message::Delivery(Delivery::Points { application: 0, points: points.clone() }));
    assert!(state.snapshot.is_none() && state.dots.is_empty());
    update(&mut state, Message::Delivery(Delivery::Points { application, points }));
    let snapshot = Arc::new(fixture::idle());
    update(&mut state, Message::Delivery(Delivery::Snapshot { application, snapshot }));
    assert!(state.snapshot.is_some() && !state.dots.is_empty() && !state.is_gone());
    let others = fixture::applications().into_iter().filter(|one| one.info.id != application).collect();
    update(&mut state, Message::Delivery(Delivery::Applications(others)));
    assert!(state.is_gone());
}

#[test]
fn who_has_not_said_which_application_gets_the_list() {
    let mut state = State { size: (80, 24), ..State::default() };
    update(&mut state, Message::Delivery(Delivery::Applications(fixture::applications())));
    assert_eq!((state.screen, state.table(Panel::Applications).order.len()), (Screen::Applications, 3));
    let mut state = State::default();
    let one = fixture::applications().into_iter().take(1).collect();
    update(&mut state, Message::Delivery(Delivery::Applications(one)));
    assert_eq!(state.screen, Screen::Overview);
}

#[test]
fn what_is_in_flight_is_followed_until_it_ends() {
    let mut state = watched();
    press(&mut state, &[Action::Screen(Screen::Active), Action::Enter]);
    let before = state.in_flight.clone().unwrap().active;
    let mut later = fixture::shop();
    for active in &mut later.active {
        active.elapsed_ns += 1_000_000_000;
    }
    update(&mut state, delivered(later));
    assert_eq!(state.in_flight.as_ref().unwrap().active.elapsed_ns, before.elapsed_ns + 1_000_000_000);
    // Another one of the same route on the same worker has begun.
    let mut other = fixture::shop();
    for active in &mut other.active {
        active.elapsed_ns = 5;
    }
    update(&mut state, delivered(other));
    assert!(state.in_flight.as_ref().unwrap().has_ended);
}

#[test]
fn the_flame_graph_is_walked_zoomed_and_left() {
    let mut state = watched();
    press(
        &mut state,
        &[Action::Screen(Screen::Flame), Action::Step(Step::Called), Action::Step(Step::Called)],
    );
    press(&mut state, &[Action::Enter]);
    let tree = state.snapshot.clone().unwrap().tree.clone();
    assert_eq!((state.flame.zoomed(&tree), state.flame.selected(&tree)), (Some(1), Some(1)));
    assert_eq!(press(&mut state, &[Action::Back]), Effect::Draw);
    assert_eq!((state.screen, state.flame.zoomed(&tree)), (Screen::Flame, None));
    let click = Message::Mouse(Mouse::Pressed(10, 6));
    update(&mut state, click.clone());
    let clicked = state.flame.selected(&tree).unwrap();
    update(&mut state, click);
    assert_eq!(state.flame.zoomed(&tree), Some(clicked));
}
