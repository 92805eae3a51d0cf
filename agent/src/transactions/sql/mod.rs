//! SQL without its values: what a statement does, never to whom.
//!
//! Text is cut into lexemes by sqlparser's tokenizer, or, where that gives up or the text cannot be
//! trusted, by a scanner of our own that never fails; one renderer then writes the normal form. Nothing
//! here parses SQL: broken statements are normalised like any other.

mod dialect;
mod lexeme;
mod render;
mod scan;
mod statements;
mod summary;
mod tokens;

pub use dialect::Dialect;
pub use statements::{Mode, Normalised, Statements, normalise};

#[cfg(test)]
mod tests;
