//! Streams of one connection as calls. A call begins with the header block of its request, and has been answered when
//! its stream ends. Its tag is the stream's number, which is never 0 and never used again.

use super::frames::{self, HEADER, Head, PREFACE, chain, flag, fragment, kind, shape};
use super::hpack::{Field, Hpack, Name};
use crate::transactions::clients::frames::{Frame, Frames, follow};
use crate::transactions::clients::http::result_of;
use crate::transactions::clients::{Call, CallResult, Calls, Operation, Protocol, Wants};
use crate::transactions::http::{Part, host_of, known_method, path_of};
use pyapm_wire::connection::MAX_CAPTURE;
use std::collections::VecDeque;

/// Streams that are followed at once; servers allow 100 or some more.
const MOST_STREAMS: usize = 1024;
/// Bytes of one header block over all its frames.
const LONGEST_BLOCK: usize = 256 * 1024;

#[derive(Debug)]
pub struct Http2 {
    sent: Way,
    received: Way,
    /// Bytes of the preface that are still to come.
    preface: usize,
    streams: VecDeque<Stream>,
    /// Number of the latest stream that the client began.
    latest: u32,
    saw_opening: bool,
}

/// One direction.
#[derive(Debug)]
struct Way {
    frames: Frames,
    table: Hpack,
    block: Option<Block>,
}

/// A header block that has not ended.
#[derive(Debug)]
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    ends_stream: bool,
    /// The fields are those of a request that the server only promises.
    promised: bool,
    /// Some of it is missing.
    broken: bool,
}

/// A call that has not been answered.
#[derive(Debug)]
struct Stream {
    id: u32,
    answering: bool,
    status: Option<u16>,
    /// Of bodies; `None` when some of it could not be told.
    sent: Option<u64>,
    received: Option<u64>,
}

/// What is kept of a block's fields.
#[derive(Debug, Default)]
struct Fields {
    method: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    status: Option<u16>,
    /// At least one is in an entry that was not seen.
    unknown: bool,
    broken: bool,
}

impl Way {
    fn new(complete: bool) -> Self {
        Self { frames: Frames::default(), table: Hpack::new(complete), block: None }
    }

    /// Nothing more is known of where frames begin, nor of what was added to the table.
    fn lose(&mut self) {
        self.table.forget();
        self.block = None;
    }

    /// A frame with a part of a header block; the block, if it is the last.
    fn gather(&mut self, head: Head, frame: &Frame<'_>) -> Option<Block> {
        if head.kind != kind::CONTINUATION {
            // One that was not ended would have been an error of the connection.
            let unfinished = self.block.take().is_some();
            if unfinished {
                self.table.forget();
            }
            self.block = Some(Block {
                stream: head.stream,
                bytes: Vec::new(),
                ends_stream: head.kind == kind::HEADERS && head.has(flag::END_STREAM),
                promised: head.kind == kind::PUSH_PROMISE,
                broken: false,
            });
        }
        let block = self.block.as_mut().filter(|block| block.stream == head.stream);
        let Some(block) = block else {
            // The beginning went by unseen.
            self.table.forget();
            self.block = None;
            return None;
        };
        match fragment(head, frame) {
            Some(bytes) if block.bytes.len() + bytes.len() <= LONGEST_BLOCK => {
                block.bytes.extend_from_slice(bytes);
            }
            _ => block.broken = true,
        }
        if head.has(flag::END_HEADERS) { self.block.take() } else { None }
    }

    fn fields(&mut self, block: &Block) -> Fields {
        let mut fields = Fields::default();
        if block.broken {
            self.table.forget();
            fields.broken = true;
            return fields;
        }
        let read = self.table.block(&block.bytes, |field| fields.take(field));
        fields.broken = read.is_err();
        fields
    }
}

impl Fields {
    fn take(&mut self, Field { name, value }: Field<'_>) {
        let owned = || value.map(<[u8]>::to_vec);
        match name {
            Name::Method => self.method = owned(),
            Name::Path => self.path = owned(),
            Name::Authority => self.authority = owned(),
            Name::Status => {
                let text = value.and_then(|value| std::str::from_utf8(value).ok());
                self.status =
                    text.and_then(|text| text.parse().ok()).filter(|code| (100..1000).contains(code));
            }
            Name::Unknown => self.unknown = true,
            Name::Other => {}
        }
    }

    /// It may be a request: trailers have none of these fields.
    fn may_ask(&self) -> bool {
        self.method.is_some()
            || self.path.is_some()
            || self.authority.is_some()
            || self.unknown
            || self.broken
    }

    /// Something that matters is in a part of the block that is not known.
    fn is_short_of(&self, answer: bool) -> bool {
        let missing = if answer {
            self.status.is_none()
        } else {
            self.method.is_none() || (self.path.is_none() && self.method.as_deref() != Some(b"CONNECT"))
        };
        missing && (self.unknown || self.broken)
    }

    fn operation(&self) -> Operation {
        Operation::Http {
            method: self.method.as_deref().map(known_method),
            path: self.path.as_deref().and_then(path_of),
            host: self.authority.as_deref().and_then(host_of),
            position: None,
        }
    }
}

impl Stream {
    /// It has ended; how, is known by its status.
    fn result(&self) -> CallResult {
        CallResult {
            unseen: self.status.is_none(),
            request_bytes: self.sent,
            response_bytes: self.received,
            ..result_of(self.status)
        }
    }

    fn failed(&self, error: &str) -> CallResult {
        let unanswered = !self.answering;
        CallResult { error: Some(error.to_owned()), unseen: false, unanswered, ..self.result() }
    }

    fn unseen(&self) -> CallResult {
        CallResult { unseen: true, ..result_of(self.status) }
    }
}

impl Http2 {
    /// From the connection's first byte on.
    #[must_use]
    pub fn opening() -> Self {
        Self {
            sent: Way::new(true),
            received: Way::new(true),
            preface: PREFACE.len(),
            streams: VecDeque::new(),
            latest: 0,
            saw_opening: true,
        }
    }

    /// The connection is older than whoever looks at it.
    #[must_use]
    pub fn in_the_middle() -> Self {
        Self {
            sent: Way::new(false),
            received: Way::new(false),
            preface: 0,
            saw_opening: false,
            ..Self::opening()
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id)
    }

    fn end(&mut self, id: u32, calls: &mut Calls, result: impl FnOnce(&Stream) -> CallResult) {
        if let Some(stream) = self.place(id).and_then(|place| self.streams.remove(place)) {
            calls.push(Call::Ended { tag: u64::from(id), result: result(&stream) });
        }
    }

    /// A request, or the trailers of one.
    fn asked(&mut self, block: &Block, calls: &mut Calls) {
        let fields = self.sent.fields(block);
        // Those that the client begins have odd numbers, each higher than all before (RFC 9113 section 5.1.1).
        if block.stream <= self.latest || block.stream.is_multiple_of(2) || !fields.may_ask() {
            return;
        }
        self.latest = block.stream;
        if fields.is_short_of(false) {
            calls.push(Call::Undecoded);
        }
        if self.streams.len() >= MOST_STREAMS
            && let Some(oldest) = self.streams.pop_front()
        {
            calls.push(Call::Overflow);
            calls.push(Call::Ended { tag: u64::from(oldest.id), result: oldest.unseen() });
        }
        self.streams.push_back(Stream {
            id: block.stream,
            answering: false,
            status: None,
            sent: Some(0),
            received: Some(0),
        });
        calls.push(Call::Began { tag: u64::from(block.stream), operation: fields.operation() });
    }

    /// An answer's fields, or its trailers.
    fn answered(&mut self, block: &Block, calls: &mut Calls) {
        let fields = self.received.fields(block);
        if block.promised {
            return;
        }
        let Some(stream) = self.place(block.stream).and_then(|place| self.streams.get_mut(place)) else {
            return;
        };
        let tag = u64::from(stream.id);
        stream.answering = true;
        calls.push(Call::Answering { tag });
        if stream.status.is_none() {
            // What is said before the answer (RFC 9110 section 15.2).
            if !matches!(fields.status, Some(100..=199)) {
                stream.status = fields.status;
                if fields.is_short_of(true) {
                    calls.push(Call::Undecoded);
                }
                if stream.status.is_some() && !block.ends_stream {
                    calls.push(Call::Accepted { tag, result: stream.unseen() });
                }
            }
        }
        if block.ends_stream {
            self.end(block.stream, calls, Stream::result);
        }
    }

    fn sent_frame(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        let Some(head) = Head::parse(frame.header) else { return };
        match head.kind {
            kind::HEADERS | kind::CONTINUATION => {
                if let Some(block) = self.sent.gather(head, frame) {
                    self.asked(&block, calls);
                }
            }
            kind::DATA => {
                let place = self.place(head.stream);
                if let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) {
                    stream.sent = add(stream.sent, frames::data(head, frame));
                }
            }
            kind::RST_STREAM => self.reset(head.stream, frame, calls),
            _ => {}
        }
    }

    fn received_frame(&mut self, frame: &Frame<'_>, calls: &mut Calls) {
        let Some(head) = Head::parse(frame.header) else { return };
        match head.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                if let Some(block) = self.received.gather(head, frame) {
                    self.answered(&block, calls);
                }
            }
            kind::DATA => {
                let place = self.place(head.stream);
                if let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) {
                    stream.received = add(stream.received, frames::data(head, frame));
                }
                if head.has(flag::END_STREAM) {
                    calls.push(Call::Answering { tag: u64::from(head.stream) });
                    self.end(head.stream, calls, Stream::result);
                }
            }
            kind::RST_STREAM => self.reset(head.stream, frame, calls),
            kind::GOAWAY => {
                // Streams behind the last one have not been looked at, and will not be (section 6.8).
                let (Some(last), _) = frames::numbers(frame.payload) else { return };
                let refused: Vec<u32> = self
                    .streams
                    .iter()
                    .map(|stream| stream.id)
                    .filter(|id| *id > last & 0x7fff_ffff)
                    .collect();
                for id in refused {
                    self.end(id, calls, |stream| stream.failed("GOAWAY"));
                }
            }
            _ => {}
        }
    }

    fn reset(&mut self, id: u32, frame: &Frame<'_>, calls: &mut Calls) {
        let error = frames::error(frames::numbers(frame.payload).0);
        // A server that has answered may be in no need of the rest of the request: it resets without error (section 8.1).
        self.end(id, calls, |stream| stream.failed(error));
    }

    /// Whether a call's first bytes, at which the place is lost, are frames of streams that are known.
    fn picks_up(&self, bytes: &[u8]) -> bool {
        let Some(head) = Head::parse(bytes) else { return false };
        let is_known = head.stream == 0
            || (head.stream <= self.latest && self.place(head.stream).is_some())
            || head.kind == kind::WINDOW_UPDATE;
        is_known && chain(bytes, bytes.len() as u64)
    }
}

impl Protocol for Http2 {
    fn sent(&mut self, mut part: Part<'_>, first: bool, calls: &mut Calls) {
        if self.preface > 0 {
            match part {
                Part::Bytes(bytes) => {
                    let (preface, rest) = bytes.split_at(bytes.len().min(self.preface));
                    self.preface -= preface.len();
                    part = Part::Bytes(rest);
                }
                Part::Absent(_) | Part::Lost(_) => self.preface = 0,
            }
        }
        if first
            && self.sent.frames.is_lost()
            && let Part::Bytes(bytes) = part
            && (frames::continues(bytes, bytes.len() as u64) || self.picks_up(bytes))
        {
            self.sent.frames.restart();
        }
        let was_lost = self.sent.frames.is_lost();
        let mut frames = std::mem::take(&mut self.sent.frames);
        follow(&mut frames, part, HEADER, shape, |frame| self.sent_frame(&frame, calls));
        self.sent.frames = frames;
        if self.sent.frames.is_lost() && !was_lost {
            self.sent.lose();
            calls.push(Call::Lost);
        }
    }

    fn received(&mut self, part: Part<'_>, first: bool, calls: &mut Calls) {
        if first
            && self.received.frames.is_lost()
            && let Part::Bytes(bytes) = part
            && self.picks_up(bytes)
        {
            self.received.frames.restart();
            // What ended meanwhile is not known.
            for stream in &mut self.streams {
                stream.received = None;
            }
        }
        let was_lost = self.received.frames.is_lost();
        let mut frames = std::mem::take(&mut self.received.frames);
        follow(&mut frames, part, HEADER, shape, |frame| self.received_frame(&frame, calls));
        self.received.frames = frames;
        if self.received.frames.is_lost() && !was_lost {
            self.received.lose();
            calls.push(Call::Lost);
        }
    }

    fn system(&self) -> &'static str {
        "http"
    }

    /// Frames begin anywhere in what one call moves, so all of it is wanted but the rest of a long frame of data.
    fn wants(&self) -> Wants {
        Wants {
            received: MAX_CAPTURE,
            sent: MAX_CAPTURE,
            indifferent_received: self.received.frames.indifferent(),
            indifferent_sent: self.sent.frames.indifferent(),
            stacks: true,
        }
    }

    fn closed(&mut self, calls: &mut Calls) {
        for stream in self.streams.drain(..) {
            calls.push(Call::Ended { tag: u64::from(stream.id), result: stream.unseen() });
        }
    }

    fn saw_opening(&self) -> bool {
        self.saw_opening
    }
}

/// Unknown parts make an unknown sum.
fn add(sum: Option<u64>, more: Option<u64>) -> Option<u64> {
    sum?.checked_add(more?)
}

#[cfg(test)]
mod tests;
