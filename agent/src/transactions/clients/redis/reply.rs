//! Replies as the server sends them: values inside values, each with its kind and length in front. Only their
//! extent is followed, and of errors the first word.

use super::request::number;
use crate::transactions::http::Part;

/// Values inside values. Replies of modules and scripts nest a few deep.
const DEEPEST: usize = 64;
/// Bytes kept of a line: a number, an error's first word.
const KEPT_LINE: usize = 40;
/// Bytes kept of the first string in an array: it tells what was published from an answer.
const KEPT_TEXT: usize = 16;

#[derive(Debug, Default)]
pub struct Replies {
    at: At,
    line: Vec<u8>,
    /// Values still to come, of each array that has begun; the outermost first.
    open: Vec<u64>,
    current: Reply,
    /// The current string is the first in its array.
    is_first: bool,
    blob_error: bool,
}

/// One whole value, or as much as is known of the one that has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its first byte; 0 before that.
    pub kind: u8,
    /// First word of an error.
    pub error: Option<String>,
    /// First string of an array.
    pub first: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Line,
    Text(u64),
    Lost,
}

impl Replies {
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// Begins anew at the next byte; returns what was known of the value that was being read.
    pub fn restart(&mut self) -> Reply {
        std::mem::take(self).current
    }

    /// Follows a run of bytes; each value that ends in it goes to `each`.
    pub fn follow(&mut self, part: Part<'_>, mut each: impl FnMut(Reply)) {
        match part {
            Part::Bytes(bytes) => self.bytes(bytes, &mut each),
            Part::Absent(count) | Part::Lost(count) => match &mut self.at {
                At::Text(rest) if count < *rest => *rest -= count,
                At::Text(rest) if count == *rest => {
                    self.at = At::Line;
                    self.value_ended(&mut each);
                }
                _ => self.at = At::Lost,
            },
        }
    }

    fn bytes(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Reply)) {
        while let Some(byte) = bytes.first() {
            match &mut self.at {
                At::Lost => return,
                At::Text(rest) => {
                    let taken = bytes.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    let text = taken.min(usize::try_from(rest.saturating_sub(2)).unwrap_or(usize::MAX));
                    *rest -= taken as u64;
                    let ended = *rest == 0;
                    if self.is_first || self.blob_error {
                        let room = KEPT_TEXT.saturating_sub(self.current.first.len());
                        self.current.first.extend_from_slice(&bytes[..text.min(room)]);
                    }
                    bytes = &bytes[taken..];
                    if ended {
                        self.at = At::Line;
                        self.value_ended(each);
                    }
                }
                At::Line => {
                    bytes = &bytes[1..];
                    if *byte == b'\n' {
                        self.line_ended(each);
                    } else if self.line.len() < KEPT_LINE {
                        self.line.push(*byte);
                    }
                }
            }
        }
    }

    fn line_ended(&mut self, each: &mut impl FnMut(Reply)) {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let Some((kind, rest)) = line.split_first() else {
            self.at = At::Lost;
            return;
        };
        let outermost = self.open.is_empty();
        if outermost {
            self.current = Reply { kind: *kind, ..Reply::default() };
        }
        match kind {
            b'+' | b':' | b'_' | b'#' | b',' | b'(' => {
                if self.open.len() == 1 && *kind == b'+' && self.current.first.is_empty() {
                    self.current.first.extend_from_slice(&rest[..rest.len().min(KEPT_TEXT)]);
                }
                self.value_ended(each);
            }
            b'-' => {
                if outermost {
                    self.current.error = Some(first_word(rest));
                }
                self.value_ended(each);
            }
            b'$' | b'=' | b'!' => match (rest, number(rest)) {
                (b"-1", _) => self.value_ended(each),
                (_, Some(length)) if length <= u64::from(u32::MAX) => {
                    self.is_first = self.open.len() == 1 && self.current.first.is_empty();
                    self.blob_error = outermost && *kind == b'!';
                    self.at = At::Text(length + 2);
                }
                _ => self.at = At::Lost,
            },
            b'*' | b'%' | b'~' | b'>' | b'|' => self.begin(*kind, rest, each),
            _ => self.at = At::Lost,
        }
    }

    fn begin(&mut self, kind: u8, count: &[u8], each: &mut impl FnMut(Reply)) {
        if count == b"-1" {
            return self.value_ended(each);
        }
        let pairs = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
        // What is said about a value comes before it, and is none itself.
        let behind = u64::from(kind == b'|');
        let count = number(count).and_then(|count| count.checked_mul(pairs)?.checked_add(behind));
        match count {
            Some(0) => self.value_ended(each),
            Some(count) if self.open.len() < DEEPEST => self.open.push(count),
            _ => self.at = At::Lost,
        }
    }

    fn value_ended(&mut self, each: &mut impl FnMut(Reply)) {
        self.is_first = false;
        if std::mem::take(&mut self.blob_error) {
            let text = std::mem::take(&mut self.current.first);
            self.current.error = Some(first_word(&text));
        }
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        each(std::mem::take(&mut self.current));
    }
}

/// `WRONGTYPE`, `ERR`, `MOVED`: what stands before an error's text, which may hold values.
fn first_word(text: &[u8]) -> String {
    let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let valid = (2..=24).contains(&word.len())
        && word.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'0'..=b'9'));
    if valid { String::from_utf8_lossy(word).into_owned() } else { "ERR".to_owned() }
}
