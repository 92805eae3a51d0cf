//! The server side of one HTTP/1 connection: requests come in, responses go out in the same order.
//!
//! Both streams are followed by position. Bytes that nobody captured, or whose records were lost, are
//! stepped over where the framing allows it; where it does not, the exchanges concerned are marked and the
//! stream is picked up again at the next thing that looks like a head at the start of a call.

use super::Body;
use super::body::Progress;
use super::detect::{Likeness, request_likeness};
use super::head::{Framing, Gathered, Gathering, RequestHead, parse_request, request_line};
use super::uwsgi::{packet_length, packet_likeness, parse_packet};
use crate::transactions::Counts;
use pyapm_model::line::Outcome;
use std::collections::VecDeque;

/// One request and its response, with whatever the caller lets ride along.
#[derive(Clone, Debug)]
pub struct Exchange<W> {
    /// Number of the request on its connection.
    pub sequence: u64,
    pub request: RequestHead,
    pub status: Option<u16>,
    /// When the first byte of the request had been read.
    pub started_ns: u64,
    /// Where that byte stands among all that were offered.
    pub position: u64,
    /// When the last byte of the response so far had been written; 0 when there is none.
    pub last_out_ns: u64,
    /// Heads and bodies.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The part of them that heads are.
    pub request_head: u64,
    pub response_head: u64,
    /// Some of this is a guess: framing was lost while it was open.
    pub guessed: bool,
    pub work: W,
}

/// An exchange that has ended.
#[derive(Clone, Debug)]
pub struct Ended<W> {
    pub exchange: Exchange<W>,
    pub outcome: Outcome,
    pub ended_ns: u64,
}

/// Where what happens is written to.
#[derive(Debug)]
pub struct Sink<'a, W> {
    pub ended: &'a mut Vec<Ended<W>>,
    pub counts: &'a mut Counts,
    /// Exchanges that may still be opened, over all connections.
    pub room: usize,
    /// The same for this connection.
    pub room_here: usize,
}

/// A run of a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Bytes(&'a [u8]),
    /// So many bytes moved but were not captured.
    Absent(u64),
    /// So many bytes moved and the record of it was lost.
    Lost(u64),
}

/// How requests begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requests {
    #[default]
    Http,
    /// Packets of the uwsgi protocol.
    Uwsgi,
}

#[derive(Debug)]
pub(super) enum Inbound {
    Head(Gathering),
    Body {
        body: Body,
        sequence: u64,
        /// The client may have given the body up: it waited for an interim response that never came.
        awaited: bool,
    },
    Lost,
    Ignored,
}

#[derive(Debug)]
pub(super) enum Outbound {
    Head(Gathering),
    /// `stray` when the response belongs to no request that was seen.
    Body {
        body: Body,
        stray: bool,
    },
    Lost,
    Ignored,
}

/// See the module.
#[derive(Debug)]
pub struct Server<W> {
    requests: Requests,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) open: VecDeque<Exchange<W>>,
    next_sequence: u64,
    /// Inbound bytes so far, those of the part that is being looked at included.
    offered: u64,
    pub(super) last_out_ns: u64,
    pub(super) upgraded: bool,
}

impl<W> Default for Server<W> {
    fn default() -> Self {
        Self {
            requests: Requests::Http,
            inbound: Inbound::Head(Gathering::default()),
            outbound: Outbound::Head(Gathering::default()),
            open: VecDeque::new(),
            next_sequence: 0,
            offered: 0,
            last_out_ns: 0,
            upgraded: false,
        }
    }
}

impl<W: Default> Server<W> {
    #[must_use]
    pub fn new(requests: Requests) -> Self {
        Self { requests, ..Self::default() }
    }

    /// The oldest exchange whose response has not ended: the one being worked on.
    pub fn current(&mut self) -> Option<&mut Exchange<W>> {
        self.open.front_mut()
    }

    /// Number of the latest request; `None` before any.
    #[must_use]
    pub fn latest(&self) -> Option<u64> {
        self.next_sequence.checked_sub(1)
    }

    /// An open exchange by its number.
    pub fn exchange(&mut self, sequence: u64) -> Option<&mut Exchange<W>> {
        let first = self.open.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.open.get_mut(index)
    }

    /// Exchanges whose response has not ended, oldest first.
    pub fn open(&self) -> impl ExactSizeIterator<Item = &Exchange<W>> {
        self.open.iter()
    }

    /// As [`Self::open`], to change what rides along.
    pub fn open_mut(&mut self) -> impl Iterator<Item = &mut Exchange<W>> {
        self.open.iter_mut()
    }

    /// Where the current response ends is not known any more.
    #[must_use]
    pub fn is_answer_lost(&self) -> bool {
        matches!(self.outbound, Outbound::Lost) && self.open.front().is_some_and(|front| front.guessed)
    }

    /// The connection speaks something else from here on.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        matches!((&self.inbound, &self.outbound), (Inbound::Ignored, Outbound::Ignored))
    }

    /// Both ends have agreed on another protocol.
    #[must_use]
    pub fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Bytes ahead in each direction whose values do not matter.
    #[must_use]
    pub fn indifferent(&self) -> (u64, u64) {
        let inbound = match &self.inbound {
            Inbound::Body { body, .. } => body.indifferent(),
            _ => 0,
        };
        let outbound = match &self.outbound {
            Outbound::Body { body, .. } => body.indifferent(),
            _ => 0,
        };
        (inbound, outbound)
    }

    /// Inbound bytes. `first` says that they are the first of one call, where a message may begin.
    pub fn inbound(&mut self, time_ns: u64, part: Part<'_>, first: bool, sink: &mut Sink<'_, W>) {
        match part {
            Part::Bytes(bytes) => {
                self.offered += bytes.len() as u64;
                self.inbound_bytes(time_ns, bytes, first, sink);
            }
            Part::Absent(count) | Part::Lost(count) => {
                self.offered += count;
                self.inbound_unseen(count, sink);
            }
        }
    }

    fn inbound_bytes(&mut self, time_ns: u64, mut bytes: &[u8], mut first: bool, sink: &mut Sink<'_, W>) {
        while !bytes.is_empty() {
            match &mut self.inbound {
                Inbound::Head(gathering) => {
                    if gathering.bytes.is_empty() && self.requests == Requests::Uwsgi {
                        gathering.started_ns = time_ns;
                        gathering.position = self.offered - bytes.len() as u64;
                    } else if gathering.bytes.is_empty() {
                        // Empty lines before a request line: RFC 9112 section 2.2.
                        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                        bytes = &bytes[blank..];
                        if bytes.is_empty() {
                            return;
                        }
                        gathering.started_ns = time_ns;
                        gathering.position = self.offered - bytes.len() as u64;
                    }
                    let taken = self.request_head(bytes, sink);
                    bytes = &bytes[taken..];
                }
                Inbound::Body { body, sequence, awaited } => {
                    let abandoned = *awaited
                        && first
                        && request_likeness(bytes) == Likeness::Yes
                        && self.open.back().is_none_or(|last| last.sequence != *sequence);
                    if abandoned {
                        self.inbound = Inbound::Head(Gathering::default());
                        continue;
                    }
                    *awaited = false;
                    let (taken, progress) = body.bytes(bytes);
                    bytes = &bytes[taken..];
                    if let Some(last) = self.open.back_mut()
                        && last.sequence == *sequence
                    {
                        last.request_bytes += taken as u64;
                    }
                    if progress == Progress::Done {
                        self.inbound = Inbound::Head(Gathering::default());
                    } else if progress.is_lost() {
                        // Bytes that no client may send: the server refuses them, and what it answers
                        // is framed by itself. Nothing is a guess.
                        sink.counts.framing_lost += 1;
                        self.inbound = Inbound::Lost;
                    }
                }
                Inbound::Lost if first && self.requests.starts(bytes) => {
                    self.inbound = Inbound::Head(Gathering::default());
                }
                Inbound::Lost | Inbound::Ignored => return,
            }
            first = false;
        }
    }

    fn inbound_unseen(&mut self, count: u64, sink: &mut Sink<'_, W>) {
        let (lost, rest) = match &mut self.inbound {
            Inbound::Body { body, sequence, .. } => {
                let (taken, progress) = body.absent(count);
                if let Some(last) = self.open.back_mut()
                    && last.sequence == *sequence
                {
                    last.request_bytes += taken;
                }
                match progress {
                    Progress::Done => {
                        self.inbound = Inbound::Head(Gathering::default());
                        (false, count - taken)
                    }
                    other => (other.is_lost(), 0),
                }
            }
            Inbound::Head(_) => (false, count),
            Inbound::Lost | Inbound::Ignored => return,
        };
        // Any number of heads may hide in the rest.
        if lost || rest > 0 {
            sink.counts.framing_lost += 1;
            self.inbound = Inbound::Lost;
            for exchange in &mut self.open {
                exchange.guessed = true;
            }
        }
    }

    /// Gathers a request head; returns how many bytes it took.
    fn request_head(&mut self, bytes: &[u8], sink: &mut Sink<'_, W>) -> usize {
        let Inbound::Head(gathering) = &mut self.inbound else { return bytes.len() };
        let began = gathering.began();
        if self.requests == Requests::Uwsgi {
            return self.packet(bytes, sink);
        }
        let gathered = gathering.offer(bytes);
        let head = if gathering.bytes.is_empty() { bytes } else { &gathering.bytes };
        let (taken, length, request) = match gathered {
            Gathered::Whole(taken) => {
                let length = if gathering.bytes.is_empty() { taken } else { head.len() };
                (taken, length, parse_request(&head[..length]))
            }
            // The server will refuse it; the answer is a transaction all the same.
            Gathered::TooLong => (bytes.len(), head.len(), request_line(head)),
            Gathered::More if request_likeness(head) == Likeness::No => (bytes.len(), head.len(), None),
            Gathered::More => return bytes.len(),
        };
        let Some(request) = request else {
            sink.counts.framing_lost += 1;
            self.inbound = Inbound::Lost;
            return taken;
        };
        self.begin(request, began, length as u64, sink);
        taken
    }

    /// Gathers a packet of the uwsgi protocol; returns how many bytes it took.
    fn packet(&mut self, bytes: &[u8], sink: &mut Sink<'_, W>) -> usize {
        let Inbound::Head(gathering) = &mut self.inbound else { return bytes.len() };
        let before = gathering.bytes.len();
        gathering.bytes.extend_from_slice(bytes);
        // At most 65,539 bytes, by its own header; what is more stays with the caller.
        let whole = packet_length(&gathering.bytes).filter(|length| *length <= gathering.bytes.len());
        let request = match whole {
            _ if packet_likeness(&gathering.bytes) == Likeness::No => None,
            Some(length) => parse_packet(&gathering.bytes[..length]),
            None => return bytes.len(),
        };
        let began = gathering.began();
        let (Some(request), Some(length)) = (request, whole) else {
            sink.counts.framing_lost += 1;
            self.inbound = Inbound::Lost;
            return bytes.len();
        };
        self.begin(request, began, length as u64, sink);
        length.saturating_sub(before)
    }

    pub(super) fn begin(
        &mut self,
        request: RequestHead,
        (started_ns, position): (u64, u64),
        head_bytes: u64,
        sink: &mut Sink<'_, W>,
    ) {
        // Responses cannot be told apart any more: whatever is open has been answered unseen, because a
        // client that does not pipeline sends its next request after the answer.
        if matches!(self.outbound, Outbound::Lost) && !self.open.is_empty() {
            while let Some(exchange) = self.open.pop_front() {
                let ended_ns = exchange.last_out_ns.max(exchange.started_ns);
                sink.ended.push(Ended { exchange, outcome: Outcome::Incomplete, ended_ns });
            }
            self.outbound = Outbound::Head(Gathering::default());
        }
        if sink.room == 0 || self.open.len() >= sink.room_here {
            sink.counts.active_overflow += 1;
            self.ignore(sink);
            return;
        }
        sink.room -= 1;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.inbound = match request.framing.clone() {
            Framing::None => Inbound::Head(Gathering::default()),
            Framing::Body(body) => Inbound::Body { body, sequence, awaited: request.expects_continue },
            Framing::Unclear => {
                sink.counts.framing_lost += 1;
                Inbound::Lost
            }
        };
        // Most connections never have more than one, and it is large: room for several would be most of what a connection
        // that serves one request costs.
        if self.open.is_empty() {
            self.open.reserve_exact(1);
        }
        self.open.push_back(Exchange {
            sequence,
            request,
            status: None,
            started_ns,
            position,
            last_out_ns: 0,
            request_bytes: head_bytes,
            response_bytes: 0,
            request_head: head_bytes,
            response_head: 0,
            guessed: false,
            work: W::default(),
        });
    }

    /// Opens an exchange whose message was framed by somebody else; false when there is no room for it.
    pub fn take_up(
        &mut self,
        request: RequestHead,
        started_ns: u64,
        bytes: u64,
        sink: &mut Sink<'_, W>,
    ) -> bool {
        if sink.room == 0 || self.open.len() >= sink.room_here {
            sink.counts.active_overflow += 1;
            return false;
        }
        self.begin(request, (started_ns, 0), bytes, sink);
        true
    }

    /// Ends what is open, of which nothing more is heard.
    pub fn give_up(&mut self, time_ns: u64, sink: &mut Sink<'_, W>) {
        while !self.open.is_empty() {
            self.end(Outcome::Incomplete, Some(time_ns), sink);
        }
    }

    /// The current exchange has ended, as somebody else has told, with so many bytes.
    pub fn done(&mut self, time_ns: u64, bytes: u64, sink: &mut Sink<'_, W>) {
        if let Some(exchange) = self.open.front_mut() {
            exchange.response_bytes = bytes;
        }
        self.end(Outcome::Complete, Some(time_ns), sink);
    }

    /// Ends the oldest exchange, at its last response byte when no time is given.
    pub(super) fn end(&mut self, outcome: Outcome, ended_ns: Option<u64>, sink: &mut Sink<'_, W>) {
        let Some(exchange) = self.open.pop_front() else { return };
        let outcome = if exchange.guessed { Outcome::Incomplete } else { outcome };
        let ended_ns = ended_ns.unwrap_or(exchange.last_out_ns).max(exchange.started_ns);
        sink.ended.push(Ended { exchange, outcome, ended_ns });
    }

    /// The rest of the connection is another protocol's (an upgrade, a tunnel), or too much.
    pub(super) fn ignore(&mut self, sink: &mut Sink<'_, W>) {
        while !self.open.is_empty() {
            self.end(Outcome::Incomplete, None, sink);
        }
        self.inbound = Inbound::Ignored;
        self.outbound = Outbound::Ignored;
    }

    /// The connection has ended: closed by the process (`outcome` is then [`Outcome::Aborted`] for what is
    /// not whole), broken, or gone with its process.
    pub fn finish(&mut self, time_ns: u64, outcome: Outcome, closed: bool, sink: &mut Sink<'_, W>) {
        if matches!(&self.inbound, Inbound::Head(gathering) if !gathering.bytes.is_empty()) {
            sink.counts.head_unfinished += 1;
        }
        let whole_at_close =
            closed && matches!(&self.outbound, Outbound::Body { body: Body::UntilClose, stray: false });
        if whole_at_close {
            self.end(Outcome::Complete, None, sink);
        }
        while let Some(front) = self.open.front() {
            // Whether the rest was sent is what nobody saw: the last byte known is the best end.
            if closed && front.guessed && front.response_bytes > 0 {
                self.end(Outcome::Incomplete, None, sink);
            } else if let Some(exchange) = self.open.pop_front() {
                let ended_ns = time_ns.max(exchange.started_ns);
                sink.ended.push(Ended { exchange, outcome, ended_ns });
            }
        }
        self.inbound = Inbound::Ignored;
        self.outbound = Outbound::Ignored;
    }
}

impl Requests {
    fn starts(self, bytes: &[u8]) -> bool {
        match self {
            Self::Http => starts_request(bytes),
            Self::Uwsgi => packet_likeness(bytes) == Likeness::Yes,
        }
    }
}

/// Looks like a request at the start of a call, even if its line is not whole yet.
fn starts_request(bytes: &[u8]) -> bool {
    match request_likeness(bytes) {
        Likeness::Yes => true,
        Likeness::Maybe => bytes.contains(&b' '),
        Likeness::No => false,
    }
}
