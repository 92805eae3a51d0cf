//! The key table. It drives the input, the footer and the help, so that none of them can say what the
//! others do not do. What an action does is [`update`](crate::update)'s.

use crate::state::{Mode, Screen, Step};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    /// Closes what is open: the overlay, else the filter, else the screen.
    Back,
    Help,
    /// Alerts, other agents, losses.
    Health,
    /// The selected row in full.
    Details,
    /// Into the selected row, node or rectangle.
    Enter,
    /// All calls of a transaction in full, or each in one line.
    UnfoldAll,
    /// To the next panel of the overview, else to the next screen.
    Next,
    Previous,
    Screen(Screen),
    /// By so many rows, upwards when negative.
    Move(isize),
    First,
    Last,
    Sort,
    Pause,
    Filter,
    /// To the first row, the default order and no filter.
    Reset,
    /// Moves the rectangle by so many cells to the right and down.
    Push(i16, i16),
    /// Makes it so much wider and higher.
    Stretch(i16, i16),
    /// Over the whole picture.
    StretchAll,
    /// A longer or shorter time in the X-View.
    Widen(isize),
    /// A higher or lower top of it.
    Raise(isize),
    /// Between a straight and a logarithmic axis.
    Bend,
    /// In the flame graph.
    Step(Step),
    /// The rest only while the filter is typed.
    Type(char),
    Erase,
    Accept,
    Cancel,
}

/// One line of the table.
pub struct Key {
    /// Where it means that; nothing is everywhere.
    pub modes: &'static [Mode],
    /// As written in the help.
    pub names: &'static str,
    /// As written in the footer, with its label; `None` leaves it to the help.
    pub footer: Option<(&'static str, &'static str)>,
    pub help: &'static str,
    bindings: &'static [(KeyCode, Action)],
    /// With the shift key: of keys that are not characters.
    shifted: &'static [(KeyCode, Action)],
}

const PAGE: isize = 10;

const EVERYWHERE: &[Mode] = &[];

/// In the order of the footer and the help. Footers end where the line does, so the first matter most.
pub const KEYS: &[Key] = &[
    Key {
        modes: EVERYWHERE,
        names: "q  Ctrl-C",
        footer: Some(("q", "quit")),
        help: "quit",
        bindings: &[(KeyCode::Char('q'), Action::Quit)],
        shifted: &[],
    },
    Key {
        modes: EVERYWHERE,
        names: "?",
        footer: Some(("?", "help")),
        help: "this help, on and off",
        bindings: &[(KeyCode::Char('?'), Action::Help), (KeyCode::F(1), Action::Help)],
        shifted: &[],
    },
    Key {
        modes: EVERYWHERE,
        names: "0-9",
        footer: Some(("0-9", "screen")),
        help: "the screen with this number in the line of screens",
        bindings: &[
            (KeyCode::Char('0'), Action::Screen(Screen::TABS[0])),
            (KeyCode::Char('1'), Action::Screen(Screen::TABS[1])),
            (KeyCode::Char('2'), Action::Screen(Screen::TABS[2])),
            (KeyCode::Char('3'), Action::Screen(Screen::TABS[3])),
            (KeyCode::Char('4'), Action::Screen(Screen::TABS[4])),
            (KeyCode::Char('5'), Action::Screen(Screen::TABS[5])),
            (KeyCode::Char('6'), Action::Screen(Screen::TABS[6])),
            (KeyCode::Char('7'), Action::Screen(Screen::TABS[7])),
            (KeyCode::Char('8'), Action::Screen(Screen::TABS[8])),
            (KeyCode::Char('9'), Action::Screen(Screen::TABS[9])),
        ],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Table],
        names: "Up Down  k j",
        footer: Some(("↑↓", "move")),
        help: "previous, next row; PgUp PgDn by ten; Home End to the ends",
        bindings: MOVES,
        shifted: &[],
    },
    Key {
        modes: &[Mode::Document],
        names: "Up Down  k j",
        footer: Some(("↑↓", "move")),
        help: "previous, next line; PgUp PgDn by ten; Home End to the ends",
        bindings: MOVES,
        shifted: &[],
    },
    Key {
        modes: &[Mode::Table],
        names: "Enter",
        footer: Some(("Enter", "into")),
        help: "into the selected row: what it is made of",
        bindings: &[(KeyCode::Enter, Action::Enter)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Document],
        names: "Enter",
        footer: Some(("Enter", "unfold")),
        help: "the call in this line in full, and back to one line",
        bindings: &[(KeyCode::Enter, Action::Enter)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Document],
        names: "e",
        footer: Some(("e", "unfold all")),
        help: "all calls in full, and back to one line each",
        bindings: &[(KeyCode::Char('e'), Action::UnfoldAll)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::XView],
        names: "arrows  h j k l",
        footer: Some(("arrows", "rectangle")),
        help: "move the rectangle; the picture stands still meanwhile",
        bindings: &[
            (KeyCode::Left, Action::Push(-2, 0)),
            (KeyCode::Right, Action::Push(2, 0)),
            (KeyCode::Up, Action::Push(0, -1)),
            (KeyCode::Down, Action::Push(0, 1)),
            (KeyCode::Char('h'), Action::Push(-2, 0)),
            (KeyCode::Char('l'), Action::Push(2, 0)),
            (KeyCode::Char('k'), Action::Push(0, -1)),
            (KeyCode::Char('j'), Action::Push(0, 1)),
        ],
        shifted: &[],
    },
    Key {
        modes: &[Mode::XView],
        names: "Shift-arrows HJKL",
        footer: Some(("HJKL", "stretch")),
        help: "make the rectangle smaller and larger; a has it cover all",
        bindings: &[
            (KeyCode::Char('a'), Action::StretchAll),
            (KeyCode::Char('H'), Action::Stretch(-2, 0)),
            (KeyCode::Char('L'), Action::Stretch(2, 0)),
            (KeyCode::Char('K'), Action::Stretch(0, -1)),
            (KeyCode::Char('J'), Action::Stretch(0, 1)),
        ],
        shifted: &[
            (KeyCode::Left, Action::Stretch(-2, 0)),
            (KeyCode::Right, Action::Stretch(2, 0)),
            (KeyCode::Up, Action::Stretch(0, -1)),
            (KeyCode::Down, Action::Stretch(0, 1)),
        ],
    },
    Key {
        modes: &[Mode::XView],
        names: "Enter  mouse",
        footer: Some(("Enter", "list")),
        help: "list the dots in the rectangle; or draw one with the mouse",
        bindings: &[(KeyCode::Enter, Action::Enter)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::XView],
        names: "[ ]",
        footer: Some(("[]", "time")),
        help: "a shorter, a longer time",
        bindings: &[(KeyCode::Char('['), Action::Widen(-1)), (KeyCode::Char(']'), Action::Widen(1))],
        shifted: &[],
    },
    Key {
        modes: &[Mode::XView],
        names: "- +",
        footer: Some(("-+", "top")),
        help: "a lower, a higher top of the response time",
        bindings: &[
            (KeyCode::Char('-'), Action::Raise(-1)),
            (KeyCode::Char('+'), Action::Raise(1)),
            (KeyCode::Char('='), Action::Raise(1)),
        ],
        shifted: &[],
    },
    Key {
        modes: &[Mode::XView],
        names: "y",
        footer: Some(("y", "log")),
        help: "logarithmic response time, on and off; the top follows the dots",
        bindings: &[(KeyCode::Char('y'), Action::Bend)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Flame],
        names: "arrows  h j k l",
        footer: Some(("arrows", "walk")),
        help: "to the caller, to what is called, to the siblings; or click",
        bindings: &[
            (KeyCode::Up, Action::Step(Step::Caller)),
            (KeyCode::Down, Action::Step(Step::Called)),
            (KeyCode::Left, Action::Step(Step::Previous)),
            (KeyCode::Right, Action::Step(Step::Next)),
            (KeyCode::Char('k'), Action::Step(Step::Caller)),
            (KeyCode::Char('j'), Action::Step(Step::Called)),
            (KeyCode::Char('h'), Action::Step(Step::Previous)),
            (KeyCode::Char('l'), Action::Step(Step::Next)),
        ],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Flame],
        names: "Enter",
        footer: Some(("Enter", "zoom")),
        help: "have the selected function fill the width; Esc goes back",
        bindings: &[(KeyCode::Enter, Action::Enter)],
        shifted: &[],
    },
    Key {
        modes: EVERYWHERE,
        names: "Esc  Backspace",
        footer: Some(("Esc", "back")),
        help: "close what is open, drop the filter, go back; at last quit",
        bindings: &[(KeyCode::Esc, Action::Back), (KeyCode::Backspace, Action::Back)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Table],
        names: "s",
        footer: Some(("s", "sort")),
        help: "sort by the next column",
        bindings: &[(KeyCode::Char('s'), Action::Sort)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Table, Mode::Flame],
        names: "/",
        footer: Some(("/", "filter")),
        help: "only what has this text in its name; marks it in the flame graph",
        bindings: &[(KeyCode::Char('/'), Action::Filter)],
        shifted: &[],
    },
    Key {
        modes: EVERYWHERE,
        names: "p  Space",
        footer: Some(("p", "pause")),
        help: "hold the screen still, and go on; measuring goes on meanwhile",
        bindings: &[(KeyCode::Char('p'), Action::Pause), (KeyCode::Char(' '), Action::Pause)],
        shifted: &[],
    },
    Key {
        modes: &[Mode::Table],
        names: "i",
        footer: Some(("i", "row")),
        help: "the selected row in full, on and off",
        bindings: &[(KeyCode::Char('i'), Action::Details)],
        shifted: &[],
    },
    Key {
        modes: EVERYWHERE,
        names: "Tab",
        footer: None,
        help: "next panel of the overview, else next screen",
        bindings: &[(KeyCode::Tab, Action::Next), (KeyCode::BackTab, Action::Previous)],
        shifted: &[(KeyCode::BackTab, Action::Previous)],
    },
    Key {
        modes: EVERYWHERE,
        names: "x",
        footer: Some(("x", "health")),
        help: "health: alerts, other agents in the process, what was lost",
        bindings: &[(KeyCode::Char('x'), Action::Health)],
        shifted: &[],
    },
    Key {
        modes: EVERYWHERE,
        names: "r",
        footer: Some(("r", "reset")),
        help: "no selection, default order, no filter",
        bindings: &[(KeyCode::Char('r'), Action::Reset)],
        shifted: &[],
    },
];

const MOVES: &[(KeyCode, Action)] = &[
    (KeyCode::Up, Action::Move(-1)),
    (KeyCode::Down, Action::Move(1)),
    (KeyCode::Char('k'), Action::Move(-1)),
    (KeyCode::Char('j'), Action::Move(1)),
    (KeyCode::PageUp, Action::Move(-PAGE)),
    (KeyCode::PageDown, Action::Move(PAGE)),
    (KeyCode::Home, Action::First),
    (KeyCode::End, Action::Last),
    (KeyCode::Char('g'), Action::First),
    (KeyCode::Char('G'), Action::Last),
];

impl Key {
    /// Whether it means anything there.
    pub fn is_for(&self, mode: Mode) -> bool {
        self.modes.is_empty() || self.modes.contains(&mode)
    }
}

/// What a key press asks for; `None` when it means nothing here.
pub fn action(mode: Mode, key: KeyEvent) -> Option<Action> {
    // Terminals with the enhanced protocol also report releases.
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Action::Quit),
            KeyCode::Char('u') if mode == Mode::Filter => Some(Action::Cancel),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match mode {
        Mode::Filter => match key.code {
            KeyCode::Char(character) => Some(Action::Type(character)),
            KeyCode::Backspace => Some(Action::Erase),
            KeyCode::Enter => Some(Action::Accept),
            KeyCode::Esc => Some(Action::Cancel),
            _ => None,
        },
        mode => {
            let bindings = |line: &Key| match key.modifiers.contains(KeyModifiers::SHIFT) {
                // A character says by itself whether it was shifted.
                true if !matches!(key.code, KeyCode::Char(_)) => line.shifted,
                _ => line.bindings,
            };
            let lines = KEYS.iter().filter(|line| line.is_for(mode));
            let mut bindings = lines.flat_map(bindings);
            bindings.find(|(code, _)| *code == key.code).map(|(_, action)| *action)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const MODES: [Mode; 4] = [Mode::Table, Mode::XView, Mode::Flame, Mode::Document];

    fn press(mode: Mode, code: KeyCode) -> Option<Action> {
        action(mode, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn no_key_is_bound_twice() {
        for mode in MODES {
            for of in [|line: &Key| line.bindings, |line: &Key| line.shifted] {
                let mut seen = HashSet::new();
                for (code, _) in KEYS.iter().filter(|line| line.is_for(mode)).flat_map(of) {
                    assert!(seen.insert(*code), "{code:?} has two meanings in {mode:?}");
                }
            }
        }
    }

    #[test]
    fn every_footer_key_is_bound_to_what_it_says() {
        for line in KEYS {
            let Some((name, _)) = line.footer else { continue };
            if let (Some(character), None) = (name.chars().next(), name.chars().nth(1)) {
                assert!(
                    line.bindings.iter().any(|(code, _)| *code == KeyCode::Char(character)),
                    "`{name}` is in the footer but bound to nothing"
                );
            }
        }
    }

    #[test]
    fn while_filtering_letters_are_text_but_control_c_still_quits() {
        assert_eq!(press(Mode::Table, KeyCode::Char('q')), Some(Action::Quit));
        assert_eq!(press(Mode::Filter, KeyCode::Char('q')), Some(Action::Type('q')));
        let quit = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(Mode::Filter, quit), Some(Action::Quit));
        assert_eq!(action(Mode::Table, quit), Some(Action::Quit));
    }

    #[test]
    fn a_key_means_what_its_screen_says() {
        assert_eq!(press(Mode::Table, KeyCode::Down), Some(Action::Move(1)));
        assert_eq!(press(Mode::XView, KeyCode::Down), Some(Action::Push(0, 1)));
        assert_eq!(press(Mode::Flame, KeyCode::Down), Some(Action::Step(Step::Called)));
        assert_eq!(press(Mode::Document, KeyCode::Char('s')), None);
        let shifted = KeyEvent::new(KeyCode::Right, KeyModifiers::SHIFT);
        assert_eq!(action(Mode::XView, shifted), Some(Action::Stretch(2, 0)));
        let capital = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(action(Mode::Table, capital), Some(Action::Last));
    }

    #[test]
    fn every_screen_can_be_reached_and_left() {
        for mode in MODES {
            for (digit, screen) in ('0'..='9').zip(Screen::TABS) {
                assert_eq!(press(mode, KeyCode::Char(digit)), Some(Action::Screen(screen)));
            }
            assert_eq!(press(mode, KeyCode::Esc), Some(Action::Back));
            assert_eq!(press(mode, KeyCode::Char('q')), Some(Action::Quit));
        }
    }

    #[test]
    fn releases_mean_nothing() {
        let mut release = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        release.kind = KeyEventKind::Release;
        assert_eq!(action(Mode::Table, release), None);
    }
}
