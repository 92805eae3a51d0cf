//! From an ended exchange to the model's transaction.

use super::Counts;
use super::callsite::from_application;
use super::checkout;
use super::clients::{CallResult, Purpose};
use super::http::{Ended, Exchange};
use super::ids::{Ids, Trace};
use super::joining::CallKey;
use super::name::OTHER;
use super::naming::{Named, Naming};
use super::settings::{Clock, FinishedTransaction};
use super::spans::{Answer, Asking, OpenSpan};
use super::tasks::Sent;
use super::warnings::{self, Sameness, Seen, Thresholds};
use super::work::{OpenSamples, OpenTask, Work};
use crate::intake::Endpoint;
use pyapm_model::error::Error;
use pyapm_model::line::{
    Outcome, SampleState, Samples, Span, SpanKind, TraceSource, Transaction, TransactionKind,
};
use pyapm_model::task::Task;
use smol_str::{SmolStr, format_smolstr};
use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

/// What every transaction of one application is finished with.
#[derive(Debug)]
pub struct Finisher {
    pub application: String,
    pub clock: Clock,
    pub ids: Ids,
    pub naming: Naming,
    pub warn: Thresholds,
    /// Threads tell what they wait for.
    pub waits: bool,
    /// What was sent, for those who do the work.
    pub sent: Sent,
}

impl Finisher {
    pub fn finish(
        &mut self,
        ended: Ended<Work>,
        spans: Vec<OpenSpan>,
        error: Option<Error>,
        pid: u32,
        peer: Option<Endpoint>,
        counts: &mut Counts,
    ) -> FinishedTransaction {
        let Ended { exchange, outcome, ended_ns } = ended;
        let trace = self.trace(&exchange);
        let is_decided = exchange.request.trace.is_some() || exchange.work.trace.is_some();
        let call = exchange.work.call.filter(|_| !is_decided);
        let mut request = exchange.request;
        let context = request.trace.take();
        let Named { name, route } = match &exchange.work.task {
            Some(task) => self.naming.task(&task.delivery.name),
            None => self.naming.name(&request.method, request.path.as_deref(), exchange.status),
        };
        let task = exchange.work.task;
        // Of a task that its thread has told of (`tasks/told.rs`), no message crosses a pipe; no message is empty.
        let message_seen = task.is_none() || exchange.request_bytes > 0;
        if name == OTHER {
            counts.names_overflow += 1;
        }
        counts.transactions += 1;
        let duration_ns = ended_ns.saturating_sub(exchange.started_ns);
        let mut waits = exchange.work.waits;
        waits.doubtful |= outcome == Outcome::Incomplete;
        let since = exchange.started_ns;
        let about: Vec<_> = spans
            .iter()
            .map(|span| (Sameness::of(&span.asking), opened(span).is_some_and(|asked| asked >= since)))
            .collect();
        let held = checkout::held(&spans, since);
        let calls: Vec<Option<CallKey>> = spans.iter().map(|span| span.call).collect();
        let parent = SmolStr::new(&trace.span_id);
        let mut addresses = Addresses::default();
        let spans: Vec<Span> = spans
            .into_iter()
            .zip(held)
            .map(|(span, checkout_ns)| Span {
                checkout_ns,
                ..self.span(span, (&parent, &mut addresses), outcome, since..ended_ns)
            })
            .collect();
        let seen = spans.iter().zip(about).map(|(span, (sameness, opens_connection))| Seen {
            span,
            sameness,
            opens_connection,
        });
        let calls = calls.into_iter().zip(&spans);
        let calls = calls.filter_map(|(call, span)| Some((call?, span.span_id.to_string()))).collect();
        let warnings = warnings::warnings(&seen.collect::<Vec<_>>(), self.warn);
        let transaction = Transaction {
            application: self.application.clone(),
            kind: if task.is_some() { TransactionKind::Task } else { TransactionKind::Http },
            name,
            method: task.is_none().then(|| request.method.into_owned()),
            path: request.path,
            route: route.as_ref().map(|route| route.pattern.clone()),
            handler: route.and_then(|route| route.handler.clone()),
            status: exchange.status,
            start_ns: self.clock.wall_ns(exchange.started_ns),
            duration_ns,
            pid,
            tid: exchange.work.tid,
            trace_id: trace.trace_id,
            spans,
            warnings,
            span_id: trace.span_id,
            parent_span_id: trace.parent_span_id,
            trace_source: trace.source,
            trace_sampled: context.as_ref().and_then(|context| context.sampled),
            trace_state: context.and_then(|context| context.state),
            error,
            samples: merged(exchange.work.samples),
            outcome,
            request_bytes: message_seen.then_some(exchange.request_bytes),
            response_bytes: message_seen.then_some(exchange.response_bytes),
            client_address: peer.and_then(address),
            queue_ns: request.queued.and_then(|queued| queued.until(self.clock.wall_ns(since))),
            accept_queue_ns: exchange.work.unread_ns,
            waits: self.waits.then(|| waits.finish(duration_ns)),
            task: task.map(|task| task_of(*task)),
        };
        FinishedTransaction { transaction, ended_ns, started_ns: since, call, calls }
    }

    /// Where a transaction stands in its trace: where its request says, below whoever sent its task, or at the beginning
    /// of one of its own. Once decided it stays.
    pub fn trace(&mut self, exchange: &Exchange<Work>) -> Trace {
        if let Some(trace) = &exchange.work.trace {
            return trace.clone();
        }
        let sent = exchange.work.task.as_ref().and_then(|task| self.sent.get(&task.delivery.id));
        let (trace_id, parent_span_id, source) = match (&exchange.request.trace, sent) {
            (Some(caller), _) => (caller.trace_id(), Some(caller.parent_id()), Some(caller.source)),
            (None, Some(link)) => {
                (link.trace_id.clone(), Some(link.span_id.clone()), Some(TraceSource::Message))
            }
            (None, None) => (self.ids.trace(), None, None),
        };
        Trace { trace_id, span_id: self.ids.span().into(), parent_span_id, source }
    }

    /// Whether more that comes can change nothing about its trace.
    pub fn is_linked(&self, exchange: &Exchange<Work>) -> bool {
        exchange.work.trace.is_some()
            || exchange.request.trace.is_some()
            || exchange.work.task.as_ref().is_none_or(|task| self.sent.get(&task.delivery.id).is_some())
    }

    fn span(
        &mut self,
        span: OpenSpan,
        (parent, addresses): (&SmolStr, &mut Addresses),
        outcome: Outcome,
        within: Range<u64>,
    ) -> Span {
        // A call that was still waiting when the request was cut off had lasted until then.
        let cut_off = matches!(outcome, Outcome::Aborted | Outcome::WorkerExited);
        let end = if cut_off && span.is_waiting() { within.end } else { span.last_io_ns };
        // A connection that was there before its request was not made for it.
        let setup = span
            .setup
            .filter(|setup| setup.began_ns() >= within.start && setup.connect_until <= span.started_ns);
        let started_ns = match (&span.asking, setup) {
            // What a client library does to send a request; a database's is asked only once it has let one in.
            (Asking::Http { .. }, Some(setup)) => setup.began_ns().min(span.started_ns),
            _ => span.started_ns,
        };
        let port = match span.server {
            Some(Endpoint::Inet { port, .. }) => Some(port),
            _ => None,
        };
        let (result, reply_seen) = match span.answer {
            Answer::Read(result) => {
                let whole = !result.unseen;
                (result, whole)
            }
            Answer::None | Answer::Unread => (CallResult::default(), false),
        };
        let asked = Asked::of(span.asking);
        Span {
            kind: asked.kind,
            name: asked.name,
            db_system: asked.db_system,
            db_query: asked.db_query,
            error_type: result.error,
            start_ns: self.clock.wall_ns(started_ns),
            duration_ns: end.saturating_sub(started_ns),
            span_id: span.span_id.map_or_else(|| self.ids.span(), SmolStr::from),
            parent_span_id: parent.clone(),
            stack: span.stack.map(from_application).unwrap_or_default(),
            server_address: span.server.and_then(|server| addresses.text(server)),
            server_port: port,
            reply_seen,
            method: asked.method,
            path: asked.path,
            host: asked.host,
            status: result.status,
            messaging_system: asked.messaging_system,
            destination: asked.destination,
            returned_rows: result.rows,
            affected_rows: result.affected_rows,
            sqlstate: result.sqlstate,
            message_id: asked.message_id,
            message_bytes: asked.message_bytes,
            request_bytes: result.request_bytes,
            response_bytes: result.response_bytes,
            first_byte_ns: span.first_answer_ns.map(|first| first.saturating_sub(started_ns)),
            dns_ns: setup.and_then(|setup| setup.lookup).map(|(from, until)| until.saturating_sub(from)),
            checkout_ns: None,
            connect_ns: setup.map(|setup| setup.connect_until.saturating_sub(setup.connect_from)),
        }
    }
}

/// The part of a span that comes from what was asked.
#[derive(Default)]
struct Asked {
    kind: SpanKind,
    name: SmolStr,
    db_system: Option<SmolStr>,
    db_query: Option<SmolStr>,
    messaging_system: Option<String>,
    destination: Option<String>,
    method: Option<String>,
    path: Option<String>,
    host: Option<String>,
    message_id: Option<String>,
    message_bytes: Option<u64>,
}

impl Asked {
    fn of(asking: Asking) -> Self {
        let text = asking.text();
        match asking {
            Asking::Statement { system, statement, purpose } => Self {
                kind: SpanKind::Db,
                name: match purpose {
                    Purpose::Run => statement.name.clone(),
                    Purpose::Prepare => format_smolstr!("PREPARE {}", statement.name),
                },
                db_system: Some(SmolStr::new_static(system)),
                db_query: statement.shown.then_some(text),
                ..Self::default()
            },
            Asking::Command { kind: SpanKind::Messaging, system, name, target } => Self {
                kind: SpanKind::Messaging,
                name: name.as_ref().into(),
                messaging_system: Some(system.to_owned()),
                destination: target,
                ..Self::default()
            },
            Asking::Message { system, name, destination, id, bytes } => Self {
                kind: SpanKind::Messaging,
                name: name.as_ref().into(),
                messaging_system: Some(system.to_owned()),
                destination,
                message_id: id,
                message_bytes: bytes,
                ..Self::default()
            },
            Asking::Command { kind, system, name, .. } => Self {
                kind,
                name: name.as_ref().into(),
                db_system: Some(SmolStr::new_static(system)),
                db_query: Some(text),
                ..Self::default()
            },
            Asking::Http { method, path, host } => Self {
                kind: SpanKind::Http,
                name: text,
                method: method.map(Cow::into_owned),
                path,
                host,
                ..Self::default()
            },
        }
    }
}

/// When the connection was asked for of which this is the first call. Below a TLS session only its making is seen.
fn opened(span: &OpenSpan) -> Option<u64> {
    span.connected_ns.or(span.setup.map(|setup| setup.connect_from))
}

fn task_of(task: OpenTask) -> Task {
    let OpenTask { delivery, finished } = task;
    let (state, error_type) = finished.map(|finished| (finished.state, finished.error)).unwrap_or_default();
    Task {
        system: "celery".to_owned(),
        name: delivery.name,
        id: delivery.id,
        queue: delivery.queue,
        retries: delivery.retries,
        state,
        error_type,
    }
}

/// The address that was written out last: the calls of one transaction go to few.
#[derive(Default)]
struct Addresses {
    latest: Option<(IpAddr, SmolStr)>,
}

impl Addresses {
    fn text(&mut self, endpoint: Endpoint) -> Option<SmolStr> {
        let Endpoint::Inet { address, .. } = endpoint else { return None };
        if let Some((_, known)) = self.latest.as_ref().filter(|(of, _)| *of == address) {
            return Some(known.clone());
        }
        let text = format_smolstr!("{address}");
        self.latest = Some((address, text.clone()));
        Some(text)
    }
}

/// `None` for what has no address: unix sockets.
fn address(endpoint: Endpoint) -> Option<String> {
    match endpoint {
        Endpoint::Inet { address, .. } => Some(address.to_string()),
        Endpoint::Unix | Endpoint::Pipe | Endpoint::Other(_) => None,
    }
}

/// Samples with equal frames together, most first: stacks that differ only in the instruction within a
/// line have different ids but read the same.
fn merged(samples: Vec<OpenSamples>) -> Vec<Samples> {
    let mut merged: Vec<Samples> = Vec::with_capacity(samples.len());
    for sample in samples {
        let stack = sample.stack.unwrap_or_default();
        match merged.iter_mut().find(|known| known.stack == stack) {
            Some(known) => known.count += sample.count,
            None => merged.push(Samples { count: sample.count, state: SampleState::Cpu, stack }),
        }
    }
    merged.sort_by_key(|samples| std::cmp::Reverse(samples.count));
    merged
}
