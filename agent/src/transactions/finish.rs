//! From an ended exchange to the model's transaction.

use super::Counts;
use super::callsite::from_application;
use super::http::Ended;
use super::ids::Ids;
use super::mysql::Verdict;
use super::name::{self, Names, OTHER};
use super::settings::{Clock, FinishedTransaction};
use super::work::{OpenSamples, OpenSpan, Work};
use crate::intake::Endpoint;
use pyapm_model::line::{Outcome, SampleState, Samples, Span, SpanKind, Transaction, TransactionKind};
use pyapm_model::stack::Stack;

/// What every transaction of one application is finished with.
#[derive(Debug)]
pub struct Finisher {
    pub application: String,
    pub clock: Clock,
    pub ids: Ids,
    pub names: Names,
}

impl Finisher {
    pub fn finish(
        &mut self,
        ended: Ended<Work>,
        pid: u32,
        peer: Option<Endpoint>,
        counts: &mut Counts,
    ) -> FinishedTransaction {
        let Ended { exchange, outcome, ended_ns } = ended;
        let (trace_id, parent_span_id) = match exchange.request.traceparent {
            Some(parent) => (parent.trace_id(), Some(parent.parent_id())),
            None => (self.ids.trace(), None),
        };
        let span_id = self.ids.span();
        let own =
            name::of_request(&exchange.request.method, exchange.request.path.as_deref(), exchange.status);
        let name = self.names.admit(own);
        if name == OTHER {
            counts.names_overflow += 1;
        }
        counts.transactions += 1;
        let spans = exchange.work.spans.into_iter();
        let transaction = Transaction {
            application: self.application.clone(),
            kind: TransactionKind::Http,
            name,
            method: Some(exchange.request.method.into_owned()),
            path: exchange.request.path,
            route: None,
            status: exchange.status,
            start_ns: self.clock.wall_ns(exchange.started_ns),
            duration_ns: ended_ns.saturating_sub(exchange.started_ns),
            pid,
            tid: exchange.work.tid,
            trace_id,
            spans: spans.map(|span| self.span(span, &span_id, outcome, ended_ns)).collect(),
            span_id,
            parent_span_id,
            error: None,
            samples: merged(exchange.work.samples),
            outcome,
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            client_address: peer.and_then(address),
        };
        FinishedTransaction { transaction, ended_ns }
    }

    fn span(&mut self, span: OpenSpan, parent: &str, outcome: Outcome, ended_ns: u64) -> Span {
        // A statement that was still waiting when the request was cut off had lasted until then.
        let cut_off = matches!(outcome, Outcome::Aborted | Outcome::WorkerExited);
        let end = if cut_off && !span.closed && !span.replied { ended_ns } else { span.last_io_ns };
        let (error_type, reply_seen) = match span.verdict {
            Verdict::Error(number) => (Some(number.to_string()), true),
            Verdict::Ok | Verdict::Rows => (None, true),
            Verdict::LocalInfile | Verdict::Unseen | Verdict::Unknown => (None, false),
        };
        let port = match span.server {
            Some(Endpoint::Inet { port, .. }) => Some(port),
            _ => None,
        };
        Span {
            kind: SpanKind::Db,
            name: span.statement.name.clone(),
            db_system: Some("mysql".to_owned()),
            db_query: Some(span.statement.text.clone()),
            error_type,
            start_ns: self.clock.wall_ns(span.started_ns),
            duration_ns: end.saturating_sub(span.started_ns),
            span_id: self.ids.span(),
            parent_span_id: parent.to_owned(),
            stack: span.stack.map(|stack| from_application(stack.into())).unwrap_or_default(),
            server_address: span.server.and_then(address),
            server_port: port,
            reply_seen,
        }
    }
}

/// `None` for what has no address: unix sockets.
fn address(endpoint: Endpoint) -> Option<String> {
    match endpoint {
        Endpoint::Inet { address, .. } => Some(address.to_string()),
        Endpoint::Unix | Endpoint::Other(_) => None,
    }
}

/// Samples with equal frames together, most first: stacks that differ only in the instruction within a
/// line have different ids but read the same.
fn merged(samples: Vec<OpenSamples>) -> Vec<Samples> {
    let mut merged: Vec<Samples> = Vec::with_capacity(samples.len());
    for sample in samples {
        let stack = sample.stack.map(Stack::from).unwrap_or_default();
        match merged.iter_mut().find(|known| known.stack == stack) {
            Some(known) => known.count += sample.count,
            None => merged.push(Samples { count: sample.count, state: SampleState::Cpu, stack }),
        }
    }
    merged.sort_by_key(|samples| std::cmp::Reverse(samples.count));
    merged
}
