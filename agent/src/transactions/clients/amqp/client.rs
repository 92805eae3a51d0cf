//! One connection to a broker: channels, on each of which methods are answered in order, and messages that follow
//! some of them.

// Long because a channel's calls, what it sends and what it receives end each other.

use super::fields::{Content, destination};
use super::methods::{Asked, Told, asked, told};
use crate::transactions::clients::frames::{Frames, Shape, follow};
use crate::transactions::clients::{Call, CallResult, Calls, Operation, Protocol, Wants};
use crate::transactions::http::Part;
use std::collections::{HashMap, VecDeque};

/// Type, channel and size; behind the payload stands one byte more (specification section 4.2.3).
const HEADER: usize = 7;
const END: u8 = 0xce;
const METHOD: u8 = 1;
const CONTENT: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// Largest payload that is believed; brokers agree on 128 KiB.
const LONGEST: u32 = 1 << 24;
/// What clients begin with.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Bytes of a method, and of a message's header, that are kept.
const KEPT_METHOD: usize = 1024;
const KEPT_CONTENT: usize = 4096;
/// What is wanted of each call.
const WANT: u32 = 16 * 1024;
/// Channels that are followed at once; brokers allow 2,047.
const MOST_CHANNELS: usize = 2048;
/// Calls of a channel that may wait for an answer.
const MOST_WAITING: usize = 4096;
/// Deliveries of a channel whose queue is remembered.
const MOST_DELIVERED: usize = 1024;

#[derive(Debug, Default)]
pub struct Amqp {
    sent: Frames,
    received: Frames,
    /// Bytes of the greeting that are still to come.
    greeting: usize,
    saw_opening: bool,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<u16, Channel>,
    last_tag: u64,
}

#[derive(Debug, Default)]
struct Channel {
    waiting: VecDeque<Waiting>,
    /// Messages that were published and are not confirmed.
    published: VecDeque<Published>,
    /// Number of the latest message, from when the broker confirms them.
    confirms: Option<u64>,
    sending: Option<Sending>,
    receiving: Option<Receiving>,
    delivered: VecDeque<(u64, Option<String>)>,
}

/// A method that is answered.
#[derive(Debug)]
struct Waiting {
    tag: u64,
    answer: (u16, u16),
}

#[derive(Debug)]
struct Published {
    tag: u64,
    number: u64,
    destination: Option<String>,
    /// It came back.
    returned: Option<u16>,
}

/// A message on its way out.
#[derive(Debug)]
enum Sending {
    /// Its method has gone.
    Header {
        destination: Option<String>,
    },
    Body {
        tag: u64,
        rest: u64,
    },
}

/// A message on its way in.
#[derive(Debug)]
enum Receiving {
    Header {
        tag: Option<u64>,
        delivery: u64,
        destination: Option<String>,
        purpose: Purpose,
    },
    Body {
        tag: u64,
        rest: u64,
    },
    /// Of no use.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Get,
    Deliver,
}

impl Amqp {
    /// Followed from its first byte on.
    #[must_use]
    pub fn opening() -> Self {
        Self { greeting: GREETING.len(), saw_opening: true, ..Self::default() }
    }

    #[must_use]
    pub fn in_the_middle() -> Self {
        Self::default()
    }

    /// What was under way is not heard of any more.
    fn give_up(&mut self, calls: &mut Calls) {
        calls.push(Call::Lost);
        for channel in self.state.channels.values_mut() {
            channel.end_all(&CallResult::unseen(), calls);
        }
    }
}

impl Protocol for Amqp {
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        let mut part = part;
        if self.greeting > 0 {
            let Part::Bytes(bytes) = part else {
                self.greeting = 0;
                return self.sent.lose();
            };
            let (greeting, rest) = bytes.split_at(bytes.len().min(self.greeting));
            self.greeting -= greeting.len();
            part = Part::Bytes(rest);
        }
        if first && self.sent.is_lost() && matches!(part, Part::Bytes(bytes) if is_frame(bytes)) {
            self.sent.restart();
        }
        let (state, was_lost) = (&mut self.state, self.sent.is_lost());
        follow(&mut self.sent, part, HEADER, shape, |frame| {
            state.sent(frame.header, frame.payload, frame.length, calls);
        });
        if self.sent.is_lost() && !was_lost {
            self.give_up(calls);
            // How many messages have gone is not known, and so not which of them the broker means.
            for channel in self.state.channels.values_mut() {
                channel.confirms = None;
            }
        }
    }

    fn received(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        if first && self.received.is_lost() && matches!(part, Part::Bytes(bytes) if is_frame(bytes)) {
            self.received.restart();
        }
        let (state, was_lost) = (&mut self.state, self.received.is_lost());
        follow(&mut self.received, part, HEADER, shape, |frame| {
            state.received(frame.header, frame.payload, frame.length, calls);
        });
        if self.received.is_lost() && !was_lost {
            self.give_up(calls);
        }
    }

    fn system(&self) -> &'static str {
        "rabbitmq"
    }

    fn wants(&self) -> Wants {
        Wants { received: WANT, sent: WANT, indifferent_received: 0, indifferent_sent: 0, stacks: true }
    }

    fn closed(&mut self, calls: &mut Calls) {
        for channel in self.state.channels.values_mut() {
            channel.end_all(&CallResult::unseen(), calls);
        }
        self.state.channels.clear();
    }

    fn saw_opening(&self) -> bool {
        self.saw_opening
    }
}

impl State {
    fn tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// The channel of a frame; `None` when there are too many.
    fn channel(&mut self, header: &[u8], calls: &mut Calls) -> Option<&mut Channel> {
        let number = u16::from_be_bytes([*header.get(1)?, *header.get(2)?]);
        if self.channels.len() >= MOST_CHANNELS && !self.channels.contains_key(&number) {
            calls.push(Call::Overflow);
            return None;
        }
        Some(self.channels.entry(number).or_default())
    }

    fn sent(&mut self, header: &[u8], payload: &[u8], length: u64, calls: &mut Calls) {
        let tag = self.tag();
        let Some(channel) = self.channel(header, calls) else { return };
        match header.first() {
            Some(&METHOD) => {
                if let Some(asked) = asked(payload) {
                    channel.asked(tag, asked, calls);
                }
            }
            Some(&CONTENT) => {
                let Some(Sending::Header { destination }) = &mut channel.sending else { return };
                let destination = destination.take();
                channel.sending = None;
                let Some(content) = Content::parse(payload) else { return };
                channel.publishes(tag, destination, content, calls);
            }
            Some(&BODY) => {
                let Some(Sending::Body { tag, rest }) = channel.sending.take() else { return };
                match rest.checked_sub(length.saturating_sub(1)) {
                    Some(rest) if rest > 0 => channel.sending = Some(Sending::Body { tag, rest }),
                    _ => channel.is_sent(tag, calls),
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, header: &[u8], payload: &[u8], length: u64, calls: &mut Calls) {
        let tag = self.tag();
        let Some(channel) = self.channel(header, calls) else { return };
        match header.first() {
            Some(&METHOD) => match told(payload) {
                Some(Told::ConnectionClosed { code }) => {
                    for channel in self.channels.values_mut() {
                        channel.end_all(&closed_with(code), calls);
                    }
                }
                Some(told) => channel.told(told, calls),
                None => {}
            },
            Some(&CONTENT) => channel.content(tag, payload, calls),
            Some(&BODY) => {
                let Some(Receiving::Body { tag, rest }) = &mut channel.receiving else { return };
                *rest = rest.saturating_sub(length.saturating_sub(1));
                if *rest == 0 {
                    calls.push(Call::Ended { tag: *tag, result: CallResult::default() });
                    channel.receiving = None;
                }
            }
            _ => {}
        }
    }
}

impl Channel {
    fn asked(&mut self, tag: u64, asked: Asked, calls: &mut Calls) {
        match asked {
            Asked::Publish { exchange, routing_key } => {
                self.stop_sending(calls);
                let destination = destination(&exchange, &routing_key);
                self.sending = Some(Sending::Header { destination });
            }
            Asked::Call { name, destination, answer } => {
                if self.waiting.len() >= MOST_WAITING {
                    calls.push(Call::Overflow);
                    return;
                }
                calls.push(began(tag, name, destination, None, None));
                self.waiting.push_back(Waiting { tag, answer });
            }
            Asked::Notice { name, destination } => notice(tag, name, destination, calls),
            Asked::Settled { name, delivery } => {
                let known = self.delivered.iter().position(|(number, _)| *number == delivery);
                let destination = known.and_then(|at| self.delivered.remove(at)).and_then(|(_, queue)| queue);
                notice(tag, name, destination, calls);
            }
            Asked::Confirm => {
                self.stop_sending(calls);
                self.confirms = Some(0);
            }
            Asked::ChannelOpened => {
                self.end_all(&CallResult::unseen(), calls);
                *self = Self::default();
            }
            Asked::Other => {}
        }
    }

    /// The header of a message goes out.
    fn publishes(&mut self, tag: u64, destination: Option<String>, content: Content, calls: &mut Calls) {
        calls.push(began(tag, "publish", destination.clone(), content.id, Some(content.bytes)));
        if let Some(number) = &mut self.confirms {
            *number += 1;
            if self.published.len() < MOST_WAITING {
                let number = *number;
                self.published.push_back(Published { tag, number, destination, returned: None });
            } else {
                calls.push(Call::Ended { tag, result: CallResult::unseen() });
                calls.push(Call::Overflow);
            }
        }
        if content.bytes == 0 {
            self.is_sent(tag, calls);
        } else {
            self.sending = Some(Sending::Body { tag, rest: content.bytes });
        }
    }

    /// A message is out. Where the broker does not confirm it, nobody will tell what became of it.
    fn is_sent(&mut self, tag: u64, calls: &mut Calls) {
        if self.confirms.is_none() {
            calls.push(Call::Ended { tag, result: CallResult::unseen() });
        }
    }

    fn told(&mut self, told: Told, calls: &mut Calls) {
        match told {
            Told::Deliver { delivery, destination } => {
                self.stop_receiving(&CallResult::unseen(), calls);
                self.receiving =
                    Some(Receiving::Header { tag: None, delivery, destination, purpose: Purpose::Deliver });
            }
            Told::Got { delivery, destination } => {
                self.stop_receiving(&CallResult::unseen(), calls);
                let tag = self.answered((60, 71));
                self.receiving =
                    Some(Receiving::Header { tag, delivery, destination, purpose: Purpose::Get });
            }
            Told::GotNothing => {
                if let Some(tag) = self.answered((60, 71)) {
                    let result = CallResult { rows: Some(0), ..CallResult::default() };
                    calls.push(Call::Ended { tag, result });
                }
            }
            Told::Returned { code, exchange, routing_key } => {
                let destination = destination(&exchange, &routing_key);
                let mut published = self.published.iter_mut();
                let one = published.find(|one| one.returned.is_none() && one.destination == destination);
                if let Some(one) = one {
                    one.returned = Some(code);
                }
                self.stop_receiving(&CallResult::unseen(), calls);
                self.receiving = Some(Receiving::Skipped);
            }
            Told::Confirmed { delivery, multiple, taken } => self.confirmed(delivery, multiple, taken, calls),
            Told::ChannelClosed { code } => self.end_all(&closed_with(code), calls),
            Told::ConnectionClosed { .. } => {}
            Told::Method { class, method } => {
                if let Some(tag) = self.answered((class, method)) {
                    calls.push(Call::Ended { tag, result: CallResult::default() });
                }
            }
        }
    }

    /// The oldest call that waits for this answer.
    fn answered(&mut self, answer: (u16, u16)) -> Option<u64> {
        let at = self.waiting.iter().position(|waiting| waiting.answer == answer)?;
        self.waiting.remove(at).map(|waiting| waiting.tag)
    }

    fn confirmed(&mut self, delivery: u64, multiple: bool, taken: bool, calls: &mut Calls) {
        // 0 with `multiple` is all of them.
        let is_meant = |one: &Published| {
            one.number == delivery || (multiple && (delivery == 0 || one.number < delivery))
        };
        let (done, open) = std::mem::take(&mut self.published).into_iter().partition(is_meant);
        self.published = open;
        let done: VecDeque<Published> = done;
        for one in done {
            let error = match (one.returned, taken) {
                (Some(code), _) => Some(code.to_string()),
                (None, false) => Some("nack".to_owned()),
                (None, true) => None,
            };
            calls.push(Call::Ended { tag: one.tag, result: CallResult { error, ..CallResult::default() } });
        }
    }

    /// The header of a message comes in.
    fn content(&mut self, fresh: u64, payload: &[u8], calls: &mut Calls) {
        let Some(content) = Content::parse(payload) else {
            return self.stop_receiving(&CallResult::unseen(), calls);
        };
        let (tag, delivery, destination, purpose) = match self.receiving.take() {
            Some(Receiving::Header { tag, delivery, destination, purpose }) => {
                (tag, delivery, destination, purpose)
            }
            other => {
                self.receiving = other;
                return;
            }
        };
        if self.delivered.len() >= MOST_DELIVERED {
            self.delivered.pop_front();
        }
        self.delivered.push_back((delivery, destination.clone()));
        let tag = match (purpose, tag) {
            (Purpose::Get, Some(tag)) => tag,
            // It was asked for before anybody looked.
            (Purpose::Get, None) => {
                self.receiving = Some(Receiving::Skipped);
                return;
            }
            (Purpose::Deliver, _) => {
                calls.push(began(fresh, "deliver", destination, content.id, Some(content.bytes)));
                fresh
            }
        };
        if content.bytes == 0 {
            calls.push(Call::Ended { tag, result: CallResult::default() });
        } else {
            self.receiving = Some(Receiving::Body { tag, rest: content.bytes });
        }
    }

    /// The message on its way out is none.
    fn stop_sending(&mut self, calls: &mut Calls) {
        if let Some(Sending::Body { tag, .. }) = self.sending.take() {
            self.is_sent(tag, calls);
        }
    }

    /// The same of the one on its way in.
    fn stop_receiving(&mut self, result: &CallResult, calls: &mut Calls) {
        let receiving = self.receiving.take();
        if let Some(Receiving::Body { tag, .. } | Receiving::Header { tag: Some(tag), .. }) = receiving {
            calls.push(Call::Ended { tag, result: result.clone() });
        }
    }

    /// Nothing of this channel will be answered.
    fn end_all(&mut self, result: &CallResult, calls: &mut Calls) {
        self.stop_sending(calls);
        self.stop_receiving(result, calls);
        let waiting = self.waiting.drain(..).map(|waiting| waiting.tag);
        let published = self.published.drain(..).map(|one| one.tag);
        calls.extend(waiting.chain(published).map(|tag| Call::Ended { tag, result: result.clone() }));
    }
}

fn closed_with(code: u16) -> CallResult {
    // 200 is a close that somebody wished for.
    if code == 200 { CallResult::unseen() } else { CallResult::error(code.to_string()) }
}

fn began(
    tag: u64,
    name: &'static str,
    destination: Option<String>,
    id: Option<String>,
    bytes: Option<u64>,
) -> Call {
    let operation = Operation::Message { system: "rabbitmq", name: name.into(), destination, id, bytes };
    Call::Began { tag, operation }
}

fn notice(tag: u64, name: &'static str, destination: Option<String>, calls: &mut Calls) {
    calls.push(began(tag, name, destination, None, None));
    calls.push(Call::Ended { tag, result: CallResult::unseen() });
}

fn shape(header: &[u8]) -> Option<Shape> {
    let [kind, _, _, size @ ..] = header else { return None };
    let size = u32::from_be_bytes(size.try_into().ok()?);
    let keep = match *kind {
        METHOD => KEPT_METHOD,
        CONTENT => KEPT_CONTENT,
        BODY | HEARTBEAT => 0,
        _ => return None,
    };
    (size <= LONGEST).then_some(Shape { length: u64::from(size) + 1, keep: keep.min(size as usize) })
}

/// Whether a frame begins here, and ends where it says if it ends here.
fn is_frame(bytes: &[u8]) -> bool {
    let Some(shape) = bytes.get(..HEADER).and_then(shape) else { return false };
    let end = usize::try_from(shape.length).ok().and_then(|length| bytes.get(HEADER + length - 1));
    end.is_none_or(|end| *end == END)
}

/// Whether a client's bytes open a connection.
#[must_use]
pub fn begins(head: &[u8]) -> bool {
    head.starts_with(GREETING)
}

/// Whether a client's bytes go on with one: frames up to the end of the call, of which one says something.
#[must_use]
pub fn continues(head: &[u8], moved: u64) -> bool {
    let mut at = 0;
    loop {
        let Some(bytes) = head.get(at..).filter(|bytes| !bytes.is_empty()) else {
            return at > 0 && at as u64 == moved;
        };
        let Some(shape) = bytes.get(..HEADER).and_then(shape) else {
            // The rest of a header was not captured.
            return at > 0 && bytes.len() < HEADER && (head.len() as u64) < moved;
        };
        let says = match bytes[0] {
            METHOD => bytes.get(HEADER..).is_some_and(|payload| asked(payload).is_some()),
            // Without a method before it, a body proves nothing.
            HEARTBEAT => shape.length == 1,
            _ => at > 0,
        };
        if !says || !is_frame(bytes) {
            return false;
        }
        at = at.saturating_add(HEADER).saturating_add(usize::try_from(shape.length).unwrap_or(usize::MAX));
        if at > head.len() {
            return (head.len() as u64) < moved && at as u64 <= moved;
        }
    }
}
