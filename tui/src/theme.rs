//! What emphasis looks like: the 16 colours that every terminal lets its owner choose, or none. A colour
//! never says anything alone: a marker, a word or a text attribute says it too.

use ratatui::style::{Color, Modifier, Style};
use std::ffi::OsStr;

/// Which colours may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    #[default]
    Sixteen,
    /// Bold, underlined and reversed text only.
    None,
}

impl Palette {
    /// The convention of <https://no-color.org>: a `NO_COLOR` that is present and not empty switches colour
    /// off, whatever its value.
    pub fn from_no_color(no_color: Option<&OsStr>) -> Self {
        match no_color {
            Some(value) if !value.is_empty() => Self::None,
            _ => Self::Sixteen,
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

#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    palette: Palette,
}

impl Theme {
    pub(crate) fn new(palette: Palette) -> Self {
        Self { palette }
    }

    fn coloured(self, colour: Color) -> Style {
        match self.palette {
            Palette::Sixteen => Style::new().fg(colour),
            Palette::None => Style::new(),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_counts_only_when_it_is_not_empty() {
        assert_eq!(Palette::from_no_color(None), Palette::Sixteen);
        assert_eq!(Palette::from_no_color(Some(OsStr::new(""))), Palette::Sixteen);
        assert_eq!(Palette::from_no_color(Some(OsStr::new("0"))), Palette::None);
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
