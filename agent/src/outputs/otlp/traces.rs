//! A transaction as a server (or consumer) span, its calls as client spans below it. Names and attributes:
//! OpenTelemetry semantic conventions 1.37, "HTTP spans", "Database spans", "Messaging spans", "Code attributes".

use super::attributes::{Attributes, SPAN, TRACE, id};
use super::resource::{About, SCHEMA, resource, scope};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind as Kind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use pyapm_model::line::{self, Outcome, SpanKind, Transaction, TransactionKind};
use pyapm_model::task::{State, Task};

/// W3C trace flags: sampled (W3C Trace Context, section 3.2.2.5.1). What is given out has been kept, whatever the caller
/// decided for itself.
const SAMPLED: u32 = 1;
/// Whether the parent is in another process is known, and it is (`SpanFlags` of `trace.proto`).
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// One request for transactions of one application. `weights` says for how many transactions each stands.
#[must_use]
pub fn traces(
    application: &str,
    about: &About,
    transactions: &[(&Transaction, f64)],
) -> ExportTraceServiceRequest {
    let spans = transactions.iter().flat_map(|(transaction, weight)| {
        let calls = transaction.spans.iter().map(|span| call(transaction, span));
        std::iter::once(root(transaction, *weight)).chain(calls)
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(application, about)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: spans.collect(),
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

fn root(transaction: &Transaction, weight: f64) -> Span {
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", transaction.method.as_deref());
    attributes.text("url.path", transaction.path.as_deref());
    attributes.text("http.route", transaction.route.as_deref());
    attributes.number("http.response.status_code", transaction.status);
    attributes.text("client.address", transaction.client_address.as_deref());
    if let Some(waited) = transaction.queue_ns {
        attributes.ratio("pyapm.queue.duration", waited as f64 / 1e9); // In seconds.
    }
    if let Some(waited) = transaction.accept_queue_ns {
        attributes.ratio("pyapm.accept_queue.duration", waited as f64 / 1e9);
    }
    attributes.number("process.pid", Some(transaction.pid));
    attributes.number("thread.id", Some(transaction.tid));
    if let Some(task) = &transaction.task {
        about_task(task, &mut attributes);
    }
    if weight > 1.0 {
        // So many transactions like this one happened; this one was kept (consistent counts downstream).
        attributes.ratio("pyapm.sampling.weight", weight);
    }
    let error = transaction.error.as_ref();
    let failed = crate::store::is_error(transaction);
    if failed {
        let kind = error.map(|error| error.kind.clone());
        let status = transaction.status.map(|status| status.to_string());
        let task = transaction.task.as_ref().and_then(|task| task.error_type.clone());
        let kind = task.or(kind).or(status).unwrap_or_else(|| outcome(transaction.outcome).to_owned());
        attributes.text("error.type", Some(&kind));
    }
    attributes.text("pyapm.outcome", Some(outcome(transaction.outcome)));
    let status = failed.then(|| Status {
        message: error.and_then(|error| error.message.clone()).unwrap_or_default(),
        code: StatusCode::Error.into(),
    });
    let remote = if transaction.parent_span_id.is_some() { IS_REMOTE } else { 0 };
    Span {
        trace_id: id(&transaction.trace_id, TRACE),
        span_id: id(&transaction.span_id, SPAN),
        parent_span_id: transaction.parent_span_id.as_deref().map(|hex| id(hex, SPAN)).unwrap_or_default(),
        trace_state: transaction.trace_state.clone().unwrap_or_default(),
        flags: SAMPLED | HAS_IS_REMOTE | remote,
        name: transaction.name.clone(),
        kind: match transaction.kind {
            TransactionKind::Http => Kind::Server,
            TransactionKind::Task => Kind::Consumer,
            TransactionKind::Point => Kind::Internal,
        }
        .into(),
        start_time_unix_nano: transaction.start_ns,
        end_time_unix_nano: transaction.start_ns.saturating_add(transaction.duration_ns),
        attributes: attributes.0,
        events: error.map(|error| exception(transaction, error)).into_iter().collect(),
        status,
        ..Span::default()
    }
}

/// The conventions' names where they have one, else those of OpenTelemetry's own instrumentation of Celery.
fn about_task(task: &Task, attributes: &mut Attributes) {
    attributes.text("messaging.system", Some(&task.system));
    attributes.text("messaging.operation.type", Some("process"));
    attributes.text("messaging.destination.name", task.queue.as_deref());
    attributes.text("messaging.message.id", Some(&task.id));
    attributes.text("celery.task_name", Some(&task.name));
    attributes.text("celery.state", task.state.map(State::as_str));
    attributes.number("celery.retries", task.retries);
}

/// The exception event of the conventions.
fn exception(transaction: &Transaction, error: &line::Error) -> Event {
    let mut attributes = Attributes::default();
    attributes.text("exception.type", Some(&error.kind));
    attributes.text("exception.message", error.message.as_deref());
    attributes.text("exception.stacktrace", Some(&super::logs::traceback(error)));
    Event {
        time_unix_nano: transaction.start_ns.saturating_add(transaction.duration_ns),
        name: "exception".to_owned(),
        attributes: attributes.0,
        ..Event::default()
    }
}

fn call(transaction: &Transaction, span: &line::Span) -> Span {
    let mut attributes = Attributes::default();
    attributes.text("server.address", span.server_address.as_deref());
    attributes.number("server.port", span.server_port);
    match span.kind {
        SpanKind::Db | SpanKind::Cache => {
            attributes.text("db.system.name", span.db_system.as_deref());
            attributes.text("db.query.text", span.db_query.as_deref());
            attributes.text("db.query.summary", Some(&span.name));
            attributes.text("db.operation.name", span.name.split(' ').next());
            attributes.number("db.response.returned_rows", span.returned_rows);
        }
        SpanKind::Http => {
            attributes.text("http.request.method", span.method.as_deref());
            attributes.text("url.path", span.path.as_deref());
            attributes.text("url.domain", span.host.as_deref());
            attributes.number("http.response.status_code", span.status);
            attributes.number("http.request.body.size", span.request_bytes);
            attributes.number("http.response.body.size", span.response_bytes);
        }
        SpanKind::Messaging => {
            attributes.text("messaging.system", span.messaging_system.as_deref());
            attributes.text("messaging.destination.name", span.destination.as_deref());
            attributes.text("messaging.operation.name", Some(&span.name));
            attributes.text("messaging.message.id", span.message_id.as_deref());
            attributes.number("messaging.message.body.size", span.message_bytes);
        }
        SpanKind::Point => {}
    }
    // The conventions have no names for these.
    attributes.number("pyapm.dns_ns", span.dns_ns);
    attributes.number("pyapm.connect_ns", span.connect_ns);
    attributes.number("pyapm.first_byte_ns", span.first_byte_ns);
    attributes.number("pyapm.checkout_ns", span.checkout_ns);
    attributes.text("error.type", span.error_type.as_deref());
    if !span.reply_seen {
        // Absent is not zero: without its reply a call is neither known to have failed nor to have succeeded.
        attributes.flag("pyapm.reply_seen", false);
    }
    attributes.place(span.stack.first());
    let status = span
        .error_type
        .as_ref()
        .map(|error| Status { message: error.clone(), code: StatusCode::Error.into() });
    Span {
        trace_id: id(&transaction.trace_id, TRACE),
        span_id: id(&span.span_id, SPAN),
        parent_span_id: id(&span.parent_span_id, SPAN),
        trace_state: transaction.trace_state.clone().unwrap_or_default(),
        flags: SAMPLED | HAS_IS_REMOTE,
        name: span.name.to_string(),
        kind: match span.kind {
            SpanKind::Messaging => Kind::Producer,
            SpanKind::Point => Kind::Internal,
            SpanKind::Db | SpanKind::Cache | SpanKind::Http => Kind::Client,
        }
        .into(),
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.start_ns.saturating_add(span.duration_ns),
        attributes: attributes.0,
        status,
        ..Span::default()
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Aborted => "aborted",
        Outcome::WorkerExited => "worker_exited",
        Outcome::Incomplete => "incomplete",
    }
}
