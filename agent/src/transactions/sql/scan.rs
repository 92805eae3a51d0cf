//! Lexemes by a plain scan that takes any text whatever, and prefers to leave out the rest of a statement
//! over letting a value through.
//!
//! Where a string ends depends on `sql_mode` (`NO_BACKSLASH_ESCAPES`), which nobody tells us. The scan
//! reads backslashes as escapes, MySQL's default. When that is wrong, quotes pair up wrongly from the
//! first `\'` on, and it shows: a backslash outside of strings, a word stuck to a closing quote, or a
//! string that never ends. Each of these makes the scan keep only what came before.

use super::dialect::Dialect;
use super::lexeme::{Lexeme, Lexemes};
use std::borrow::Cow;

/// Operators of more than one character, longest first.
const OPERATORS: [&str; 14] =
    ["<=>", "::", "->>", "<=", ">=", "<>", "!=", ":=", "||", "&&", "<<", ">>", "->", "@@"];

/// Cuts `text` into lexemes. `whole` is false when the text goes on beyond what was captured.
pub fn lexemes(text: &str, whole: bool, dialect: Dialect) -> Lexemes<'_> {
    let mut scan = Scan {
        text,
        dialect,
        at: 0,
        list: Vec::new(),
        first_string: None,
        first_escaped: None,
        escape_string: false,
    };
    let ended = scan.run();
    let Scan { mut list, first_string, first_escaped, .. } = scan;
    let keep = match ended {
        End::Whole if whole => None,
        // Cut inside or outside a string: a wrong pairing would not show.
        End::Whole | End::InString if !whole => first_escaped,
        End::Whole => None,
        End::InString => first_escaped.or(first_string),
        End::Suspicious => Some(first_escaped.unwrap_or(list.len())),
    };
    if let Some(keep) = keep {
        let had_literal = keep < list.len();
        list.truncate(keep);
        if had_literal {
            list.push(Lexeme::Literal);
        }
    }
    Lexemes { list, cut: keep.is_some() || !whole }
}

enum End {
    Whole,
    InString,
    Suspicious,
}

struct Scan<'a> {
    text: &'a str,
    dialect: Dialect,
    at: usize,
    list: Vec<Lexeme<'a>>,
    /// Index in `list` of the first string, and of the first that holds a backslash before a quote.
    first_string: Option<usize>,
    first_escaped: Option<usize>,
    /// The string that follows is one of `E'...'`.
    escape_string: bool,
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> End {
        let mut in_hint = false;
        let mut after_string = false;
        while let Some(next) = self.rest().chars().next() {
            let stuck = std::mem::take(&mut after_string);
            let bytes = self.rest().as_bytes();
            match next {
                _ if next.is_whitespace() || next.is_control() => self.at += next.len_utf8(),
                '\\' => return End::Suspicious,
                '*' if in_hint && bytes.starts_with(b"*/") => {
                    in_hint = false;
                    self.at += 2;
                }
                '/' if bytes.starts_with(b"/*!") => {
                    // Run by the server: SQL like the rest, after an optional version number.
                    in_hint = true;
                    let version = bytes[3..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    self.at += 3 + version;
                }
                '/' if bytes.starts_with(b"/*") => {
                    self.at = self
                        .rest()
                        .get(2..)
                        .and_then(|rest| rest.find("*/"))
                        .map_or(self.text.len(), |end| self.at + 2 + end + 2);
                }
                '#' if self.dialect == Dialect::Mysql => self.skip_line(),
                '-' if bytes.starts_with(b"--") && bytes.get(2).is_none_or(u8::is_ascii_whitespace) => {
                    self.skip_line();
                }
                '"' if self.dialect.quotes_names() => {
                    if !self.quoted('"') {
                        return End::Suspicious;
                    }
                }
                '$' if self.dialect == Dialect::Postgresql && self.dollar_tag().is_some() => {
                    if !self.dollar_string() {
                        return End::InString;
                    }
                    after_string = true;
                }
                '\'' | '"' => {
                    if !self.string(next) {
                        return End::InString;
                    }
                    after_string = true;
                }
                '`' => {
                    if !self.quoted('`') {
                        return End::Suspicious;
                    }
                }
                '?' => self.one(Lexeme::Literal),
                '0'..='9' | '.' if self.starts_number() => {
                    if stuck {
                        return End::Suspicious;
                    }
                    self.number();
                }
                _ if is_word(next) => {
                    if stuck {
                        return End::Suspicious;
                    }
                    self.word();
                }
                _ => self.operator(),
            }
        }
        End::Whole
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn one(&mut self, lexeme: Lexeme<'a>) {
        self.list.push(lexeme);
        self.at += 1;
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// A string from its opening quote; whether it ended.
    fn string(&mut self, quote: char) -> bool {
        let index = self.list.len();
        self.first_string.get_or_insert(index);
        self.list.push(Lexeme::Literal);
        let quote = quote as u8;
        let bytes = self.text.as_bytes();
        let escapes = self.dialect.escapes() || std::mem::take(&mut self.escape_string);
        let mut at = self.at + 1;
        while let Some(byte) = bytes.get(at) {
            match *byte {
                b'\\' => {
                    if matches!(bytes.get(at + 1), Some(b'\'' | b'"')) {
                        self.first_escaped.get_or_insert(index);
                    }
                    at += if escapes { 2 } else { 1 };
                }
                byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
                byte if byte == quote => {
                    self.at = at + 1;
                    return true;
                }
                _ => at += 1,
            }
        }
        self.at = self.text.len();
        false
    }

    /// The tag at the start of a string between dollars: `$$`, `$tag$`.
    fn dollar_tag(&self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest.get(1..)?.find('$')? + 2;
        let tag = rest.get(..end)?;
        let name = &tag[1..end - 1];
        let valid = !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|next| next.is_alphanumeric() || next == '_');
        valid.then_some(tag)
    }

    /// A string between dollars; whether it ended.
    fn dollar_string(&mut self) -> bool {
        let Some(tag) = self.dollar_tag() else { return false };
        self.first_string.get_or_insert(self.list.len());
        self.list.push(Lexeme::Literal);
        let from = self.at + tag.len();
        let end = self.text.get(from..).and_then(|rest| rest.find(tag));
        self.at = end.map_or(self.text.len(), |end| from + end + tag.len());
        end.is_some()
    }

    /// An identifier in quotes of its own; whether it ended.
    fn quoted(&mut self, quote: char) -> bool {
        let quote = quote as u8;
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at) {
                None => return false,
                Some(byte) if *byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
                Some(byte) if *byte == quote => break,
                Some(_) => at += 1,
            }
        }
        let text = self.text.get(self.at..=at).unwrap_or_default();
        let text = if text.contains(char::is_control) {
            Cow::Owned(text.replace(char::is_control, " "))
        } else {
            Cow::Borrowed(text)
        };
        self.list.push(Lexeme::Quoted(text));
        self.at = at + 1;
        true
    }

    /// A digit, or a point with one behind it that does not belong to a name before it.
    fn starts_number(&self) -> bool {
        let bytes = self.rest().as_bytes();
        let after_name = matches!(self.list.last(), Some(Lexeme::Word(_) | Lexeme::Quoted(_)));
        bytes[0] != b'.' || (!after_name && bytes.get(1).is_some_and(u8::is_ascii_digit))
    }

    /// A number of any kind, with whatever letters stick to it.
    fn number(&mut self) {
        let bytes = self.rest().as_bytes();
        let mut length = 0;
        while let Some(byte) = bytes.get(length) {
            let sign = matches!(byte, b'+' | b'-')
                && length > 0
                && matches!(bytes[length - 1], b'e' | b'E')
                && bytes.get(length + 1).is_some_and(u8::is_ascii_digit)
                && bytes[..length - 1].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$') || sign) {
                break;
            }
            length += 1;
        }
        self.at += length;
        self.list.push(Lexeme::Literal);
    }

    /// A word; when a string follows at once and the word is its introducer (`x'..'`, `_utf8'..'`), it
    /// belongs to the string.
    fn word(&mut self) {
        let rest = self.rest();
        // `user@host` is one word to the tokenizer too.
        let length = rest.find(|next| !is_word(next) && next != '@').unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        // MySQL's own identifiers need no dollar in front; what looks like Postgres's `$tag$` may be a value.
        if word.starts_with('$') {
            self.list.push(Lexeme::Literal);
            return;
        }
        let quote_follows = matches!(rest.as_bytes().get(length), Some(b'\'' | b'"'));
        let letter = word.to_ascii_lowercase();
        let escape = self.dialect == Dialect::Postgresql && quote_follows && letter == "e";
        self.escape_string = escape;
        let introducer = escape || word.starts_with('_') || ["x", "b", "n"].contains(&letter.as_str());
        if !(quote_follows && introducer) {
            self.list.push(Lexeme::Word(Cow::Borrowed(word)));
        }
    }

    fn operator(&mut self) {
        let rest = self.rest();
        let known = OPERATORS.iter().find(|operator| rest.starts_with(**operator)).map(|known| known.len());
        let length = known.unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
        self.list.push(Lexeme::Symbol(Cow::Borrowed(rest.get(..length).unwrap_or_default())));
        self.at += length;
    }
}

fn is_word(next: char) -> bool {
    next.is_alphanumeric() || matches!(next, '_' | '$')
}
