//! memcached's text protocol (`doc/protocol.txt` of memcached 1.6): classic and meta commands, in order. Values
//! are stepped over. The binary protocol is not read.

use super::calls::{CallResult, ended};
use super::{Call, Calls, Operation, Protocol, Wants, key};
use crate::transactions::http::Part;
use pyapm_model::line::SpanKind;
use std::collections::VecDeque;

/// Commands in flight on one connection.
const MOST_WAITING: usize = 4096;
/// Bytes of a line that are kept: a command with a key of at most 250 bytes and its numbers.
const KEPT_LINE: usize = 400;
/// Longest line that is followed; `get` takes any number of keys.
const LONGEST_LINE: u64 = 1 << 20;
const WANT: u32 = 2048;

/// Commands, and what answers them.
const COMMANDS: [(&str, Answer); 26] = [
    ("get", Answer::Values),
    ("gets", Answer::Values),
    ("gat", Answer::Values),
    ("gats", Answer::Values),
    ("set", Answer::Line),
    ("add", Answer::Line),
    ("replace", Answer::Line),
    ("append", Answer::Line),
    ("prepend", Answer::Line),
    ("cas", Answer::Line),
    ("delete", Answer::Line),
    ("incr", Answer::Line),
    ("decr", Answer::Line),
    ("touch", Answer::Line),
    ("mg", Answer::Line),
    ("ms", Answer::Line),
    ("md", Answer::Line),
    ("ma", Answer::Line),
    ("mn", Answer::Line),
    ("me", Answer::Line),
    ("flush_all", Answer::Line),
    ("version", Answer::Line),
    ("verbosity", Answer::Line),
    ("cache_memlimit", Answer::Line),
    ("stats", Answer::Values),
    ("quit", Answer::Nothing),
];
/// Commands whose value follows in a block of its own, and in which argument its length stands.
const WITH_VALUE: [(&str, usize); 7] =
    [("set", 4), ("add", 4), ("replace", 4), ("append", 4), ("prepend", 4), ("cas", 4), ("ms", 2)];
/// Commands whose first argument is no key.
const WITHOUT_KEY: [&str; 8] =
    ["flush_all", "version", "verbosity", "cache_memlimit", "stats", "quit", "mn", "me"];

/// What answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// One line, and the value that it announces.
    Line,
    /// Any number of lines and values, up to `END`.
    Values,
    Nothing,
}

#[derive(Debug, Default)]
pub struct Memcached {
    sent: Lines,
    received: Lines,
    waiting: VecDeque<Answer>,
    overflowed: bool,
    /// Values of the current answer.
    values: u64,
}

impl Protocol for Memcached {
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        if first && self.received.at == At::Lost {
            if !self.waiting.is_empty() {
                calls.push(Call::Lost);
            }
            self.closed(calls);
            self.received = Lines::default();
        }
        if first && self.sent.at == At::Lost && matches!(part, Part::Bytes(bytes) if begins(bytes)) {
            self.sent = Lines::default();
        }
        let mut lines = std::mem::take(&mut self.sent);
        let was_lost = lines.at == At::Lost;
        lines.follow(part, |line| self.asked(line, calls));
        if lines.at == At::Lost && !was_lost {
            calls.push(Call::Lost);
        }
        self.sent = lines;
    }

    fn received(&mut self, part: Part<'_>, _first: bool, calls: &mut Calls) {
        let mut lines = std::mem::take(&mut self.received);
        let was_lost = lines.at == At::Lost;
        lines.follow(part, |line| self.answered(line, calls));
        self.received = lines;
        if was_lost
            && let Part::Bytes(bytes) = part
            && bytes.ends_with(b"\r\nEND\r\n")
            && self.waiting == [Answer::Values]
        {
            // The last bytes of the only answer that is waited for.
            self.received = Lines::default();
            self.waiting.clear();
            self.values = 0;
            calls.push(ended(CallResult::default()));
        }
    }

    fn system(&self) -> &'static str {
        "memcached"
    }

    fn wants(&self) -> Wants {
        Wants { received: WANT, sent: WANT, indifferent_received: 0, indifferent_sent: 0, stacks: true }
    }

    fn closed(&mut self, calls: &mut Calls) {
        calls.extend(self.waiting.drain(..).map(|_| ended(CallResult::unseen())));
        (self.overflowed, self.values) = (false, 0);
    }
}

impl Memcached {
    /// One line of the client's; how many bytes follow it, or `None` when it is no command.
    fn asked(&mut self, line: &[u8], calls: &mut Calls) -> Option<u64> {
        let mut words = words(line);
        let command = std::str::from_utf8(words.next()?).ok()?;
        let (name, answer) = *COMMANDS.iter().find(|(name, _)| *name == command)?;
        let arguments: Vec<&[u8]> = words.take(8).collect();
        let value = match WITH_VALUE.iter().find(|(known, _)| *known == name) {
            Some((_, at)) => number(arguments.get(at - 1)?)?.checked_add(2)?,
            None => 0,
        };
        let quiet = arguments.last() == Some(&&b"noreply"[..]);
        let is_key = !WITHOUT_KEY.contains(&name);
        let at = usize::from(matches!(name, "gat" | "gats"));
        let target = arguments.get(at).filter(|_| is_key).map(|key| key::pattern(key));
        self.overflowed |= self.waiting.len() >= MOST_WAITING;
        if self.overflowed {
            calls.push(Call::Overflow);
            return Some(value);
        }
        if answer != Answer::Nothing {
            calls.push(Call::Began {
                tag: 0,
                operation: Operation::Command {
                    kind: SpanKind::Cache,
                    system: "memcached",
                    name: name.into(),
                    target,
                },
            });
            self.waiting.push_back(if quiet { Answer::Nothing } else { answer });
            self.end_quiet(calls);
        }
        Some(value)
    }

    /// Commands that nobody answers are over when they are sent; how they went, nobody says.
    fn end_quiet(&mut self, calls: &mut Calls) {
        while self.waiting.front() == Some(&Answer::Nothing) {
            self.waiting.pop_front();
            calls.push(ended(CallResult::unseen()));
        }
    }

    /// One line of the server's, as [`Self::asked`].
    fn answered(&mut self, line: &[u8], calls: &mut Calls) -> Option<u64> {
        let mut words = words(line);
        let word = words.next()?;
        let arguments: Vec<&[u8]> = words.take(4).collect();
        // `VALUE key flags bytes [unique]`, and `VA bytes flags` of the meta commands.
        let value = match word {
            b"VALUE" => number(arguments.get(2)?)?.checked_add(2)?,
            b"VA" => number(arguments.first()?)?.checked_add(2)?,
            _ => 0,
        };
        let error = match word {
            b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => Some(String::from_utf8_lossy(word).into_owned()),
            _ => None,
        };
        let front = *self.waiting.front()?;
        let is_over = error.is_some() || front == Answer::Line || word == b"END";
        self.values += u64::from(word == b"VALUE");
        if is_over {
            self.waiting.pop_front();
            let values = std::mem::take(&mut self.values);
            let rows = (front == Answer::Values && error.is_none()).then_some(values);
            calls.push(ended(CallResult { error, rows, ..CallResult::default() }));
            self.end_quiet(calls);
            self.overflowed &= !self.waiting.is_empty();
        }
        Some(value)
    }
}

/// Lines, and after some of them blocks of bytes whose length the line told.
#[derive(Debug, Default)]
struct Lines {
    at: At,
    line: Vec<u8>,
    length: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Line,
    /// In a value, so many bytes before the next line.
    Value(u64),
    Lost,
}

impl Lines {
    /// `each` gets each line and says how many bytes of a value follow it; `None` when it makes no sense.
    fn follow(&mut self, part: Part<'_>, mut each: impl FnMut(&[u8]) -> Option<u64>) {
        let mut bytes = match part {
            Part::Bytes(bytes) => bytes,
            Part::Absent(count) | Part::Lost(count) => {
                self.at = match self.at {
                    At::Value(rest) if count < rest => At::Value(rest - count),
                    At::Value(rest) if count == rest => At::Line,
                    _ => At::Lost,
                };
                return;
            }
        };
        while let Some(byte) = bytes.first() {
            match self.at {
                At::Lost => return,
                At::Value(rest) => {
                    let taken = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                    bytes = &bytes[taken..];
                    let rest = rest - taken as u64;
                    self.at = if rest == 0 { At::Line } else { At::Value(rest) };
                }
                At::Line => {
                    bytes = &bytes[1..];
                    self.length += 1;
                    if *byte != b'\n' {
                        if self.line.len() < KEPT_LINE {
                            self.line.push(*byte);
                        } else if self.length > LONGEST_LINE {
                            self.at = At::Lost;
                        }
                        continue;
                    }
                    let line = std::mem::take(&mut self.line);
                    self.length = 0;
                    self.at = match each(line.strip_suffix(b"\r").unwrap_or(&line)) {
                        Some(0) => At::Line,
                        Some(value) => At::Value(value),
                        None => At::Lost,
                    };
                }
            }
        }
    }
}

/// Whether a client's bytes begin a command: a word that is one, and a key or the end of the line.
#[must_use]
pub fn begins(head: &[u8]) -> bool {
    let end = head.iter().take(KEPT_LINE).position(|byte| *byte == b'\n');
    let Some(line) = end.and_then(|end| head[..end].strip_suffix(b"\r")) else { return false };
    let mut words = words(line);
    let command = words.next().and_then(|word| std::str::from_utf8(word).ok());
    let Some(command) = command.filter(|command| COMMANDS.iter().any(|(name, _)| name == command)) else {
        return false;
    };
    let numbers = match WITH_VALUE.iter().find(|(name, _)| *name == command) {
        Some((_, at)) => words.nth(at - 1).is_some_and(|length| number(length).is_some()),
        None => words.next().is_some() || WITHOUT_KEY.contains(&command),
    };
    numbers && line.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

fn number(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.len() < 16 && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        for command in
            ["get a b\r\n", "set k 0 0 5\r\nhello\r\n", "version\r\n", "mg k v\r\n", "cas k 0 0 5 7\r\n"]
        {
            assert!(begins(command.as_bytes()), "{command}");
        }
        for other in ["get\r\n", "set k\r\n", "GET / HTTP/1.1\r\n", "get a", "hello you\r\n", ""] {
            assert!(!begins(other.as_bytes()), "{other}");
        }
    }
}
