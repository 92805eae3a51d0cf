//! From a file to a [`Config`], or to every problem in it with its line and column.

use super::Config;
use super::section::Key;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// How alike two names must be for one to be suggested for the other, 0 to 1 (Jaro and Winkler's measure).
const ALIKE: f64 = 0.8;

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.message)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}", shown(path, problems))]
    Wrong {
        path: PathBuf,
        /// Not empty, in the order of the file.
        problems: Vec<Problem>,
    },
}

/// As compilers do: `file:line:column: what`, one a line.
fn shown(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\n")
}

/// Reads and checks a file.
///
/// # Errors
/// When it cannot be read, or anything in it is wrong.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_BYTES {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "more than one megabyte")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse(&text).map_err(|problems| ConfigError::Wrong { path: path.to_owned(), problems })
}

/// Checks a text.
///
/// # Errors
/// Every unknown key and every value that makes no sense, or the first that has the wrong type or is no TOML.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let table = DeTable::parse(text).map_err(|error| vec![syntax(text, &error)])?;
    let mut problems = Vec::new();
    unknown(text, table.get_ref(), &mut problems);
    if problems.is_empty() {
        match toml::from_str::<Config>(text) {
            Ok(config) => {
                problems.extend(config.wrong().into_iter().map(|wrong| {
                    let span = place(table.get_ref(), &wrong.path).unwrap_or(0..0);
                    let message = format!("`{}`: {}", wrong.path.join("."), wrong.message);
                    problem(text, span.start, message)
                }));
                if problems.is_empty() {
                    return Ok(config);
                }
            }
            Err(error) => problems.push(syntax(text, &error)),
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(problems)
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(0, |span| span.start);
    problem(text, at, without_value(error.message()).replace('\n', ", "))
}

/// `invalid type: string "...", expected a boolean` tells what was written, which may be a secret at the wrong place.
fn without_value(message: &str) -> String {
    match (message.split_once("string \""), message.rfind("\", expected ")) {
        (Some((before, _)), Some(after)) => format!("{before}string{}", &message[after + 1..]),
        _ => message.to_owned(),
    }
}

fn problem(text: &str, offset: usize, message: String) -> Problem {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Problem {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message,
    }
}

fn unknown(text: &str, file: &DeTable<'_>, problems: &mut Vec<Problem>) {
    let names: Vec<&str> = super::Config::SECTIONS.iter().map(|(name, ..)| *name).collect();
    for (section, value) in file {
        let name: &str = section.get_ref();
        let Some((_, _, keys)) = Config::SECTIONS.iter().find(|(known, ..)| *known == name) else {
            let hint = suggestion(name, &names);
            problems.push(problem(text, section.span().start, format!("unknown section `{name}`{hint}")));
            continue;
        };
        if let DeValue::Table(table) = value.get_ref() {
            unknown_keys(text, table, keys, problems);
        }
    }
}

fn unknown_keys(text: &str, table: &DeTable<'_>, keys: &[Key], problems: &mut Vec<Problem>) {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some(known) = keys.iter().find(|known| known.name == name) else {
            let hint = suggestion(name, &names);
            problems.push(problem(text, key.span().start, format!("unknown key `{name}`{hint}")));
            continue;
        };
        if let (Some(inner), DeValue::Array(list)) = (known.tables, value.get_ref()) {
            for entry in list {
                if let DeValue::Table(table) = entry.get_ref() {
                    unknown_keys(text, table, inner, problems);
                }
            }
        }
    }
}

fn suggestion(name: &str, known: &[&str]) -> String {
    let alike = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let best = known.iter().map(|known| (alike(known), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, known)) if score >= ALIKE => format!("; did you mean `{known}`?"),
        _ => format!("; known here: {}", known.join(", ")),
    }
}

/// Where the value at a path is; of the nearest table above it when it is not written down.
fn place(file: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let value: &Spanned<DeValue<'_>> = file.iter().find(|(key, _)| **key.get_ref() == **first)?.1;
    Some(below(value, rest).unwrap_or_else(|| value.span()))
}

fn below(value: &Spanned<DeValue<'_>>, path: &[String]) -> Option<Range<usize>> {
    let Some((first, rest)) = path.split_first() else { return Some(value.span()) };
    let next = match value.get_ref() {
        DeValue::Table(table) => table.iter().find(|(key, _)| **key.get_ref() == **first)?.1,
        DeValue::Array(list) => list.get(first.parse::<usize>().ok()?)?,
        _ => return None,
    };
    Some(below(next, rest).unwrap_or_else(|| next.span()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Patterns;

    fn problems(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn nothing_is_a_configuration() {
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(parse("[service]\n").unwrap(), Config::default());
    }

    #[test]
    fn values_are_taken() {
        let config = parse(
            "[collection]\nsampling_hz = 49\n[[discovery.include]]\nname = 'shop'\ncommand = '*shop*'\n\
             port = [80]\nenvironment = { A = ['1', '2'] }\n[[discovery.exclude]]\nuser = ['root']\n",
        )
        .unwrap();
        assert_eq!(config.collection.sampling_hz, 49);
        let [rule] = &config.discovery.include[..] else { panic!() };
        assert_eq!((rule.name.as_deref(), &rule.port[..]), (Some("shop"), &[80][..]));
        assert_eq!(rule.command, Patterns(vec!["*shop*".to_owned()]));
        assert_eq!(rule.environment["A"].0, ["1", "2"]);
        assert_eq!(config.discovery.exclude[0].user.0, ["root"]);
    }

    #[test]
    fn every_unknown_key_is_told_with_its_place_and_what_was_meant() {
        let text =
            "[service]\nsockett = 'x'\n\n[colection]\n\n[[discovery.include]]\n  comand = 'é'\nzz = 1\n";
        assert_eq!(
            problems(text),
            [
                "2:1: unknown key `sockett`; did you mean `socket`?",
                "4:2: unknown section `colection`; did you mean `collection`?",
                "7:3: unknown key `comand`; did you mean `command`?",
                "8:1: unknown key `zz`; known here: name, executable, command, cgroup, container, unit, user, port, \
                 environment",
            ]
        );
    }

    #[test]
    fn wrong_values_are_told_with_their_place() {
        let text = "[collection]\nsampling_hz = 0\nring_bytes = 5000\n[[discovery.include]]\nport = [1]\n\
                    [[discovery.include]]\nuser = ['a', 'b[']\n";
        let found = problems(text);
        assert_eq!(found[0], "2:15: `collection.sampling_hz`: not from 1 to 1000");
        assert!(found[1].starts_with("3:14: `collection.ring_bytes`"), "{found:?}");
        assert!(found[2].starts_with("7:8: `discovery.include.1.user`"), "{found:?}");
        let [wrong_type] = &problems("[service]\nenabled = 'yes'\n")[..] else { panic!() };
        assert!(wrong_type.starts_with("2:11: ") && wrong_type.contains("bool"), "{wrong_type}");
        let [syntax] = &problems("[service]\nenabled = \n")[..] else { panic!() };
        assert!(syntax.starts_with("2:"), "{syntax}");
        let [everything] = &problems("[[discovery.exclude]]\nname = 'x'\n")[..] else { panic!() };
        assert!(everything.contains("fits everything"), "{everything}");
    }

    #[test]
    fn what_stands_at_the_wrong_place_is_not_repeated() {
        let [wrong] = &problems("[otlp]\nheaders = 'Authorization: \"Bearer\", expected mark'\n")[..] else {
            panic!()
        };
        assert!(
            wrong.starts_with("2:11: invalid type: string, expected ") && !wrong.contains("mark"),
            "{wrong}"
        );
        let [wrong] = &problems("[otlp]\nslow_milliseconds = 'mark'\n")[..] else { panic!() };
        assert!(!wrong.contains("mark") && wrong.contains("expected"), "{wrong}");
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics() {
        for text in [
            "\u{0}",
            "[",
            "[service",
            "a.b.c = {",
            "[service]\nsocket = 1\n",
            "service = 3",
            "= 1",
            "[[service]]",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
