//! The key table. It drives the input, the footer and the help, so that none of them can say what the
//! others do not do. What an action does is [`update`](crate::update)'s.

use crate::state::{Mode, Panel};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    /// Closes what is open: the overlay, else the filter, else the view.
    Back,
    Help,
    Losses,
    Details,
    NextPanel,
    PreviousPanel,
    Focus(Panel),
    /// By so many rows, upwards when negative.
    Move(isize),
    First,
    Last,
    Sort,
    Pause,
    Filter,
    /// To the first row, the default order and no filter.
    Reset,
    /// The rest only while the filter is typed.
    Type(char),
    Erase,
    Accept,
    Cancel,
}

/// One line of the table.
pub struct Key {
    /// As written in the help.
    pub names: &'static str,
    /// As written in the footer, with its label; `None` leaves it to the help.
    pub footer: Option<(&'static str, &'static str)>,
    pub help: &'static str,
    bindings: &'static [(KeyCode, Action)],
}

const PAGE: isize = 10;

/// In the order of the footer and the help. Footers end where the line does, so the first matter most.
pub const KEYS: &[Key] = &[
    Key {
        names: "q  Ctrl-C",
        footer: Some(("q", "quit")),
        help: "quit",
        bindings: &[(KeyCode::Char('q'), Action::Quit)],
    },
    Key {
        names: "?",
        footer: Some(("?", "help")),
        help: "this help, on and off",
        bindings: &[(KeyCode::Char('?'), Action::Help), (KeyCode::F(1), Action::Help)],
    },
    Key {
        names: "Tab  1-5",
        footer: Some(("1-5", "panel")),
        help: "next panel; routes, active, functions, statements, workers",
        bindings: &[
            (KeyCode::Tab, Action::NextPanel),
            (KeyCode::BackTab, Action::PreviousPanel),
            (KeyCode::Char('1'), Action::Focus(Panel::Routes)),
            (KeyCode::Char('2'), Action::Focus(Panel::Active)),
            (KeyCode::Char('3'), Action::Focus(Panel::Functions)),
            (KeyCode::Char('4'), Action::Focus(Panel::Statements)),
            (KeyCode::Char('5'), Action::Focus(Panel::Workers)),
        ],
    },
    Key {
        names: "Up Down  k j",
        footer: Some(("↑↓", "move")),
        help: "previous, next row; PgUp PgDn by ten; Home End to the ends",
        bindings: &[
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
        ],
    },
    Key {
        names: "Enter",
        footer: Some(("Enter", "row")),
        help: "the selected row in full, on and off",
        bindings: &[(KeyCode::Enter, Action::Details)],
    },
    Key {
        names: "s",
        footer: Some(("s", "sort")),
        help: "sort the focused panel by the next column",
        bindings: &[(KeyCode::Char('s'), Action::Sort)],
    },
    Key {
        names: "/",
        footer: Some(("/", "filter")),
        help: "show only routes and statements with this text in their name",
        bindings: &[(KeyCode::Char('/'), Action::Filter)],
    },
    Key {
        names: "p",
        footer: Some(("p", "pause")),
        help: "hold the screen still, and go on; measuring goes on meanwhile",
        bindings: &[(KeyCode::Char('p'), Action::Pause), (KeyCode::Char(' '), Action::Pause)],
    },
    Key {
        names: "l",
        footer: Some(("l", "lost")),
        help: "what was lost, by reason",
        bindings: &[(KeyCode::Char('l'), Action::Losses)],
    },
    Key {
        names: "r",
        footer: Some(("r", "reset")),
        help: "no selection, default order, no filter",
        bindings: &[(KeyCode::Char('r'), Action::Reset)],
    },
    Key {
        names: "Esc",
        footer: None,
        help: "close what is open, drop the filter, else quit",
        bindings: &[(KeyCode::Esc, Action::Back)],
    },
];

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
        Mode::Normal => KEYS
            .iter()
            .flat_map(|line| line.bindings)
            .find(|(code, _)| *code == key.code)
            .map(|(_, action)| *action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn press(mode: Mode, code: KeyCode) -> Option<Action> {
        action(mode, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn no_key_is_bound_twice() {
        let mut seen = HashSet::new();
        for (code, _) in KEYS.iter().flat_map(|line| line.bindings) {
            assert!(seen.insert(*code), "{code:?} has two meanings");
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
        assert_eq!(press(Mode::Normal, KeyCode::Char('q')), Some(Action::Quit));
        assert_eq!(press(Mode::Filter, KeyCode::Char('q')), Some(Action::Type('q')));
        let quit = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(Mode::Filter, quit), Some(Action::Quit));
        assert_eq!(action(Mode::Normal, quit), Some(Action::Quit));
    }

    #[test]
    fn releases_mean_nothing() {
        let mut release = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        release.kind = KeyEventKind::Release;
        assert_eq!(action(Mode::Normal, release), None);
    }
}
