//! Commands as clients send them: arrays of strings that say their lengths.

use super::commands::LONGEST_WORD;
use super::task;
use crate::transactions::http::Part;

/// Arguments of a command that are looked at: those of `EVAL` up to its first key.
const KEPT_ARGUMENTS: usize = 4;
/// Bytes of each that are kept.
const KEPT_BYTES: usize = 160;
/// Longest line between strings: a mark and a length.
const LONGEST_LINE: usize = 24;

#[derive(Debug, Default)]
pub struct Requests {
    at: At,
    line: Vec<u8>,
    /// Arguments still to come.
    left: u64,
    arguments: Vec<Vec<u8>>,
    /// All of them.
    count: u64,
}

/// One command: its first arguments, and how many it has.
#[derive(Debug)]
pub struct Request {
    pub arguments: Vec<Vec<u8>>,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Line,
    /// In a string of which so many bytes are to come, the line end behind it included.
    Text(u64),
    Lost,
}

impl Requests {
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// Follows a run of bytes; each command that ends in it goes to `each`.
    pub fn follow(&mut self, part: Part<'_>, first: bool, mut each: impl FnMut(Request)) {
        match part {
            Part::Bytes(bytes) => {
                if self.at == At::Lost && first && begins(bytes) {
                    *self = Self::default();
                }
                self.bytes(bytes, &mut each);
            }
            Part::Absent(count) | Part::Lost(count) => match &mut self.at {
                At::Text(rest) if count < *rest => *rest -= count,
                At::Text(rest) if count == *rest => {
                    self.at = At::Line;
                    self.text_ended(&mut each);
                }
                _ => self.at = At::Lost,
            },
        }
    }

    fn bytes(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Request)) {
        while let Some(byte) = bytes.first() {
            match &mut self.at {
                At::Lost => return,
                At::Text(rest) => {
                    let taken = bytes.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    // Without the line end.
                    let text = taken.min(usize::try_from(rest.saturating_sub(2)).unwrap_or(usize::MAX));
                    *rest -= taken as u64;
                    let ended = *rest == 0;
                    if let Some(argument) = self.arguments.last_mut()
                        && self.count - self.left < KEPT_ARGUMENTS as u64
                    {
                        let most = if task::begins(argument) { task::KEPT } else { KEPT_BYTES };
                        // What a message is, its beginning has to say first.
                        let most = if argument.is_empty() && task::begins(bytes) { task::KEPT } else { most };
                        let room = most.saturating_sub(argument.len());
                        argument.extend_from_slice(&bytes[..text.min(room)]);
                    }
                    bytes = &bytes[taken..];
                    if ended {
                        self.at = At::Line;
                        self.text_ended(each);
                    }
                }
                At::Line => {
                    bytes = &bytes[1..];
                    if *byte == b'\n' {
                        self.line_ended();
                    } else if self.line.len() < LONGEST_LINE {
                        self.line.push(*byte);
                    } else {
                        self.at = At::Lost;
                    }
                }
            }
        }
    }

    fn line_ended(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        self.at = match (self.left, line.split_first()) {
            (0, Some((b'*', count))) => match number(count) {
                Some(count) if count > 0 => {
                    (self.left, self.count) = (count, count);
                    self.arguments.clear();
                    At::Line
                }
                Some(_) => At::Line,
                None => At::Lost,
            },
            (1.., Some((b'$', length))) => match number(length) {
                Some(length) if length <= u64::from(u32::MAX) => {
                    if self.count - self.left < KEPT_ARGUMENTS as u64 {
                        self.arguments.push(Vec::new());
                    }
                    At::Text(length + 2)
                }
                _ => At::Lost,
            },
            // Commands typed by hand come without lengths.
            _ => At::Lost,
        };
    }

    fn text_ended(&mut self, each: &mut impl FnMut(Request)) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            each(Request { arguments: std::mem::take(&mut self.arguments), count: self.count });
        }
    }
}

/// Whether a client's bytes begin a command: a number of strings, and the first one, a word.
#[must_use]
pub fn begins(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(b"*") else { return false };
    let Some((count, rest)) = line(rest) else { return false };
    let Some((length, rest)) = rest.strip_prefix(b"$").and_then(line) else { return false };
    let (Some(1..=1_048_576), Some(length)) = (number(count), number(length)) else { return false };
    let word = &rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    (1..=LONGEST_WORD as u64).contains(&length)
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\r')?;
    Some((&bytes[..end], bytes.get(end + 1..)?.strip_prefix(b"\n")?))
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| valid)
}
