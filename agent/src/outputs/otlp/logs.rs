//! Errors as log records, with the traceback as Python prints it.

use super::attributes::{Attributes, SPAN, TRACE, any, id};
use super::resource::{About, SCHEMA, resource, scope};
use crate::store::is_error;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use pyapm_model::line::{Error, Transaction};
use std::fmt::Write as _;

/// One record for each transaction that has failed or has an error; `None` when none has.
#[must_use]
pub fn logs(
    application: &str,
    about: &About,
    transactions: &[&Transaction],
) -> Option<ExportLogsServiceRequest> {
    let records: Vec<LogRecord> = transactions
        .iter()
        .filter(|transaction| is_error(transaction) || transaction.error.is_some())
        .map(|transaction| record(transaction))
        .collect();
    (!records.is_empty()).then(|| ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(application, about)),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: records,
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
    })
}

fn record(transaction: &Transaction) -> LogRecord {
    let at = transaction.start_ns.saturating_add(transaction.duration_ns);
    let error = transaction.error.as_ref();
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", transaction.method.as_deref());
    attributes.text("http.route", transaction.route.as_deref());
    attributes.text("url.path", transaction.path.as_deref());
    attributes.number("http.response.status_code", transaction.status);
    if let Some(error) = error {
        attributes.text("exception.type", Some(&error.kind));
        attributes.text("exception.message", error.message.as_deref());
        attributes.text("exception.stacktrace", Some(&traceback(error)));
        attributes.place(error.stack.first());
    }
    let (severity, text) = match is_error(transaction) {
        false => (SeverityNumber::Warn, "WARN"),
        true => (SeverityNumber::Error, "ERROR"),
    };
    let status = || transaction.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let body = error.map_or_else(|| format!("{}: {}", transaction.name, status()), summary);
    LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number: severity.into(),
        severity_text: text.to_owned(),
        body: Some(any(Value::StringValue(body))),
        attributes: attributes.0,
        flags: 1,
        trace_id: id(&transaction.trace_id, TRACE),
        span_id: id(&transaction.span_id, SPAN),
        event_name: if error.is_some() { "exception" } else { "pyapm.transaction.failed" }.to_owned(),
        ..LogRecord::default()
    }
}

/// The last line of a traceback.
fn summary(error: &Error) -> String {
    match error.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{}: {message}", error.kind),
        _ => error.kind.clone(),
    }
}

/// A traceback as Python prints it (CPython `Lib/traceback.py`), without the source lines: outermost frame first.
pub(in crate::outputs) fn traceback(error: &Error) -> String {
    let mut text = "Traceback (most recent call last):\n".to_owned();
    for frame in error.stack.iter().rev() {
        let line = frame.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
        // Writing to memory does not fail.
        let _infallible = writeln!(text, "  File \"{}\", line {line}, in {}", frame.file, frame.function);
    }
    text + &summary(error)
}
