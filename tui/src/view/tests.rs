//! The screen as it is drawn: in full by snapshot, in parts for styles, and at every size for shape.

use crate::fixture;
use crate::keys::Action;
use crate::source::Delivery;
use crate::state::{Screen, State, Step};
use crate::theme::{Palette, Theme};
use crate::update::{Message, update};
use crate::view;
use pyapm_model::service::Ask;
use pyapm_model::snapshot::Snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use std::sync::Arc;

/// All that a source delivers in its first second, then the keys; whole transactions are answered as they are asked for.
fn state_at(snapshot: Snapshot, actions: &[Action], size: (u16, u16)) -> State {
    let mut state = State { size, ..State::default() };
    let snapshot = Arc::new(snapshot);
    let points = snapshot.recent.since(0, 8_000);
    for delivery in [
        Delivery::Snapshot { application: 0, snapshot: Arc::clone(&snapshot) },
        Delivery::Points { application: 0, points },
        Delivery::Applications(fixture::applications()),
    ] {
        update(&mut state, Message::Delivery(delivery));
    }
    for action in actions {
        update(&mut state, Message::Action(*action));
        for ask in std::mem::take(&mut state.asks) {
            if let Ask::Transaction { application, number } = ask {
                let transaction = snapshot.recent.whole(number).cloned();
                let answer = Delivery::Transaction { application, number, transaction };
                update(&mut state, Message::Delivery(answer));
            }
        }
    }
    state
}

fn state(snapshot: Snapshot, actions: &[Action]) -> State {
    state_at(snapshot, actions, (80, 24))
}

fn draw(state: &State, palette: Palette, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(state, Theme::new(palette), frame)).unwrap();
    terminal.backend().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    (0..buffer.area.height)
        .map(|y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect())
        .collect()
}

/// The first cell of the first place where `text` stands.
fn find<'a>(buffer: &'a Buffer, text: &str) -> &'a Cell {
    for (y, line) in lines(buffer).iter().enumerate() {
        if let Some(byte) = line.find(text) {
            return &buffer[(line[..byte].chars().count() as u16, y as u16)];
        }
    }
    panic!("`{text}` is not on the screen:\n{}", lines(buffer).join("\n"));
}

/// To the latest transaction of the first route, which is whole.
const TRANSACTION: &[Action] =
    &[Action::Screen(Screen::Routes), Action::Enter, Action::Sort, Action::First, Action::Enter];

/// The same, and then these.
fn in_transaction(actions: &[Action]) -> Vec<Action> {
    [TRANSACTION, actions].concat()
}

macro_rules! screens {
    ($($name:ident: $snapshot:expr, $actions:expr;)*) => {
        $(#[test]
        fn $name() {
            for (width, height) in [(60, 20), (80, 24), (200, 50), (300, 80)] {
                let state = state_at($snapshot, $actions, (width, height));
                let drawn = draw(&state, Palette::Sixteen, width, height);
                insta::assert_snapshot!(concat!(stringify!($name), "_{}").replace("{}", &format!("{width}x{height}")), drawn);
                // Colour changes no character.
                let plain = draw(&state, Palette::None, width, height);
                assert_eq!(lines(drawn.buffer()), lines(plain.buffer()));
                let shades = draw(&state, Palette::True, width, height);
                assert_eq!(lines(drawn.buffer()), lines(shades.buffer()));
                assert!(plain.buffer().content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
            }
        })*
    };
}

screens! {
    shop: fixture::shop(), &[];
    idle: fixture::idle(), &[];
    losses: fixture::lossy(), &[Action::Health];
    health: fixture::looping(), &[Action::Health];
    workers: fixture::looping(), &[Action::Screen(Screen::Workers)];
    worker: fixture::looping(), &[Action::Screen(Screen::Workers), Action::Move(1), Action::Move(1), Action::Enter];
    help: fixture::shop(), &[Action::Help];
    filter: fixture::shop(), &[Action::Filter, Action::Type('c'), Action::Type('a'), Action::Type('r')];
    filter_without_match: fixture::shop(), &[Action::Filter, Action::Type('#'), Action::Accept];
    statements: fixture::shop(), &[Action::Screen(Screen::Statements), Action::Move(1), Action::Move(1)];
    details: fixture::shop(), &[Action::Screen(Screen::Statements), Action::Last, Action::Move(-4), Action::Details];
    workers_by_memory: fixture::shop(), &[Action::Screen(Screen::Workers), Action::Sort, Action::Sort, Action::Sort, Action::Sort];
    applications: fixture::shop(), &[Action::Screen(Screen::Applications), Action::Move(1)];
    active: fixture::shop(), &[Action::Screen(Screen::Active), Action::Move(1)];
    in_flight: fixture::shop(), &[Action::Screen(Screen::Active), Action::Enter];
    xview: fixture::shop(), &[Action::Screen(Screen::XView)];
    xview_rectangle: fixture::shop(), &[Action::Screen(Screen::XView), Action::Push(0, 1), Action::Stretch(4, 1), Action::Push(2, 1)];
    xview_logarithmic: fixture::shop(), &[Action::Screen(Screen::XView), Action::Bend, Action::Widen(-1)];
    routes: fixture::shop(), &[Action::Screen(Screen::Routes)];
    transactions: fixture::shop(), &[Action::Screen(Screen::Routes), Action::Enter, Action::Sort];
    transaction: fixture::shop(), TRANSACTION;
    transaction_unfolded: fixture::shop(), &in_transaction(&[Action::Move(23), Action::Enter]);
    transaction_end: fixture::shop(), &in_transaction(&[Action::Last]);
    errors: fixture::shop(), &[Action::Screen(Screen::Errors)];
    failure: fixture::shop(), &[Action::Screen(Screen::Errors), Action::Enter];
    functions: fixture::shop(), &[Action::Screen(Screen::Functions)];
    flame: fixture::shop(), &[Action::Screen(Screen::Flame), Action::Step(Step::Called), Action::Step(Step::Called), Action::Step(Step::Called), Action::Step(Step::Called)];
    flame_zoomed: fixture::shop(), &[Action::Screen(Screen::Flame), Action::Step(Step::Called), Action::Step(Step::Called), Action::Step(Step::Called), Action::Step(Step::Called), Action::Enter];
    help_of_the_xview: fixture::shop(), &[Action::Screen(Screen::XView), Action::Help];
    paused: fixture::lossy(), &[Action::Pause];
    hostile: fixture::hostile(), &[];
    crowded: fixture::crowded(), &[Action::Last, Action::Move(-3)];
}

#[test]
fn before_the_first_figures_the_view_says_what_it_waits_for() {
    let mut state = State::default();
    update(&mut state, Message::Second);
    let drawn = draw(&state, Palette::Sixteen, 80, 24);
    find(drawn.buffer(), "waiting for the first figures, 1 s");
    find(drawn.buffer(), "q quit");
}

#[test]
fn alarms_have_a_colour_and_a_mark() {
    let state = state(fixture::lossy(), &[]);
    let coloured = draw(&state, Palette::Sixteen, 80, 24);
    let plain = draw(&state, Palette::None, 80, 24);
    for alarm in ["losses 10,412", "! POST /checkout", "6.1 s", "1.8 s"] {
        let cell = find(coloured.buffer(), alarm);
        assert!(matches!(cell.fg, Color::LightRed | Color::Yellow), "{alarm}: {:?}", cell.fg);
        assert_eq!(find(plain.buffer(), alarm).fg, Color::Reset);
    }
    assert!(find(plain.buffer(), "losses 10,412").modifier.contains(Modifier::BOLD));
    assert_eq!(find(coloured.buffer(), "SQL 5.9 s").fg, Color::Magenta);
}

#[test]
fn no_loss_is_green_and_said() {
    let drawn = draw(&state(fixture::shop(), &[]), Palette::Sixteen, 80, 24);
    assert_eq!(find(drawn.buffer(), "losses 0").fg, Color::Green);
}

#[test]
fn the_selected_row_is_reversed_with_and_without_colour() {
    let state = state(fixture::shop(), &[Action::Move(1)]);
    for palette in [Palette::Sixteen, Palette::None] {
        let drawn = draw(&state, palette, 80, 24);
        let reversed: Vec<String> = (0..24)
            .filter(|&y| drawn.buffer()[(60, y)].modifier.contains(Modifier::REVERSED))
            .map(|y| lines(drawn.buffer())[usize::from(y)].clone())
            .collect();
        assert_eq!(reversed.len(), 1);
        assert!(reversed[0].contains("POST /checkout"), "{reversed:?}");
    }
}

#[test]
fn unknown_figures_are_drawn_as_unknown() {
    let drawn = draw(&state(fixture::idle(), &[]), Palette::Sixteen, 80, 24);
    find(drawn.buffer(), "p50 -");
    find(drawn.buffer(), "CPU -");
    find(drawn.buffer(), "Python -");
    find(drawn.buffer(), "no transactions seen yet in 12 s");
}

#[test]
fn an_application_of_one_process_is_its_own_worker() {
    let mut alone = fixture::shop();
    alone.workers.retain(|worker| worker.is_master);
    let drawn = draw(&state(alone, &[Action::Screen(Screen::Workers)]), Palette::None, 80, 24);
    for words in ["1 worker ", "Workers 1", "worker, idle"] {
        find(drawn.buffer(), words);
    }
}

#[test]
fn a_stalled_source_and_an_ended_one_are_marked() {
    let mut state = state(fixture::shop(), &[]);
    for _ in 0..7 {
        update(&mut state, Message::Second);
    }
    find(draw(&state, Palette::None, 80, 24).buffer(), "NO DATA FOR 7 s");
    update(&mut state, Message::SourceEnded);
    find(draw(&state, Palette::None, 80, 24).buffer(), "ENDED");
}

#[test]
fn every_state_can_be_drawn_at_every_size() {
    let actions: [&[Action]; 20] = [
        &[],
        &[Action::Help],
        &[Action::Health, Action::Move(3)],
        &[Action::Pause],
        &[Action::Filter, Action::Type('订')],
        &[Action::Last, Action::Details],
        &[Action::Screen(Screen::Active), Action::Enter, Action::Last],
        &[Action::Screen(Screen::Functions), Action::Sort],
        &[Action::Screen(Screen::Statements), Action::Details],
        &[Action::Screen(Screen::Applications), Action::Details],
        &[Action::Screen(Screen::XView), Action::Push(1, 1), Action::Stretch(300, 90)],
        &[Action::Screen(Screen::XView), Action::Bend],
        &[Action::Screen(Screen::XView), Action::Push(1, 1), Action::Stretch(300, 90), Action::Enter],
        &[
            Action::Screen(Screen::XView),
            Action::Push(1, 1),
            Action::Stretch(300, 90),
            Action::Enter,
            Action::Enter,
        ],
        TRANSACTION,
        &[Action::Screen(Screen::Errors), Action::Last, Action::Enter],
        &[Action::Screen(Screen::Flame), Action::Step(Step::Called), Action::Step(Step::Called)],
        &[Action::Screen(Screen::Flame), Action::Step(Step::Called), Action::Enter],
        &[Action::Screen(Screen::Workers)],
        &[Action::Screen(Screen::Workers), Action::Last, Action::Enter, Action::Last],
    ];
    let sizes = [
        (1, 1),
        (10, 3),
        (59, 24),
        (60, 11),
        (60, 12),
        (60, 20),
        (80, 24),
        (100, 13),
        (132, 43),
        (149, 40),
        (150, 20),
        (200, 50),
        (300, 60),
    ];
    for snapshot in
        [fixture::shop(), fixture::idle(), fixture::lossy(), fixture::hostile(), fixture::crowded()]
    {
        for actions in actions {
            for (width, height) in sizes {
                let state = state_at(snapshot.clone(), actions, (width, height));
                let drawn = draw(&state, Palette::Sixteen, width, height);
                let text = lines(drawn.buffer()).concat();
                assert!(!text.contains(char::is_control), "{width}x{height}: {text:?}");
                if width >= 60 && height >= 12 && state.filter_before.is_none() {
                    find(drawn.buffer(), "q quit");
                }
            }
        }
    }
}

#[test]
fn below_the_smallest_size_the_view_says_so() {
    let drawn = draw(&state(fixture::shop(), &[]), Palette::None, 59, 24);
    find(drawn.buffer(), "59x24, needs 60x12");
}
