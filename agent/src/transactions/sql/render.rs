//! The normal form of a statement: one spacing, lists of values collapsed, rows of `VALUES` after the
//! first left out. Letters keep their case.

use super::lexeme::{Lexeme, Lexemes};
use std::borrow::Cow;

/// Bytes of a normalised text that are kept.
const LONGEST: usize = 8 * 1024;

/// Words after which a minus belongs to the number behind it.
const BEFORE_VALUE: [&str; 24] = [
    "SELECT", "WHERE", "AND", "OR", "XOR", "NOT", "BETWEEN", "LIKE", "IN", "IS", "LIMIT", "OFFSET", "SET",
    "VALUES", "VALUE", "CASE", "WHEN", "THEN", "ELSE", "RETURN", "BY", "ON", "HAVING", "INTERVAL",
];

/// Joins what belongs to one value: charset introducers, signs, names of savepoints.
pub fn simplify(lexemes: &mut Lexemes<'_>) {
    let list = std::mem::take(&mut lexemes.list);
    let savepoints = names_savepoint(&list);
    let cursors = Cursors::of(&list);
    for lexeme in list {
        let done = &mut lexemes.list;
        match &lexeme {
            Lexeme::Literal => {
                if matches!(done.last(), Some(Lexeme::Word(word)) if word.starts_with('_')) {
                    done.pop();
                }
                while matches!(done.last(), Some(Lexeme::Symbol(sign)) if sign == "-" || sign == "+")
                    && takes_value(done.iter().rev().nth(1))
                {
                    done.pop();
                }
                done.push(Lexeme::Literal);
            }
            // Frameworks make these up, one per request.
            Lexeme::Word(_) | Lexeme::Quoted(_)
                if savepoints
                    && done.last().is_some_and(|last| last.is_word("SAVEPOINT") || last.is_word("TO"))
                    && !lexeme.is_word("SAVEPOINT") =>
            {
                done.push(Lexeme::Literal);
            }
            Lexeme::Word(_) | Lexeme::Quoted(_) if cursors.names(done, &lexeme) => done.push(Lexeme::Literal),
            _ => done.push(lexeme),
        }
    }
}

/// Where a statement names a cursor, whose name is made up like a savepoint's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cursors {
    None,
    /// `DECLARE name`, `CLOSE name`.
    Second,
    /// `FETCH ... FROM name`.
    AfterFrom,
}

impl Cursors {
    fn of(list: &[Lexeme<'_>]) -> Self {
        match list.first() {
            Some(first) if first.is_word("DECLARE") || first.is_word("CLOSE") => Self::Second,
            Some(first) if first.is_word("FETCH") || first.is_word("MOVE") => Self::AfterFrom,
            _ => Self::None,
        }
    }

    fn names(self, before: &[Lexeme<'_>], lexeme: &Lexeme<'_>) -> bool {
        match self {
            Self::None => false,
            Self::Second => before.len() == 1 && !lexeme.is_word("ALL"),
            Self::AfterFrom => before.last().is_some_and(|last| last.is_word("FROM") || last.is_word("IN")),
        }
    }
}

/// A number that is the same for a statement however its names are quoted and its letters written: MySQL's
/// `` `Users` ``, PostgreSQL's `"users"` and a bare `users` are one. FNV-1a (Fowler, Noll, Vo), stable over
/// versions and machines.
#[must_use]
pub fn digest(rendered: &str) -> u64 {
    rendered.bytes().filter(|byte| !matches!(byte, b'`' | b'"')).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn names_savepoint(list: &[Lexeme<'_>]) -> bool {
    list.first().is_some_and(|first| {
        first.is_word("SAVEPOINT") || first.is_word("RELEASE") || first.is_word("ROLLBACK")
    })
}

/// Whether a sign after this is a value's own.
fn takes_value(before: Option<&Lexeme<'_>>) -> bool {
    match before {
        None => true,
        Some(Lexeme::Symbol(symbol)) => symbol != ")",
        Some(Lexeme::Word(word)) => BEFORE_VALUE.iter().any(|known| word.eq_ignore_ascii_case(known)),
        Some(Lexeme::Quoted(_) | Lexeme::Literal) => false,
    }
}

/// Writes the normal form.
pub fn render(lexemes: &Lexemes<'_>) -> String {
    let list = &lexemes.list;
    let mut text = String::with_capacity(list.len() * 6);
    let mut before: Option<&Lexeme<'_>> = None;
    let mut at = 0;
    while let Some(lexeme) = list.get(at) {
        if text.len() > LONGEST {
            break;
        }
        at += 1;
        if spaced(before, lexeme) || lexeme.is_symbol("(") && names_table(&list[..at - 1]) {
            text.push(' ');
        }
        push(&mut text, lexeme);
        before = Some(lexeme);
        if lexeme.is_word("IN")
            && let Some(end) = list_of_values(list, at, lexemes.cut)
        {
            text.push_str(if end.closed { " (?)" } else { " (?" });
            at = end.at;
            before = list.get(at - 1);
        } else if lexeme.is_word("VALUES") || lexeme.is_word("VALUE") {
            let first = group(list, at);
            let rest = rows(list, first);
            for row in &list[at..first] {
                if spaced(before, row) {
                    text.push(' ');
                }
                push(&mut text, row);
                before = Some(row);
            }
            at = rest;
        }
    }
    if lexemes.cut || text.len() > LONGEST {
        let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn push(text: &mut String, lexeme: &Lexeme<'_>) {
    match lexeme {
        Lexeme::Literal => text.push('?'),
        Lexeme::Word(part) | Lexeme::Quoted(part) | Lexeme::Symbol(part) => text.push_str(part),
    }
}

/// Whether a blank stands between two lexemes.
fn spaced(before: Option<&Lexeme<'_>>, lexeme: &Lexeme<'_>) -> bool {
    let Some(before) = before else { return false };
    match (before, lexeme) {
        (_, Lexeme::Symbol(symbol)) if matches!(&**symbol, "," | ")" | "." | ";") => false,
        (Lexeme::Symbol(symbol), _) if matches!(&**symbol, "(" | "." | "@" | "@@" | "::") => false,
        (_, Lexeme::Symbol(symbol)) if symbol == "::" => false,
        // A function's name and its arguments; keywords keep their blank.
        (Lexeme::Word(word), Lexeme::Symbol(symbol)) if symbol == "(" => {
            BEFORE_PARENTHESIS.iter().any(|known| word.eq_ignore_ascii_case(known))
        }
        _ => true,
    }
}

/// Whether the list ends in a table's name, whose columns may follow in parentheses.
fn names_table(list: &[Lexeme<'_>]) -> bool {
    let before =
        ["INTO", "TABLE", "EXISTS", "REFERENCES", "ON", "INSERT", "REPLACE", "IGNORE", "VIEW", "COPY"];
    let name = match list {
        [start @ .., Lexeme::Word(_) | Lexeme::Quoted(_), dot, Lexeme::Word(_)] if dot.is_symbol(".") => {
            start
        }
        [start @ .., Lexeme::Word(_)] => start,
        _ => return false,
    };
    name.last().is_some_and(|last| before.iter().any(|word| last.is_word(word)))
}

/// Words that are not functions although a parenthesis may follow.
const BEFORE_PARENTHESIS: [&str; 37] = [
    "SELECT",
    "FROM",
    "WHERE",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "IN",
    "EXISTS",
    "ON",
    "USING",
    "VALUES",
    "VALUE",
    "AS",
    "BY",
    "HAVING",
    "UNION",
    "ALL",
    "ANY",
    "SOME",
    "INTERSECT",
    "EXCEPT",
    "JOIN",
    "WHEN",
    "THEN",
    "ELSE",
    "CASE",
    "SET",
    "BETWEEN",
    "LIKE",
    "OVER",
    "KEY",
    "INDEX",
    "DISTINCT",
    "COPY",
    "STDIN",
    "STDOUT",
];

struct ListEnd {
    at: usize,
    closed: bool,
}

/// The end of a parenthesised list of nothing but values (rows of values included) that starts at `at`.
fn list_of_values(list: &[Lexeme<'_>], at: usize, cut: bool) -> Option<ListEnd> {
    if !list.get(at)?.is_symbol("(") {
        return None;
    }
    let (mut depth, mut values) = (0usize, 0usize);
    for (index, lexeme) in list.iter().enumerate().skip(at) {
        match lexeme {
            Lexeme::Symbol(symbol) => match &**symbol {
                "(" => depth += 1,
                ")" if depth == 1 => {
                    return (values > 0).then_some(ListEnd { at: index + 1, closed: true });
                }
                ")" => depth -= 1,
                "," => {}
                _ => return None,
            },
            Lexeme::Literal => values += 1,
            Lexeme::Word(Cow::Borrowed("NULL" | "null" | "TRUE" | "FALSE" | "true" | "false")) => values += 1,
            Lexeme::Word(Cow::Owned(word))
                if ["NULL", "TRUE", "FALSE"].iter().any(|known| word.eq_ignore_ascii_case(known)) =>
            {
                values += 1;
            }
            _ => return None,
        }
    }
    (cut && values > 0).then_some(ListEnd { at: list.len(), closed: false })
}

/// The index after the parenthesised group that starts at `at`; `at` when none does.
fn group(list: &[Lexeme<'_>], at: usize) -> usize {
    if !list.get(at).is_some_and(|first| first.is_symbol("(")) {
        return at;
    }
    let mut depth = 0usize;
    for (index, lexeme) in list.iter().enumerate().skip(at) {
        if lexeme.is_symbol("(") {
            depth += 1;
        } else if lexeme.is_symbol(")") {
            depth -= 1;
            if depth == 0 {
                return index + 1;
            }
        }
    }
    list.len()
}

/// The index after all further rows (`, (...)`).
fn rows(list: &[Lexeme<'_>], mut at: usize) -> usize {
    while list.get(at).is_some_and(|comma| comma.is_symbol(",")) {
        let end = group(list, at + 1);
        if end == at + 1 {
            // A comma at the very end of cut text belongs to a row that is not there.
            return if end == list.len() { end } else { at };
        }
        at = end;
    }
    at
}
