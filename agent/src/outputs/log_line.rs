//! A transaction as one line of JSON for people's log systems: flat, with the names of the OpenTelemetry conventions, and
//! with nothing of a request but its path. It decides nothing about which are written.

use crate::store::is_error;
use pyapm_model::line::{Error, Outcome, SpanKind, Transaction};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct LogLine<'a> {
    timestamp: String,
    level: &'static str,
    message: String,
    #[serde(rename = "service.name")]
    service: &'a str,
    trace_id: &'a str,
    span_id: &'a str,
    transaction: &'a str,
    duration_ms: f64,
    outcome: Outcome,
    #[serde(rename = "http.request.method", skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(rename = "url.path", skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(rename = "http.route", skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "client.address", skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_queue_ms: Option<f64>,
    #[serde(rename = "process.pid")]
    pid: u32,
    #[serde(rename = "thread.id")]
    tid: u32,
    #[serde(rename = "db.calls")]
    db_calls: usize,
    #[serde(rename = "db.duration_ms")]
    db_ms: f64,
    #[serde(rename = "exception.type", skip_serializing_if = "Option::is_none")]
    exception: Option<&'a str>,
    #[serde(rename = "exception.message", skip_serializing_if = "Option::is_none")]
    exception_message: Option<&'a str>,
    #[serde(rename = "exception.stacktrace", skip_serializing_if = "Option::is_none")]
    traceback: Option<String>,
}

/// One line, with its end.
///
/// # Errors
/// Never in practice: the names are fixed and numbers are finite.
pub fn log_line(application: &str, transaction: &Transaction) -> Result<String, serde_json::Error> {
    let failed = is_error(transaction);
    let error = transaction.error.as_ref();
    let db = || transaction.spans.iter().filter(|span| span.kind == SpanKind::Db);
    let line = LogLine {
        timestamp: timestamp(transaction.start_ns.saturating_add(transaction.duration_ns)),
        level: if failed { "error" } else { "info" },
        message: message(transaction),
        service: application,
        trace_id: &transaction.trace_id,
        span_id: &transaction.span_id,
        transaction: &transaction.name,
        duration_ms: milliseconds(transaction.duration_ns),
        outcome: transaction.outcome,
        method: transaction.method.as_deref(),
        path: transaction.path.as_deref(),
        route: transaction.route.as_deref(),
        status: transaction.status,
        client: transaction.client_address.as_deref(),
        queue_ms: transaction.queue_ns.map(milliseconds),
        accept_queue_ms: transaction.accept_queue_ns.map(milliseconds),
        pid: transaction.pid,
        tid: transaction.tid,
        db_calls: db().count(),
        db_ms: milliseconds(db().fold(0, |sum: u64, span| sum.saturating_add(span.duration_ns))),
        exception: error.map(|error| error.kind.as_str()),
        exception_message: error.and_then(|error| error.message.as_deref()),
        traceback: error.filter(|error| !error.stack.is_empty()).map(traceback),
    };
    let mut text = serde_json::to_string(&line)?;
    text.push('\n');
    Ok(text)
}

/// What a person reads first.
fn message(transaction: &Transaction) -> String {
    let end = match (&transaction.error, transaction.status) {
        (Some(error), _) if error.handled != Some(true) => error.kind.clone(),
        (_, Some(status)) => status.to_string(),
        (_, None) => "no answer".to_owned(),
    };
    format!("{} {end} {:.1} ms", transaction.name, transaction.duration_ns as f64 / 1e6)
}

fn traceback(error: &Error) -> String {
    super::otlp::traceback(error)
}

fn milliseconds(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}

/// UTC, to the microsecond (RFC 3339).
fn timestamp(ns: u64) -> String {
    let (seconds, micros) = (ns / 1_000_000_000, ns / 1_000 % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The date of a day since 1970-01-01: whole 400 years, then years that begin in March, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    const IN_400_YEARS: u64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const BEFORE: u64 = 719_468;
    let days = days.saturating_add(BEFORE);
    let (era, day) = (days / IN_400_YEARS, days % IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31 and 30 days in a pattern of five that 153 days repeat.
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::{Frame, Span};

    #[test]
    fn times_as_the_calendar_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(seconds * 1_000_000_000), expected);
        }
        assert_eq!(timestamp(1_234_567_890_123), "1970-01-01T00:20:34.567890Z");
    }

    #[test]
    fn one_line_that_says_what_happened() {
        let frame = |name: &str, line| Frame { function: name.into(), file: "/srv/a.py".into(), line };
        let transaction = Transaction {
            name: "GET /error".into(),
            method: Some("GET".into()),
            path: Some("/error".into()),
            status: Some(500),
            duration_ns: 1_234_567,
            trace_id: "a1".into(),
            span_id: "b2".into(),
            spans: vec![Span { duration_ns: 1_000_000, ..Span::default() }; 2],
            error: Some(Error {
                kind: "ValueError".into(),
                message: Some("two\nlines".into()),
                handled: Some(false),
                stack: vec![frame("inner", Some(3)), frame("outer", None)].into(),
                ..Error::default()
            }),
            ..Transaction::default()
        };
        let line = log_line("shop", &transaction).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["message"], "GET /error ValueError 1.2 ms");
        assert_eq!((&value["duration_ms"], &value["db.calls"]), (&1.234.into(), &2.into()));
        assert_eq!((&value["service.name"], &value["trace_id"]), (&"shop".into(), &"a1".into()));
        assert!(value["exception.stacktrace"].as_str().unwrap().contains("line 3, in inner"));
        assert!(value.get("http.route").is_none(), "what is not known is not there");
    }
}
