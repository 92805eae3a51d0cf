//! The pieces that both ways of reading SQL agree on.

use std::borrow::Cow;

/// A piece of a statement. Values have no text: it is gone from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lexeme<'a> {
    /// Keyword or bare identifier.
    Word(Cow<'a, str>),
    /// Identifier in backticks or double quotes, which are part of the text.
    Quoted(Cow<'a, str>),
    Literal,
    Symbol(Cow<'a, str>),
}

impl Lexeme<'_> {
    #[must_use]
    pub fn is_word(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    #[must_use]
    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self, Self::Symbol(text) if text == symbol)
    }

    /// The identifier that this is, without its quotes.
    #[must_use]
    pub fn identifier(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Quoted(text) => Some(text.trim_matches(['`', '"'])),
            Self::Literal | Self::Symbol(_) => None,
        }
    }
}

/// A statement cut into lexemes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexemes<'a> {
    pub list: Vec<Lexeme<'a>>,
    /// The rest is left out: it was not captured, or could not be trusted to hold no values.
    pub cut: bool,
}
