//! A Rust file as the rules see it: its lines, and the same with comments and literals blanked, so that a word in a
//! sentence is not taken for code. It is a lexer of just so much of Rust.

use std::iter::Peekable;
use std::str::Chars;

/// A file of the workspace.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the root, with slashes.
    pub path: String,
    pub text: String,
    /// As long in lines as `text`; comments, strings and characters are blanks.
    pub code: String,
}

impl Source {
    /// Reads nothing: the text is handed in.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// Where a word stands in the code as a whole word: line numbers from 1, and what follows it on its line.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        (1..).zip(self.code.lines()).flat_map(move |(number, line)| {
            whole_words(line, word).into_iter().map(move |place| (number, &line[place + word.len()..]))
        })
    }
}

/// Byte offsets in `line` at which `word` stands by itself.
fn whole_words(line: &str, word: &str) -> Vec<usize> {
    let part_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word)
        .map(|(place, _)| place)
        .filter(|place| {
            !line[..*place].ends_with(part_of_name) && !line[place + word.len()..].starts_with(part_of_name)
        })
        .collect()
}

/// Replaces comments and literals by blanks; line ends stay.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut previous = ' ';
    while let Some(letter) = rest.next() {
        let raw = letter == 'r' && !previous.is_alphanumeric() && matches!(rest.peek(), Some('"' | '#'));
        match letter {
            '/' if rest.peek() == Some(&'/') => line_comment(&mut rest),
            '/' if rest.peek() == Some(&'*') => block_comment(&mut rest, &mut code),
            '"' => string(&mut rest, &mut code),
            'r' if raw => raw_string(&mut rest, &mut code),
            '\'' => character(&mut rest, &mut code),
            _ => code.push(letter),
        }
        previous = letter;
    }
    code
}

fn line_comment(rest: &mut Peekable<Chars<'_>>) {
    while rest.peek().is_some_and(|letter| *letter != '\n') {
        rest.next();
    }
}

fn block_comment(rest: &mut Peekable<Chars<'_>>, code: &mut String) {
    let mut depth = 1;
    let mut before = ' ';
    rest.next();
    while depth > 0 {
        let Some(letter) = rest.next() else { return };
        match (before, letter) {
            ('*', '/') => depth -= 1,
            ('/', '*') => depth += 1,
            (_, '\n') => code.push('\n'),
            _ => {}
        }
        // "*/*" is an end and a star, not an end and a beginning.
        before = if matches!((before, letter), ('*', '/') | ('/', '*')) { ' ' } else { letter };
    }
}

fn string(rest: &mut Peekable<Chars<'_>>, code: &mut String) {
    code.push(' ');
    while let Some(letter) = rest.next() {
        match letter {
            '"' => return,
            '\n' => code.push('\n'),
            // What is escaped ends nothing; an escaped end of line is still one.
            '\\' if rest.next() == Some('\n') => code.push('\n'),
            _ => {}
        }
    }
}

fn raw_string(rest: &mut Peekable<Chars<'_>>, code: &mut String) {
    let mut marks = 0;
    while rest.peek() == Some(&'#') {
        rest.next();
        marks += 1;
    }
    if rest.peek() != Some(&'"') {
        // `r#type`: a name, not a string.
        code.push(' ');
        return;
    }
    rest.next();
    let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', marks)).collect();
    let mut seen = String::new();
    for letter in rest.by_ref() {
        if letter == '\n' {
            code.push('\n');
        }
        seen.push(letter);
        if seen.ends_with(&end) {
            return;
        }
    }
}

/// A character's literal, or the mark of a lifetime, which stays.
fn character(rest: &mut Peekable<Chars<'_>>, code: &mut String) {
    let mut ahead = rest.clone();
    match (ahead.next(), ahead.next()) {
        (Some('\\'), _) => {
            rest.next();
            rest.next();
            while rest.next().is_some_and(|letter| letter != '\'') {}
            code.push(' ');
        }
        (Some(_), Some('\'')) => {
            rest.next();
            rest.next();
            code.push(' ');
        }
        _ => code.push('\''),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_blank_and_lines_stay() {
        let text = "let a = \"aya::\"; // aya::\n/* aya::\n /* aya:: */ */ let b = 'a'; let c: &'a str = r#\"aya::\"#;\n";
        let source = Source::new("x.rs", text);
        assert!(!source.code.contains("aya"), "{}", source.code);
        assert!(source.code.contains("let c: &'a str"), "{}", source.code);
        assert_eq!(source.code.lines().count(), text.lines().count());
    }

    #[test]
    fn strings_over_several_lines_keep_their_number() {
        let text = "let a = \"one\\\n two\n three\";\nuse aya::Ebpf;\n";
        let source = Source::new("x.rs", text);
        assert_eq!(source.words("aya").map(|(line, _)| line).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn words_are_whole() {
        let source = Source::new("x.rs", "use aya_ebpf::x;\nuse aya::y;\n");
        assert_eq!(source.words("aya").collect::<Vec<_>>(), [(2, "::y;")]);
    }

    #[test]
    fn escaped_quotes_do_not_end_a_literal() {
        let source = Source::new("x.rs", "let a = '\\''; let b = \"\\\"aya\"; let c = '\"'; aya::d();");
        assert_eq!(source.words("aya").count(), 1, "{}", source.code);
    }
}
