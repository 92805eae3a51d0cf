//! Two ends of one call: the span of the application that makes an HTTP request over TCP is the parent of the transaction
//! that the request is in another application, or another process of the same, where both are watched. Nothing is sent
//! along for it: both ends know the connection's addresses and TCP's number of the request's first byte, which
//! no two requests share while either is remembered.
//!
//! A caller's record may come after the answer's: whoever delivers a packet is often put aside for the one that it wakes. So a
//! transaction whose caller may be on this host waits for it a little. What is not found has no parent; nothing is guessed.

use super::Transactions;
use super::connection::Speaks;
use super::http::Exchange;
use super::settings::FinishedTransaction;
use super::spans::{RequestId, SpanId};
use super::work::Work;
use crate::intake::{ConnectionId, Endpoint};
use crate::targets::ApplicationId;
use pyapm_model::line::TraceSource;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

/// How long after a request's first byte its caller is waited for.
const GRACE_NS: u64 = 500_000_000;
/// How long a caller is waited for of which it is not known yet whose call it was.
const LONGEST_NS: u64 = 10_000_000_000;
/// Calls that are remembered.
const MOST_CALLS: usize = 65_536;
/// Transactions that wait; beyond, the oldest has no parent.
const MOST_HELD: usize = 16_384;
/// Addresses of this host's applications.
const MOST_ADDRESSES: usize = 1_024;
/// Applications that call one another in a chain, as far as it is followed at once.
const DEEPEST: usize = 16;

/// One request on one connection: who connected, to whom, and TCP's number of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    client: Endpoint,
    server: Endpoint,
    sequence: u32,
}

impl CallKey {
    /// `base` is the number of the byte at offset 0. `None` where there are no ports.
    #[must_use]
    pub fn new(client: Endpoint, server: Endpoint, base: u32, offset: u64) -> Option<Self> {
        let are_known = matches!((client, server), (Endpoint::Inet { .. }, Endpoint::Inet { .. }));
        // TCP's numbers go round.
        let sequence = base.wrapping_add(offset as u32);
        are_known.then_some(Self { client, server, sequence })
    }

    fn caller(&self) -> Option<IpAddr> {
        match self.client {
            Endpoint::Inet { address, .. } => Some(address),
            _ => None,
        }
    }

    fn is_within_host(&self) -> bool {
        let Endpoint::Inet { address, .. } = self.server else { return false };
        self.caller() == Some(address)
    }
}

/// The span that is somebody's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace_id: String,
    pub span_id: String,
}

/// A call that has just been made; without a span it is no transaction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub call: CallKey,
    pub span: Option<SpanId>,
}

/// Where a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In this trace, under this number.
    Traced(Parent),
    /// In a request whose trace is still open: it may be a call itself.
    Open { request: RequestId, call: CallKey, started_ns: u64 },
    /// It will be told whose it is.
    Unplaced,
    /// It is nobody's, or has been given out.
    Gone,
}

impl Transactions {
    /// The calls that were made since this was asked last.
    pub fn made(&mut self) -> std::vec::Drain<'_, Made> {
        self.made.drain(..)
    }

    /// Where the call of this span stands. What is asked for here stays as it is said.
    pub fn whereabouts(&mut self, span: SpanId) -> Whereabouts {
        let Some(open) = self.spans.get(span) else { return Whereabouts::Gone };
        let Some(request) = open.owner else { return Whereabouts::Unplaced };
        let Some(exchange) = exchange(&mut self.connections, &mut self.lingering, request) else {
            return Whereabouts::Gone;
        };
        let is_open = exchange.request.trace.is_none() && exchange.work.trace.is_none();
        if let Some(call) = exchange.work.call.filter(|_| is_open) {
            return Whereabouts::Open { request, call, started_ns: exchange.started_ns };
        }
        let trace = self.finisher.trace(exchange);
        exchange.work.trace = Some(trace.clone());
        let ids = &mut self.finisher.ids;
        let Some(open) = self.spans.get_mut(span) else { return Whereabouts::Gone };
        let span_id = open.span_id.get_or_insert_with(|| ids.span().into()).clone();
        Whereabouts::Traced(Parent { trace_id: trace.trace_id, span_id })
    }

    /// The request is called from there; `None`: by nobody who is known.
    pub fn decide(&mut self, request: RequestId, parent: Option<Parent>) {
        let Some(exchange) = exchange(&mut self.connections, &mut self.lingering, request) else { return };
        if exchange.work.trace.is_none() {
            let mut trace = self.finisher.trace(exchange);
            if let Some(parent) = parent {
                trace.trace_id = parent.trace_id;
                trace.parent_span_id = Some(parent.span_id);
                trace.source = Some(TraceSource::Connection);
            }
            exchange.work.trace = Some(trace);
        }
    }

    /// Notes for the requests of a connection where their callers may be met.
    pub(super) fn note_call(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Speaks::Http(server) = &connection.speaks else { return };
        let unknown = |exchange: &Exchange<Work>| exchange.work.call.is_none();
        if connection.sequence.is_none()
            || !(server.open().any(unknown) || self.ended.iter().any(|ended| unknown(&ended.exchange)))
        {
            return;
        }
        let known: Vec<_> =
            server.open().map(|open| (open.sequence, connection.call_received(open.position))).collect();
        for ended in &mut self.ended {
            ended.exchange.work.call = connection.call_received(ended.exchange.position);
        }
        let Speaks::Http(server) = &mut connection.speaks else { return };
        for (sequence, call) in known {
            if let Some(exchange) = server.exchange(sequence) {
                exchange.work.call = call;
            }
        }
    }
}

/// A request that has not been given out.
fn exchange<'a>(
    connections: &'a mut foldhash::HashMap<ConnectionId, super::connection::Connection>,
    lingering: &'a mut super::correlation::Lingering,
    request: RequestId,
) -> Option<&'a mut Exchange<Work>> {
    if let Some(connection) = connections.get_mut(&request.connection)
        && let Some(server) = connection.speaks.server_mut()
        && let Some(exchange) = server.exchange(request.sequence)
    {
        return Some(exchange);
    }
    lingering.exchange(request)
}

/// What is remembered of a call.
#[derive(Clone, Debug)]
enum Known {
    /// The other end may ask for it.
    Of(ApplicationId, SpanId),
    /// No transaction's.
    Nobodys,
    /// Its transaction has ended and waits for its own caller.
    Waits,
    Told(Parent),
}

/// What became of looking for a caller.
enum Found {
    Parent(Parent),
    None,
    Later,
}

/// All calls of all applications, and the transactions that wait for theirs.
#[derive(Debug, Default)]
pub struct Joining {
    calls: HashMap<CallKey, Known>,
    /// In the order in which they were made.
    order: VecDeque<CallKey>,
    held: Vec<(ApplicationId, FinishedTransaction)>,
    addresses: HashSet<IpAddr>,
    joined: u64,
    /// Transactions that did not wait because too many did.
    overflowed: u64,
}

/// Who knows where a call stands, and is told what was decided: [`Transactions`] of each application.
pub trait Applications {
    fn transactions(&mut self, application: ApplicationId) -> Option<&mut Transactions>;
}

impl Joining {
    /// An application has a connection with this address at its own end.
    pub fn address(&mut self, local: Endpoint) {
        if let Endpoint::Inet { address, .. } = local
            && self.addresses.len() < MOST_ADDRESSES
        {
            self.addresses.insert(address);
        }
    }

    pub fn call(&mut self, application: ApplicationId, made: Made) {
        let known = made.span.map_or(Known::Nobodys, |span| Known::Of(application, span));
        if self.calls.insert(made.call, known).is_none() {
            self.order.push_back(made.call);
        }
        if self.order.len() > MOST_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }

    /// Transactions that have a parent by this, and those that could not wait for one.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.joined, self.overflowed)
    }

    /// A transaction has ended; [`Self::due`] gives it back with its place in a trace.
    pub fn ended(&mut self, application: ApplicationId, finished: FinishedTransaction) {
        for (call, _) in &finished.calls {
            self.tell(call, Known::Waits);
        }
        self.held.push((application, finished));
    }

    /// The transactions whose place is known, or that have waited long enough. `now_ns` is the time up to which
    /// events have been taken; `u64::MAX`: nothing more will come.
    pub fn due(
        &mut self,
        now_ns: u64,
        all: &mut impl Applications,
    ) -> Vec<(ApplicationId, FinishedTransaction)> {
        let mut due = Vec::new();
        // One that is told may be the caller of another.
        for _ in 0..DEEPEST {
            let before = due.len();
            let mut too_many = self.held.len().saturating_sub(MOST_HELD);
            // Those that wait stay where they are: they are large, and looked at again and again.
            let mut held = std::mem::take(&mut self.held);
            due.extend(held.extract_if(.., |(_, finished)| {
                if self.settle(finished, now_ns, all) {
                    return true;
                }
                let is_too_many = too_many > 0;
                if is_too_many {
                    too_many -= 1;
                    self.overflowed += 1;
                    let _always = self.settle(finished, u64::MAX, all);
                }
                is_too_many
            }));
            self.held = held;
            if due.len() == before || self.held.is_empty() {
                break;
            }
        }
        due
    }

    /// Whether an application has transactions that wait.
    #[must_use]
    pub fn holds(&self, application: ApplicationId) -> bool {
        self.held.iter().any(|(held, _)| *held == application)
    }

    /// Places a transaction, if its caller is known, or is none; tells those that it called.
    fn settle(
        &mut self,
        finished: &mut FinishedTransaction,
        now_ns: u64,
        all: &mut impl Applications,
    ) -> bool {
        if let Some(call) = finished.call {
            match self.parent(&call, finished.started_ns, now_ns, all, 0) {
                Found::Later => return false,
                Found::None => {}
                Found::Parent(parent) => {
                    self.joined += 1;
                    finished.transaction.trace_id = parent.trace_id;
                    finished.transaction.parent_span_id = Some(parent.span_id);
                    finished.transaction.trace_source = Some(TraceSource::Connection);
                }
            }
            finished.call = None;
        }
        let trace_id = &finished.transaction.trace_id;
        for (call, span_id) in &finished.calls {
            self.tell(call, Known::Told(Parent { trace_id: trace_id.clone(), span_id: span_id.clone() }));
        }
        true
    }

    fn tell(&mut self, call: &CallKey, known: Known) {
        if let Some(before) = self.calls.get_mut(call) {
            *before = known;
        }
    }

    /// The caller of a request that began at `started_ns`.
    fn parent(
        &mut self,
        call: &CallKey,
        started_ns: u64,
        now_ns: u64,
        all: &mut impl Applications,
        depth: usize,
    ) -> Found {
        let waited_ns = now_ns.saturating_sub(started_ns);
        let in_time = |wait| if waited_ns < wait { Found::Later } else { Found::None };
        let (application, span) = match self.calls.get(call) {
            None => {
                // Nobody has called anybody yet, or the caller is on another host.
                let may_come = !self.calls.is_empty()
                    && (call.is_within_host()
                        || call.caller().is_some_and(|caller| self.addresses.contains(&caller)));
                return if may_come { in_time(GRACE_NS) } else { Found::None };
            }
            Some(Known::Nobodys) => return Found::None,
            Some(Known::Waits) => return in_time(LONGEST_NS),
            Some(Known::Told(parent)) => return Found::Parent(parent.clone()),
            Some(Known::Of(application, span)) => (*application, *span),
        };
        for _ in 0..2 {
            let whereabouts = all.transactions(application).map(|caller| caller.whereabouts(span));
            match whereabouts {
                Some(Whereabouts::Traced(parent)) => return Found::Parent(parent),
                Some(Whereabouts::Unplaced) => return in_time(LONGEST_NS),
                Some(Whereabouts::Gone) | None => return Found::None,
                Some(Whereabouts::Open { request, call, started_ns }) => {
                    if depth >= DEEPEST {
                        return Found::None;
                    }
                    let above = match self.parent(&call, started_ns, now_ns, all, depth + 1) {
                        Found::Later => return Found::Later,
                        Found::None => None,
                        Found::Parent(parent) => Some(parent),
                    };
                    self.joined += u64::from(above.is_some());
                    if let Some(caller) = all.transactions(application) {
                        caller.decide(request, above);
                    }
                }
            }
        }
        Found::None
    }
}
