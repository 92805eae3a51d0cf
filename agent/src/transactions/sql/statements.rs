//! Normalised statements, and a bounded memory of them: applications run the same few over and over.

use super::dialect::Dialect;
use super::lexeme::Lexemes;
use super::{render, scan, summary, tokens};
use foldhash::{HashMap, HashMapExt};
use smol_str::SmolStr;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// A statement without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The text, values replaced by `?`; ends in `...` when the rest is left out.
    pub text: SmolStr,
    /// Operation and main table, low-cardinality.
    pub name: SmolStr,
    /// Equal for statements that differ only in their values, their spacing, the case of their letters and
    /// how their names are quoted.
    pub digest: u64,
    /// The text is the statement's, and not only a stand-in for people.
    pub shown: bool,
    /// sqlparser's tokenizer would not have it, or could not be asked.
    pub scanned: bool,
}

/// Normalises one statement. `text` are the first bytes of `text_len`.
#[must_use]
pub fn normalise(text: &[u8], text_len: u32, dialect: Dialect) -> Normalised {
    let whole = text.len() as u64 >= u64::from(text_len);
    let text = String::from_utf8_lossy(text);
    // The tokenizer refuses a text that ends inside a string, and cannot tell when it should not be
    // believed: cut texts are the scanner's.
    let tokenized = if whole { tokens::lexemes(&text, dialect) } else { None };
    let scanned = tokenized.is_none();
    let mut lexemes: Lexemes<'_> = tokenized.unwrap_or_else(|| scan::lexemes(&text, whole, dialect));
    render::simplify(&mut lexemes);
    let text = render::render(&lexemes);
    let digest = render::digest(&text);
    Normalised {
        text: text.into(),
        digest,
        name: summary::summary(&lexemes.list).into(),
        shown: true,
        scanned,
    }
}

/// How much of a statement is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// That there was one.
    Off,
    /// Its operation and main table.
    Operation,
    /// Its text without its values.
    #[default]
    Digest,
    /// Its text as it was sent.
    Verbatim,
}

impl Mode {
    fn apply(self, normalised: Normalised, text: &[u8], text_len: u32) -> Normalised {
        match self {
            Self::Digest => normalised,
            Self::Operation => Normalised { text: normalised.name.clone(), shown: false, ..normalised },
            Self::Off => Normalised { text: "SQL".into(), name: "SQL".into(), shown: false, ..normalised },
            Self::Verbatim => {
                // A terminal must not obey what a statement holds.
                let mut whole = String::from_utf8_lossy(text).replace(|next: char| next.is_control(), " ");
                if (text.len() as u64) < u64::from(text_len) {
                    whole.push_str("...");
                }
                Normalised { text: whole.into(), ..normalised }
            }
        }
    }
}

/// Remembers normal forms by a keyed hash of the raw text, which itself is not kept. Two generations
/// stand in for a least-recently-used list: what was not asked for during a whole generation goes.
#[derive(Debug)]
pub struct Statements {
    hasher: RandomState,
    young: HashMap<u64, Arc<Normalised>>,
    old: HashMap<u64, Arc<Normalised>>,
    most: usize,
    mode: Mode,
}

impl Statements {
    /// Remembers at most `most` statements.
    #[must_use]
    pub fn new(most: usize, mode: Mode) -> Self {
        Self { hasher: RandomState::new(), young: HashMap::new(), old: HashMap::new(), most, mode }
    }

    /// A key of the raw text that is good for this process's life only.
    #[must_use]
    pub fn key(&self, text: &[u8], text_len: u32, dialect: Dialect) -> u64 {
        self.hasher.hash_one((text, text_len, dialect))
    }

    /// The normal form, and whether it had to be worked out.
    pub fn get(&mut self, key: u64, text: &[u8], text_len: u32, dialect: Dialect) -> (Arc<Normalised>, bool) {
        if let Some(known) = self.young.get(&key) {
            return (Arc::clone(known), false);
        }
        let (normalised, fresh) = match self.old.remove(&key) {
            Some(known) => (known, false),
            None => (Arc::new(self.mode.apply(normalise(text, text_len, dialect), text, text_len)), true),
        };
        if self.young.len() >= (self.most / 2).max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Arc::clone(&normalised));
        (normalised, fresh)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
