//! What emphasis looks like. Words and marks use the 8 or 16 colours that every terminal lets its owner choose, or none;
//! pictures have shades where the terminal has true colour. A colour never says anything alone: a marker, a word or a
//! text attribute says it too.

use ratatui::style::{Color, Modifier, Style};
use std::ffi::OsStr;

/// Which colours may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// 24 bits: for pictures. The rest is as with 16.
    True,
    #[default]
    Sixteen,
    /// Without bright ones: the console of Linux, and old terminals.
    Eight,
    /// Bold, underlined and reversed text only.
    None,
}

impl Palette {
    /// What the terminal can, by its environment: the convention of <https://no-color.org> (a `NO_COLOR` that is present
    /// and not empty switches colour off), then `COLORTERM` (`truecolor` or `24bit`), then the name in `TERM`.
    pub fn detect(no_color: Option<&OsStr>, colorterm: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let is = |value: Option<&OsStr>, names: &[&str]| {
            value.is_some_and(|value| names.iter().any(|name| value == *name))
        };
        if no_color.is_some_and(|value| !value.is_empty()) || is(term, &["dumb"]) {
            Self::None
        } else if is(colorterm, &["truecolor", "24bit"]) {
            Self::True
        } else if is(term, &["linux", "vt100", "vt220", "ansi", "screen", "xterm-color", "cygwin"]) {
            Self::Eight
        } else {
            Self::Sixteen
        }
    }

    /// As the environment of this process has it; `color` false overrules it.
    pub fn from_environment(color: bool) -> Self {
        let variable = |name| std::env::var_os(name);
        let (no_color, colorterm, term) = (variable("NO_COLOR"), variable("COLORTERM"), variable("TERM"));
        if color {
            Self::detect(no_color.as_deref(), colorterm.as_deref(), term.as_deref())
        } else {
            Self::None
        }
    }
}

/// How alarming a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    #[default]
    Normal,
    Warning,
    Critical,
}

impl Severity {
    /// What stands in front of the row, so that the alarm survives without colour and in a copied text.
    pub(crate) fn marker(self) -> &'static str {
        match self {
            Self::Normal => " ",
            Self::Warning => "*",
            Self::Critical => "!",
        }
    }
}

/// What a box of the flame graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flame {
    Selected,
    /// The filter fits.
    Found,
    Application,
    /// The standard library, an installed package, or generated code.
    Library,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    palette: Palette,
}

impl Theme {
    pub(crate) fn new(palette: Palette) -> Self {
        Self { palette }
    }

    fn coloured(self, colour: Color) -> Style {
        match (self.palette, colour) {
            (Palette::None, _) => Style::new(),
            // The only bright one in use.
            (Palette::Eight, Color::LightRed) => Style::new().fg(Color::Red),
            _ => Style::new().fg(colour),
        }
    }

    pub(crate) fn plain(self) -> Style {
        Style::new()
    }

    /// Labels and units around the figures, which are bold. Not dim and not grey: on half of the terminals
    /// (light ones, the console) that is illegible.
    pub(crate) fn label(self) -> Style {
        Style::new()
    }

    pub(crate) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(crate) fn heading(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::UNDERLINED)
    }

    pub(crate) fn heading_focused(self) -> Style {
        self.heading().add_modifier(Modifier::BOLD)
    }

    /// The frame of what lies over the panels.
    pub(crate) fn heading_border(self) -> Style {
        self.coloured(Color::Cyan)
    }

    pub(crate) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(crate) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    pub(crate) fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Normal => Style::new(),
            Severity::Warning => self.coloured(Color::Yellow),
            Severity::Critical => self.coloured(Color::LightRed).add_modifier(Modifier::BOLD),
        }
    }

    /// Flags in the header (`PAUSED`): seen from across the room.
    pub(crate) fn flag(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    /// Doing now: in a database.
    pub(crate) fn statement(self) -> Style {
        self.coloured(Color::Magenta)
    }

    /// The screen that is shown, in the line of screens.
    pub(crate) fn tab(self) -> Style {
        self.selected().add_modifier(Modifier::BOLD)
    }

    /// A cell of the X-View with so many dots.
    pub(crate) fn dots(self, count: u16) -> Style {
        let many = count >= 6;
        match self.palette {
            Palette::True => {
                let bright = u8::try_from(140 + u32::from(count.min(14)) * 8).unwrap_or(u8::MAX);
                Style::new().fg(Color::Rgb(bright / 3, bright, bright))
            }
            _ if many => self.coloured(Color::Cyan).add_modifier(Modifier::BOLD),
            _ => self.coloured(Color::Cyan),
        }
    }

    /// Within the rectangle.
    pub(crate) fn chosen(self) -> Style {
        match self.palette {
            Palette::None => Style::new().add_modifier(Modifier::REVERSED),
            Palette::True => Style::new().bg(Color::Rgb(40, 60, 110)),
            _ => Style::new().bg(Color::Blue),
        }
    }

    /// A box of the flame graph. `name` gives it its shade, so that a function keeps it.
    pub(crate) fn flame(self, name: &str, kind: Flame) -> Style {
        let shade = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let black = |colour| Style::new().fg(Color::Black).bg(colour);
        let rgb = |red: u8, green: u8, blue: u8| black(Color::Rgb(red, green, blue));
        match (self.palette, kind) {
            (Palette::None, Flame::Selected) => {
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            }
            (Palette::None, Flame::Found) => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            (Palette::None, _) => Style::new().add_modifier(Modifier::REVERSED),
            (Palette::True, Flame::Selected) => rgb(255, 255, 255),
            (Palette::True, Flame::Found) => rgb(200, 90, 240),
            (Palette::True, Flame::Application) => rgb(225, 120 + shade / 4, 50),
            (Palette::True, Flame::Library) => rgb(170, 150 + shade / 6, 90 + shade / 6),
            (_, Flame::Selected) => black(Color::Gray),
            (_, Flame::Found) => black(Color::Magenta),
            (_, Flame::Application) => {
                black(if shade.is_multiple_of(2) { Color::Yellow } else { Color::Red })
            }
            (_, Flame::Library) => black(if shade.is_multiple_of(2) { Color::Green } else { Color::Cyan }),
        }
    }

    /// A part of a bar; each has its own colour, in turn.
    pub(crate) fn part(self, index: usize) -> Style {
        const PARTS: [Color; 6] =
            [Color::Green, Color::Red, Color::Yellow, Color::Magenta, Color::Blue, Color::Cyan];
        self.coloured(PARTS[index % PARTS.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_which_colours_there_are() {
        let detect = |no_color: Option<&str>, colorterm: Option<&str>, term: &str| {
            Palette::detect(no_color.map(OsStr::new), colorterm.map(OsStr::new), Some(OsStr::new(term)))
        };
        assert_eq!(detect(None, None, "xterm-256color"), Palette::Sixteen);
        assert_eq!(detect(Some(""), Some("truecolor"), "xterm"), Palette::True);
        assert_eq!(detect(Some("0"), Some("truecolor"), "xterm"), Palette::None);
        assert_eq!(detect(None, None, "linux"), Palette::Eight);
        assert_eq!(detect(None, None, "dumb"), Palette::None);
        assert_eq!(Palette::detect(None, None, None), Palette::Sixteen);
    }

    #[test]
    fn eight_colours_are_eight() {
        let theme = Theme::new(Palette::Eight);
        let flames = [Flame::Selected, Flame::Found, Flame::Application, Flame::Library];
        let styles = flames.into_iter().flat_map(|kind| ["a", "b"].map(|name| theme.flame(name, kind)));
        let mut styles: Vec<Style> = styles.collect();
        styles.extend([theme.severity(Severity::Critical), theme.dots(9), theme.chosen(), theme.heading()]);
        styles.extend((0..9).map(|index| theme.part(index)));
        let eight = [
            Color::Black,
            Color::Red,
            Color::Green,
            Color::Yellow,
            Color::Blue,
            Color::Magenta,
            Color::Cyan,
            // The name of colour 7, which is white without the bright ones.
            Color::Gray,
        ];
        for colour in styles.iter().flat_map(|style| [style.fg, style.bg]).flatten() {
            assert!(eight.contains(&colour), "{colour:?}");
        }
    }

    #[test]
    fn without_colours_every_severity_can_still_be_told() {
        let markers = [Severity::Normal, Severity::Warning, Severity::Critical].map(Severity::marker);
        assert_eq!(markers, [" ", "*", "!"]);
        let theme = Theme::new(Palette::None);
        for style in [theme.heading(), theme.flag(), theme.severity(Severity::Critical), theme.good()] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
