//! MongoDB's wire protocol (`OP_MSG`, the older `OP_QUERY` that connections may begin with, and `OP_COMPRESSED`): the
//! command, its collection, and how it went. Documents are looked into no further than for that.
//!
//! A compressed message hides its command: the call is there, with its time, and what it was is not known.

use super::frames::{Frames, Shape, follow};
use super::{Call, CallResult, Calls, Operation, Protocol, Wants};
use crate::transactions::http::Part;
use pyapm_model::line::SpanKind;
use std::collections::VecDeque;

/// Size, number, number that is answered, kind: each four bytes, little endian.
const HEADER: usize = 16;
const OP_REPLY: u32 = 1;
const OP_QUERY: u32 = 2004;
const OP_COMPRESSED: u32 = 2012;
const OP_MSG: u32 = 2013;
/// Flags of `OP_MSG`: a checksum follows, no answer comes or more than one, more than one may come.
const CHECKSUM: u32 = 1;
const MORE_TO_COME: u32 = 2;
const EXHAUST_ALLOWED: u32 = 1 << 16;
/// Largest message that servers take (48,000,000 bytes), and some more.
const LONGEST: u32 = 50_000_000;
/// Bytes of a message that are kept.
const KEPT: usize = 2048;
const WANT: u32 = 4096;
/// Calls that may wait for an answer.
const MOST_WAITING: usize = 4096;
/// Elements of a document that are looked at.
const MOST_ELEMENTS: usize = 64;
/// Longest name of a collection that is kept.
const LONGEST_NAME: usize = 120;
/// What stands for the command of a compressed message.
const COMPRESSED: &str = "compressed";

#[derive(Debug, Default)]
pub struct Mongodb {
    sent: Frames,
    received: Frames,
    saw_opening: bool,
    /// Numbers of calls that wait for an answer.
    waiting: VecDeque<u32>,
}

/// What the head of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    size: u32,
    number: u32,
    answers: u32,
    kind: u32,
}

impl Mongodb {
    #[must_use]
    pub fn new(opening: bool) -> Self {
        Self { saw_opening: opening, ..Self::default() }
    }

    fn asked(&mut self, head: Head, payload: &[u8], calls: &mut Calls) {
        let (name, target, is_answered) = match head.kind {
            OP_MSG => {
                let Some((flags, document)) = message(payload) else { return };
                let Some((name, collection)) = command(document) else { return };
                (name, collection, flags & MORE_TO_COME == 0)
            }
            OP_QUERY => {
                let Some((name, collection)) = query(payload).and_then(command) else { return };
                (name, collection, true)
            }
            // Whether it is answered is hidden, too; what is not asked for an answer is rare.
            _ => (COMPRESSED.to_owned(), None, true),
        };
        if self.waiting.len() >= MOST_WAITING {
            calls.push(Call::Overflow);
            return;
        }
        let operation =
            Operation::Command { kind: SpanKind::Db, system: "mongodb", name: name.into(), target };
        calls.push(Call::Began { tag: tag(head.number), operation });
        if is_answered {
            self.waiting.push_back(head.number);
        } else {
            calls.push(Call::Ended { tag: tag(head.number), result: CallResult::unseen() });
        }
    }

    fn answered(&mut self, head: Head, payload: &[u8], calls: &mut Calls) {
        let Some(at) = self.waiting.iter().position(|number| *number == head.answers) else { return };
        self.waiting.remove(at);
        let document = match head.kind {
            OP_MSG => message(payload).map(|(_, document)| document),
            // Flags, cursor, where it begins, how many (`OP_REPLY`).
            OP_REPLY => payload.get(20..),
            _ => None,
        };
        let tag = tag(head.answers);
        match document {
            Some(document) => {
                let whole = u64::from(head.size) == (HEADER + payload.len()) as u64;
                calls.push(Call::Ended { tag, result: result(document, whole) });
            }
            // That it has come is known, and nothing more.
            None => {
                calls.push(Call::Answering { tag });
                calls.push(Call::Ended { tag, result: CallResult::unseen() });
            }
        }
    }

    fn give_up(&mut self, calls: &mut Calls) {
        calls.push(Call::Lost);
        self.closed(calls);
    }
}

impl Protocol for Mongodb {
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        if first && self.sent.is_lost() && matches!(part, Part::Bytes(bytes) if is_request(bytes)) {
            self.sent.restart();
        }
        let (mut frames, was_lost) = (std::mem::take(&mut self.sent), self.sent.is_lost());
        follow(&mut frames, part, HEADER, shape, |frame| {
            if let Some(head) = Head::parse(frame.header) {
                self.asked(head, frame.payload, calls);
            }
        });
        self.sent = frames;
        if self.sent.is_lost() && !was_lost {
            self.give_up(calls);
        }
    }

    fn received(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        // Clients read the head of an answer by a call of its own, or more at once: either way it begins one.
        let begins =
            |bytes: &[u8]| Head::parse(bytes).is_some_and(|head| self.waiting.contains(&head.answers));
        if first && self.received.is_lost() && matches!(part, Part::Bytes(bytes) if begins(bytes)) {
            self.received.restart();
        }
        let mut frames = std::mem::take(&mut self.received);
        let was_lost = frames.is_lost();
        follow(&mut frames, part, HEADER, shape, |frame| {
            if let Some(head) = Head::parse(frame.header) {
                self.answered(head, frame.payload, calls);
            }
        });
        self.received = frames;
        if self.received.is_lost() && !was_lost {
            self.give_up(calls);
        }
    }

    fn system(&self) -> &'static str {
        "mongodb"
    }

    fn wants(&self) -> Wants {
        Wants { received: WANT, sent: WANT, indifferent_received: 0, indifferent_sent: 0, stacks: true }
    }

    fn closed(&mut self, calls: &mut Calls) {
        let waiting = self.waiting.drain(..);
        calls.extend(waiting.map(|number| Call::Ended { tag: tag(number), result: CallResult::unseen() }));
    }

    fn saw_opening(&self) -> bool {
        self.saw_opening
    }
}

impl Head {
    /// `None` for what cannot be one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let head = Self { size: word(0)?, number: word(4)?, answers: word(8)?, kind: word(12)? };
        let is_known = matches!(head.kind, OP_REPLY | OP_QUERY | OP_COMPRESSED | OP_MSG);
        (is_known && (HEADER as u32 + 5..=LONGEST).contains(&head.size)).then_some(head)
    }
}

/// Tag 0 is that of calls without one.
fn tag(number: u32) -> u64 {
    u64::from(number) + 1
}

fn shape(header: &[u8]) -> Option<Shape> {
    let head = Head::parse(header)?;
    Some(Shape { length: u64::from(head.size - HEADER as u32), keep: KEPT })
}

/// Flags of an `OP_MSG`, and its document: sections may come in any order, but drivers put it first.
fn message(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (flags, sections) = payload.split_first_chunk::<4>()?;
    let (kind, document) = sections.split_first()?;
    let flags = u32::from_le_bytes(*flags);
    // Other flags of the lower half must be understood, and these are all (specification of `OP_MSG`).
    let is_known = flags & 0xffff & !(CHECKSUM | MORE_TO_COME) == 0;
    (is_known && *kind == 0).then_some((flags, document))
}

/// The document of an `OP_QUERY`: behind flags, the collection's name, and two numbers.
fn query(payload: &[u8]) -> Option<&[u8]> {
    let rest = payload.get(4..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    rest[..end].ends_with(b".$cmd").then(|| rest.get(end + 9..)).flatten()
}

/// A command's name and collection: the first element, and of a command that goes on with a cursor another one.
fn command(document: &[u8]) -> Option<(String, Option<String>)> {
    let mut elements = Elements::of(document)?;
    let (kind, name, value) = elements.next()?;
    let is_name = (1..=64).contains(&name.len()) && name.iter().all(u8::is_ascii_alphanumeric);
    let name = String::from_utf8_lossy(name).into_owned();
    let collection = match kind {
        STRING => text(value),
        _ if name == "getMore" => elements
            .find(|(kind, key, _)| *kind == STRING && *key == b"collection")
            .and_then(|(_, _, value)| text(value)),
        _ => None,
    };
    is_name.then_some((name, collection))
}

/// What an answer says. `whole` is whether all of it is there.
fn result(document: &[u8], whole: bool) -> CallResult {
    let Some(elements) = Elements::of(document) else { return CallResult::unseen() };
    let (mut ok, mut code, mut affected, mut write_error, mut has_cursor) = (None, None, None, None, false);
    for (kind, key, value) in elements {
        match key {
            b"ok" => ok = number(kind, value).map(|ok| ok != 0),
            b"code" => code = number(kind, value),
            // Of `update` it is how many fitted, `nModified` how many were changed.
            b"n" if affected.is_none() => affected = number(kind, value),
            b"nModified" => affected = number(kind, value),
            b"writeErrors" => write_error = first_code(value),
            b"cursor" => has_cursor = true,
            _ => {}
        }
    }
    let error = match (ok, code.or(write_error)) {
        (Some(false), Some(code)) => Some(code.to_string()),
        (Some(false), None) => Some("unknown".to_owned()),
        (_, _) => write_error.map(|code| code.to_string()),
    };
    // A failure has no cursor, so the beginning of a long answer tells that it is none.
    let unseen = ok.is_none() && !has_cursor;
    CallResult {
        error,
        affected_rows: affected.and_then(|count| u64::try_from(count).ok()).filter(|_| whole),
        unseen,
        ..CallResult::default()
    }
}

/// `code` in the first document of an array.
fn first_code(array: &[u8]) -> Option<i64> {
    let (_, _, first) = Elements::of(array)?.next()?;
    Elements::of(first)?.find(|(_, key, _)| *key == b"code").and_then(|(kind, _, value)| number(kind, value))
}

/// Types of elements (BSON specification 1.1).
const DOUBLE: u8 = 1;
const STRING: u8 = 2;
const BOOL: u8 = 8;
const INT32: u8 = 16;
const INT64: u8 = 18;

fn number(kind: u8, value: &[u8]) -> Option<i64> {
    match kind {
        DOUBLE => {
            let double = f64::from_le_bytes(value.try_into().ok()?);
            // Codes and counts: whole, and small.
            (double.abs() < 1e15).then(|| format!("{double:.0}").parse().ok()).flatten()
        }
        BOOL => value.first().map(|byte| i64::from(*byte)),
        INT32 => Some(i64::from(i32::from_le_bytes(value.try_into().ok()?))),
        INT64 => Some(i64::from_le_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// A string's value: its size, its bytes, a zero.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value.get(4..value.len().checked_sub(1)?)?).ok()?;
    let valid = (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    valid.then(|| text.to_owned())
}

/// Type, key and value of each element of a document, as far as its bytes are there.
struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Elements<'a> {
    fn of(document: &'a [u8]) -> Option<Self> {
        let (size, rest) = document.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?.checked_sub(4)?;
        Some(Self { rest: rest.get(..size).unwrap_or(rest), left: MOST_ELEMENTS })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (kind, rest) = self.rest.split_first()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (key, rest) = (&rest[..end], &rest[end + 1..]);
        let sized = |more: usize| {
            let size = rest.get(..4)?.try_into().ok().map(u32::from_le_bytes)?;
            usize::try_from(size).ok()?.checked_add(more)
        };
        let length = match *kind {
            DOUBLE | 9 | 17 | INT64 => 8,
            STRING | 13 | 14 => sized(4)?,
            3 | 4 | 15 => sized(0)?,
            5 => sized(5)?,
            6 | 10 | 0xff | 0x7f => 0,
            7 => 12,
            BOOL => 1,
            11 => {
                let first = rest.iter().position(|byte| *byte == 0)?;
                first + 2 + rest.get(first + 1..)?.iter().position(|byte| *byte == 0)?
            }
            12 => sized(16)?,
            INT32 => 4,
            19 => 16,
            _ => return None,
        };
        // A value that was cut short is given as far as it goes, and is the last.
        let (value, rest) = rest.split_at(length.min(rest.len()));
        self.rest = rest;
        (value.len() == length || matches!(*kind, 3 | 4)).then_some((*kind, key, value))
    }
}

/// Whether a client's bytes begin a message that asks for something.
fn is_request(bytes: &[u8]) -> bool {
    let Some(head) = Head::parse(bytes).filter(|head| head.answers == 0) else { return false };
    let payload = &bytes[HEADER..];
    match head.kind {
        OP_MSG => message(payload).is_some_and(|(flags, document)| {
            flags & !(CHECKSUM | MORE_TO_COME | EXHAUST_ALLOWED) == 0 && command(document).is_some()
        }),
        OP_QUERY => query(payload).is_some_and(|document| command(document).is_some()),
        // The kind of what is inside.
        OP_COMPRESSED => payload.get(..4) == Some(&OP_MSG.to_le_bytes()),
        _ => false,
    }
}

/// Whether a client's bytes, of a call that moved so many, begin with a message that ends with the call or behind it.
#[must_use]
pub fn begins(head: &[u8], moved: u64) -> bool {
    is_request(head)
        && Head::parse(head).is_some_and(|parsed| u64::from(parsed.size) >= moved.min(u64::from(LONGEST)))
}
