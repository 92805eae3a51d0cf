//! Calls on a connection whose protocol is parsed: the parser says where they begin and end, this says
//! whose they are.

use super::streams::{Begun, Streams};
use super::{Answer, Asking, OpenSpan, SpanId};
use crate::intake::{ConnectionId, Direction, Io};
use crate::transactions::Transactions;
use crate::transactions::clients::{Call, CallResult, Calls, Operation, Protocol};
use crate::transactions::connection::{Speaks, parts};
use crate::transactions::http::Part;
use crate::transactions::joining::Made;
use crate::transactions::sql::Dialect;
use crate::transactions::thread::ThreadKey;
use pyapm_model::stack::Stack;
use pyapm_wire::scope::Scope;
use std::collections::VecDeque;

/// Calls that may be open at once on one connection; what is beyond is answered unseen.
const MOST_OPEN: usize = 4_096;

/// A connection to a server whose protocol is known.
#[derive(Debug)]
pub struct Client {
    pub protocol: Box<dyn Protocol>,
    /// Tags of calls that are not answered, oldest first, and their spans: `None` for a call that is nobody's.
    open: VecDeque<(u64, Option<SpanId>)>,
    /// Its client library tells where its calls are made, before they are on the wire.
    pub sites_known: bool,
    has_called: bool,
    /// Its first call, until it is known how the connection came to be.
    pub first: Option<(SpanId, ThreadKey)>,
    /// When it was looked at last whether it is there; the next call takes that.
    checked_ns: Option<u64>,
    /// Where calls have tags because they share the connection in any order.
    streams: Streams,
}

/// Who makes a call, and when.
#[derive(Debug)]
pub struct Caller {
    pub time_ns: u64,
    pub thread: ThreadKey,
    pub scope: Scope,
    pub stack: Option<Stack>,
}

impl Client {
    #[must_use]
    pub fn new(protocol: Box<dyn Protocol>) -> Self {
        Self {
            protocol,
            open: VecDeque::new(),
            sites_known: false,
            has_called: false,
            first: None,
            checked_ns: None,
            streams: Streams::default(),
        }
    }

    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.protocol.is_opaque()
    }

    fn feed(&mut self, io: &Io<'_>, lost: u64, calls: &mut Calls) {
        let lost = (lost > 0).then_some((Part::Lost(lost), false));
        for (part, first) in lost.into_iter().chain(parts(io, true)) {
            match io.direction {
                Direction::Out => self.protocol.sent(part, first, calls),
                Direction::In => self.protocol.received(part, first, calls),
            }
        }
        if io.failed || io.end_of_stream {
            self.protocol.closed(calls);
        }
    }

    fn opened(&mut self, tag: u64, span: Option<SpanId>) {
        if self.open.len() >= MOST_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((tag, span));
    }

    /// The call that is answered next; `None` where calls are answered in any order.
    #[must_use]
    pub fn oldest(&self) -> Option<SpanId> {
        self.open.front().filter(|(tag, _)| *tag == 0).and_then(|(_, span)| *span)
    }

    fn position(&self, tag: u64) -> Option<usize> {
        self.open.iter().position(|(open, _)| *open == tag)
    }
}

impl Transactions {
    /// One call's bytes on a client connection; `lost` bytes went before them, `None` when the record was
    /// not used.
    pub(in crate::transactions) fn client(&mut self, caller: &Caller, io: &Io<'_>, lost: Option<u64>) {
        let Some(lost) = lost else { return };
        let mut calls = std::mem::take(&mut self.calls);
        if let Some(client) = self.client_of(io.connection) {
            client.feed(io, lost, &mut calls);
        }
        let ends = calls.iter().any(|call| matches!(call, Call::Ended { .. }));
        self.apply(caller, io.connection, &mut calls);
        self.calls = calls;
        if io.direction == Direction::In && io.moved > 0 && !ends {
            self.answering(caller.time_ns, io.connection);
        }
    }

    /// Bytes have come that end no call: where answers come in order, they belong to the oldest.
    fn answering(&mut self, time_ns: u64, connection: ConnectionId) {
        let oldest = self.client_of(connection).and_then(|client| client.open.front().copied());
        if let Some((0, Some(span))) = oldest
            && let Some(span) = self.spans.get_mut(span)
        {
            span.some_answer(time_ns);
        }
    }

    /// The connection has gone. What an answer has said so far still counts: a client that wants the status only
    /// may leave the body unread.
    pub(in crate::transactions) fn client_closed(&mut self, time_ns: u64, client: &mut Client) {
        let mut calls = std::mem::take(&mut self.calls);
        client.protocol.closed(&mut calls);
        for call in calls.drain(..) {
            if let Call::Ended { tag, result } = call
                && let Some(index) = client.position(tag)
                && let Some((_, Some(span))) = client.open.remove(index)
                && let Some(span) = self.spans.get_mut(span)
            {
                end(span, time_ns, result);
            }
        }
        self.calls = calls;
        for (_, span) in client.open.drain(..) {
            if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
                span.closed = true;
            }
        }
    }

    fn apply(&mut self, caller: &Caller, connection: ConnectionId, calls: &mut Calls) {
        let began = calls.iter().filter(|call| matches!(call, Call::Began { .. })).count();
        for call in calls.drain(..) {
            match call {
                Call::Began { tag, operation: operation @ Operation::Http { .. } } if tag != 0 => {
                    self.stream_began(caller, connection, tag, operation, began);
                }
                Call::Began { tag, operation } => self.call_began(caller, connection, tag, operation),
                Call::Answering { tag } => {
                    let span = self.client_of(connection).and_then(|client| {
                        let index = client.position(tag)?;
                        client.open.get(index)?.1
                    });
                    if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
                        span.some_answer(caller.time_ns);
                    }
                }
                Call::Ended { tag, result } => {
                    self.set_up(connection);
                    let span = self.client_of(connection).and_then(|client| {
                        client.streams.ended(tag);
                        let index = client.position(tag)?;
                        client.open.remove(index)?.1
                    });
                    if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
                        end(span, caller.time_ns, result);
                    }
                }
                Call::Accepted { tag, result } => {
                    let span = self.client_of(connection).and_then(|client| {
                        let index = client.position(tag)?;
                        client.open.get(index)?.1
                    });
                    if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
                        span.some_answer(caller.time_ns);
                        span.answer = Answer::Read(result);
                    }
                }
                Call::Checked => {
                    if let Some(client) = self.client_of(connection) {
                        client.checked_ns = Some(caller.time_ns);
                    }
                }
                Call::Lost => self.counts.framing_lost += 1,
                Call::Undecoded => self.counts.headers_undecoded += 1,
                Call::Overflow => self.counts.calls_overflow += 1,
            }
        }
    }

    /// As [`Self::call_began`], for a call whose bytes another may have written.
    fn stream_began(
        &mut self,
        caller: &Caller,
        connection: ConnectionId,
        tag: u64,
        operation: Operation,
        with_it: usize,
    ) {
        let Some(client) = self.client_of(connection) else { return };
        let begun = Begun { with_it, others_open: !client.open.is_empty() };
        if client.streams.is_writers(caller, begun) {
            return self.call_began(caller, connection, tag, operation);
        }
        client.streams.doubt(tag, caller.time_ns);
        // Whoever asked for it, there is but one request that it can be for.
        if self.requests_in_flight(caller.thread.pid) == 1 {
            return self.call_began(caller, connection, tag, operation);
        }
        self.counts.span_unplaced += 1;
        self.counts.unplaced_shared_connection += 1;
        if let Some(client) = self.client_of(connection) {
            client.has_called = true;
            client.opened(tag, None);
        }
    }

    /// Those that have not been answered, in one process.
    fn requests_in_flight(&self, pid: u32) -> usize {
        let servers =
            self.connections.values().filter(|one| one.pid == pid).filter_map(|one| one.speaks.server());
        servers.map(|server| server.open().len()).sum()
    }

    fn call_began(&mut self, caller: &Caller, connection: ConnectionId, tag: u64, operation: Operation) {
        let position = match &operation {
            Operation::Http { position, .. } => *position,
            _ => None,
        };
        let adopted = match &operation {
            Operation::Statement { system, text_len, .. } => {
                self.adopt(caller.thread, connection, system, *text_len)
            }
            _ => None,
        };
        let span = match adopted {
            Some(span) => span,
            None => {
                let asking = self.asking(operation);
                self.open_span(caller, asking)
            }
        };
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let (peer, opened_ns) = (known.peer, known.opened_ns);
        let call = position.and_then(|position| known.call_sent(position));
        let Speaks::Client(client) = &mut known.speaks else { return };
        client.sites_known = adopted.is_some();
        let checked_ns = client.checked_ns.take();
        let has_called = std::mem::replace(&mut client.has_called, true);
        let is_first = !has_called && client.protocol.saw_opening();
        if !has_called {
            client.first = span.map(|span| (span, caller.thread));
        }
        if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
            span.server = peer;
            span.connection = Some(connection);
            span.checked_ns = checked_ns;
            span.last_io_ns = caller.time_ns;
            span.connected_ns = opened_ns.filter(|_| is_first);
            span.call = call;
        }
        if let Some(call) = call {
            self.made.push(Made { call, span });
        }
        let Some(client) = self.client_of(connection) else { return };
        client.opened(tag, span);
        if !has_called {
            self.set_up(connection);
        }
    }

    fn asking(&mut self, operation: Operation) -> Asking {
        match operation {
            Operation::Statement { system, text, text_len, purpose } => {
                let dialect = Dialect::of(system);
                let key = self.statements.key(&text, text_len, dialect);
                let (statement, fresh) = self.statements.get(key, &text, text_len, dialect);
                self.counts.sql_scanned += u64::from(fresh && statement.scanned);
                Asking::Statement { system, statement, purpose }
            }
            Operation::Command { kind, system, name, target } => {
                Asking::Command { kind, system, name, target }
            }
            Operation::Http { method, path, host, .. } => Asking::Http { method, path, host },
            Operation::Message { system, name, destination, id, bytes } => {
                Asking::Message { system, name, destination, id, bytes }
            }
        }
    }

    fn client_of(&mut self, id: ConnectionId) -> Option<&mut Client> {
        match &mut self.connections.get_mut(&id)?.speaks {
            Speaks::Client(client) => Some(client),
            _ => None,
        }
    }
}

pub(super) fn end(span: &mut OpenSpan, time_ns: u64, result: CallResult) {
    span.closed = true;
    span.answer = if result.unseen && result.status.is_none() && result.error.is_none() {
        // How it ended is not known, nor when: the last byte seen is the best end.
        match span.answer {
            Answer::None => Answer::None,
            _ => Answer::Unread,
        }
    } else if result.earlier {
        Answer::Read(result)
    } else {
        span.last_io_ns = time_ns;
        if !result.unanswered {
            span.first_answer_ns.get_or_insert(time_ns);
        }
        Answer::Read(result)
    };
}
