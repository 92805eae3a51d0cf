//! Lexemes by sqlparser's tokenizer, in the statement's dialect.

use super::dialect::Dialect;
use super::lexeme::{Lexeme, Lexemes};
use sqlparser::dialect::{self, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::tokenizer::{Token, Tokenizer};
use std::borrow::Cow;

/// `None` when the tokenizer refuses the text, or when its reading shows that strings may have been cut
/// in the wrong places (another `sql_mode` than the tokenizer believes in): see `scan`.
pub fn lexemes(text: &str, dialect: Dialect) -> Option<Lexemes<'static>> {
    let rules: &dyn dialect::Dialect = match dialect {
        Dialect::Mysql => &MySqlDialect {},
        Dialect::Postgresql => &PostgreSqlDialect {},
        Dialect::Sqlite => &SQLiteDialect {},
    };
    let tokens = Tokenizer::new(rules, text).with_unescape(false).tokenize().ok()?;
    let mut list = Vec::with_capacity(tokens.len());
    let mut after_string = false;
    for token in tokens {
        let lexeme = match token {
            Token::EOF => break,
            // A string that runs into a word, and a backslash outside of strings: not SQL.
            Token::Word(_) | Token::Number(..) if after_string => return None,
            Token::Backslash | Token::Char('\\' | '\'' | '"' | '`') => return None,
            Token::Whitespace(_) => None,
            Token::Word(word) => Some(match word.quote_style {
                Some('`') => {
                    let name = word.value.replace(char::is_control, " ");
                    Lexeme::Quoted(Cow::Owned(format!("`{name}`")))
                }
                Some('"') if dialect.quotes_names() => {
                    let name = word.value.replace(char::is_control, " ");
                    Lexeme::Quoted(Cow::Owned(format!("\"{name}\"")))
                }
                Some(_) => return None,
                // Such as `2024abc` or `0X1F`: rather a value too many than one that leaks.
                None if word.value.starts_with(|first: char| first.is_ascii_digit()) => Lexeme::Literal,
                None if word.value.starts_with('$') => Lexeme::Literal,
                None if word.value.starts_with('@') => {
                    // A variable's marks are part of the word here; the scanner has them apart.
                    let name = word.value.trim_start_matches('@');
                    let marks = &word.value[..word.value.len() - name.len()];
                    list.push(Lexeme::Symbol(Cow::Owned(marks.to_owned())));
                    if name.is_empty() {
                        after_string = false;
                        continue;
                    }
                    Lexeme::Word(Cow::Owned(name.to_owned()))
                }
                None => Lexeme::Word(Cow::Owned(word.value)),
            }),
            Token::Number(..) | Token::Placeholder(_) | Token::Question => Some(Lexeme::Literal),
            Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_) => {
                list.push(Lexeme::Literal);
                after_string = true;
                continue;
            }
            Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
                if dialect == Dialect::Postgresql =>
            {
                list.push(Lexeme::Literal);
                after_string = true;
                continue;
            }
            // Kinds of strings that the dialect does not have: the scanner knows better what this is.
            Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::CustomBinaryOperator(_) => return None,
            Token::Char(other) if other.is_control() => None,
            symbol => Some(Lexeme::Symbol(Cow::Owned(symbol.to_string()))),
        };
        after_string = false;
        list.extend(lexeme);
    }
    Some(Lexemes { list, cut: false })
}
