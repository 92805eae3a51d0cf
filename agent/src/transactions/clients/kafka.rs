//! Kafka's protocol at the level of operations: which request, of which topic, how large, and whether the broker refused
//! it (the messages' definitions of Apache Kafka 4.0, `clients/src/main/resources/common/message`). Batches of
//! records are stepped over.

use super::frames::{Frames, Shape, follow};
use super::key;
use super::{Call, CallResult, Calls, Operation, Protocol, Wants};
use crate::transactions::http::Part;
use std::collections::VecDeque;

/// The size, four bytes in network order.
const HEADER: usize = 4;
/// Largest message that is believed.
const LONGEST: u32 = 1 << 30;
/// Bytes of a message that are kept.
const KEPT: usize = 512;
const WANT: u32 = 4096;
/// Calls that may wait for an answer.
const MOST_WAITING: usize = 4096;
/// Longest name of a client, or of a topic (249 bytes).
const LONGEST_NAME: usize = 255;
/// Versions of any request; there are far fewer.
const LATEST: u16 = 32;

const PRODUCE: u16 = 0;
const FETCH: u16 = 1;
/// What requests are called, by their numbers; those between brokers are left out.
const NAMES: [(u16, &str); 25] = [
    (PRODUCE, "produce"),
    (FETCH, "fetch"),
    (2, "list_offsets"),
    (3, "metadata"),
    (8, "offset_commit"),
    (9, "offset_fetch"),
    (10, "find_coordinator"),
    (11, "join_group"),
    (12, "heartbeat"),
    (13, "leave_group"),
    (14, "sync_group"),
    (15, "describe_groups"),
    (16, "list_groups"),
    (17, "sasl_handshake"),
    (18, "api_versions"),
    (19, "create_topics"),
    (20, "delete_topics"),
    (22, "init_producer_id"),
    (24, "add_partitions_to_txn"),
    (25, "add_offsets_to_txn"),
    (26, "end_txn"),
    (28, "txn_offset_commit"),
    (32, "describe_configs"),
    (36, "sasl_authenticate"),
    (68, "consumer_group_heartbeat"),
];

#[derive(Debug, Default)]
pub struct Kafka {
    sent: Frames,
    received: Frames,
    saw_opening: bool,
    waiting: VecDeque<Request>,
}

/// The head of a request, which all of its versions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    kind: u16,
    version: u16,
    correlation: u32,
}

impl Kafka {
    #[must_use]
    pub fn new(opening: bool) -> Self {
        Self { saw_opening: opening, ..Self::default() }
    }

    fn asked(&mut self, payload: &[u8], length: u64, calls: &mut Calls) {
        let Some((request, mut fields)) = Request::parse(payload) else { return };
        let Some(name) = name(request.kind) else { return };
        if self.waiting.len() >= MOST_WAITING {
            calls.push(Call::Overflow);
            return;
        }
        let topic = request.topic(&mut fields);
        let operation = Operation::Message {
            system: "kafka",
            name: name.into(),
            destination: topic.map(key::pattern),
            id: None,
            bytes: (request.kind == PRODUCE).then_some(length),
        };
        calls.push(Call::Began { tag: request.tag(), operation });
        if request.is_answered(payload) {
            self.waiting.push_back(request);
        } else {
            calls.push(Call::Ended { tag: request.tag(), result: CallResult::unseen() });
        }
    }

    fn answered(&mut self, payload: &[u8], calls: &mut Calls) {
        let mut fields = Fields(payload);
        let Some(correlation) = fields.number(4) else { return };
        let is_meant = |request: &Request| u64::from(request.correlation) == correlation;
        let Some(at) = self.waiting.iter().position(is_meant) else { return };
        let Some(request) = self.waiting.remove(at) else { return };
        let code = request.error(&mut fields).filter(|code| *code != 0);
        let result =
            CallResult { error: code.map(|code| code.cast_signed().to_string()), ..CallResult::default() };
        calls.push(Call::Ended { tag: request.tag(), result });
    }

    fn give_up(&mut self, calls: &mut Calls) {
        calls.push(Call::Lost);
        self.closed(calls);
    }
}

impl Protocol for Kafka {
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        if first && self.sent.is_lost() && matches!(part, Part::Bytes(bytes) if is_request(bytes)) {
            self.sent.restart();
        }
        let (mut frames, was_lost) = (std::mem::take(&mut self.sent), self.sent.is_lost());
        follow(&mut frames, part, HEADER, shape, |frame| {
            self.asked(frame.payload, frame.length, calls);
        });
        self.sent = frames;
        if self.sent.is_lost() && !was_lost {
            self.give_up(calls);
        }
    }

    fn received(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        let begins = |bytes: &[u8]| {
            let mut fields = Fields(bytes.get(HEADER..).unwrap_or_default());
            let correlation = fields.number(4);
            self.waiting.iter().any(|request| correlation == Some(u64::from(request.correlation)))
        };
        if first && self.received.is_lost() && matches!(part, Part::Bytes(bytes) if begins(bytes)) {
            self.received.restart();
        }
        let mut frames = std::mem::take(&mut self.received);
        let was_lost = frames.is_lost();
        follow(&mut frames, part, HEADER, shape, |frame| self.answered(frame.payload, calls));
        self.received = frames;
        if self.received.is_lost() && !was_lost {
            self.give_up(calls);
        }
    }

    fn system(&self) -> &'static str {
        "kafka"
    }

    fn wants(&self) -> Wants {
        Wants { received: WANT, sent: WANT, indifferent_received: 0, indifferent_sent: 0, stacks: true }
    }

    fn closed(&mut self, calls: &mut Calls) {
        let waiting = self.waiting.drain(..);
        calls.extend(waiting.map(|request| Call::Ended { tag: request.tag(), result: CallResult::unseen() }));
    }

    fn saw_opening(&self) -> bool {
        self.saw_opening
    }
}

impl Request {
    /// The head of a request and what comes behind it; `None` for what is none.
    fn parse(payload: &[u8]) -> Option<(Self, Fields<'_>)> {
        let mut fields = Fields(payload);
        let request = Self {
            kind: u16::try_from(fields.number(2)?).ok()?,
            version: u16::try_from(fields.number(2)?).ok()?,
            correlation: u32::try_from(fields.number(4)?).ok()?,
        };
        name(request.kind).filter(|_| request.version <= LATEST)?;
        let client = fields.string()?;
        let is_name = |text: &[u8]| text.len() <= LONGEST_NAME && text.iter().all(u8::is_ascii_graphic);
        client.is_none_or(is_name).then_some((request, fields))
    }

    /// Tag 0 is that of calls without one.
    fn tag(self) -> u64 {
        u64::from(self.correlation) + 1
    }

    /// Lengths are varints, and each head ends in tagged fields (KIP-482).
    fn is_flexible(self) -> bool {
        match self.kind {
            PRODUCE => self.version >= 9,
            FETCH => self.version >= 12,
            _ => false,
        }
    }

    /// The first topic of what is produced or fetched; later versions name topics by number alone.
    fn topic<'a>(self, fields: &mut Fields<'a>) -> Option<&'a [u8]> {
        let flexible = self.is_flexible();
        if flexible {
            fields.tags()?;
        }
        match (self.kind, self.version) {
            (PRODUCE, version @ ..13) => {
                if version >= 3 {
                    fields.text(flexible)?;
                }
                fields.skip(2 + 4)?;
            }
            (FETCH, version @ ..13) => {
                // Replica, wait, least bytes; most bytes; isolation; session and epoch.
                let more = [(3, 4), (4, 1), (7, 8)];
                let more: usize =
                    more.into_iter().filter(|(since, _)| version >= *since).map(|(_, size)| size).sum();
                fields.skip(12 + more)?;
            }
            _ => return None,
        }
        let topics = if flexible { fields.varint()?.checked_sub(1)? } else { fields.number(4)? };
        let topic = if topics > 0 { fields.text(flexible)? } else { None };
        topic.filter(|topic| (1..=LONGEST_NAME).contains(&topic.len()))
    }

    /// Producers may ask for no answer (`acks` 0).
    fn is_answered(self, payload: &[u8]) -> bool {
        if self.kind != PRODUCE {
            return true;
        }
        let acks = Self::parse(payload).and_then(|(_, mut fields)| {
            if self.is_flexible() {
                fields.tags()?;
            }
            if self.version >= 3 {
                fields.text(self.is_flexible())?;
            }
            fields.number(2)
        });
        acks != Some(0)
    }

    /// The error of an answer: of its first partition, or of the whole. `None` where the answer does not tell, or where it
    /// is not looked for.
    fn error(self, fields: &mut Fields<'_>) -> Option<u16> {
        let flexible = self.is_flexible();
        if flexible {
            fields.tags()?;
        }
        let code = match (self.kind, self.version) {
            (PRODUCE, ..13) => {
                let topics = if flexible { fields.varint()? } else { fields.number(4)? };
                fields.text(flexible)?;
                let partitions = if flexible { fields.varint()? } else { fields.number(4)? };
                fields.skip(4)?;
                let least = u64::from(flexible);
                (topics > least && partitions > least).then(|| fields.number(2)).flatten()?
            }
            (FETCH, 7..) => {
                fields.skip(4)?;
                fields.number(2)?
            }
            _ => return None,
        };
        u16::try_from(code).ok()
    }
}

/// Takes fields from the front.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    /// In network order, up to 8 bytes.
    fn number(&mut self, size: usize) -> Option<u64> {
        Some(self.take(size)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in 0..5 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// With a length of two bytes, of which -1 is for none.
    fn string(&mut self) -> Option<Option<&'a [u8]>> {
        match self.number(2)? {
            0xffff => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    /// A string as the version has them.
    fn text(&mut self, flexible: bool) -> Option<Option<&'a [u8]>> {
        if !flexible {
            return self.string();
        }
        match self.varint()?.checked_sub(1) {
            None => Some(None),
            Some(length) => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(usize::try_from(length).ok()?)?;
        }
        Some(())
    }
}

fn name(kind: u16) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

fn shape(header: &[u8]) -> Option<Shape> {
    let length = u32::from_be_bytes(header.try_into().ok()?);
    (4..=LONGEST).contains(&length).then_some(Shape { length: u64::from(length), keep: KEPT })
}

/// Whether a client's bytes begin a request.
fn is_request(bytes: &[u8]) -> bool {
    let shape = bytes.get(..HEADER).and_then(shape);
    shape.is_some_and(|shape| shape.length >= 10) && Request::parse(&bytes[HEADER..]).is_some()
}

/// Whether a client's bytes, of a call that moved so many, begin with a request that ends with the call or behind it. A
/// connection begins with the question for versions; in the middle only what names its client is believed.
#[must_use]
pub fn begins(head: &[u8], moved: u64, opening: bool) -> bool {
    let Some(shape) = head.get(..HEADER).and_then(shape).filter(|_| is_request(head)) else { return false };
    let Some((request, _)) = Request::parse(&head[HEADER..]) else { return false };
    let named = head.get(12..14).is_some_and(|length| !matches!(length, [0, 0] | [0xff, 0xff]));
    let plausible = if opening { named || request.kind == 18 } else { named };
    plausible && shape.length + HEADER as u64 >= moved
}
