//! As `drivers.rs`, for servers that come as packages of Python, and for drivers of PostgreSQL that were built here: their libpq
//! and their OpenSSL are the distribution's.

use crate::conversations::{POSTGRESQL, assert_calls, psycopg};
use crate::drivers::{Page, assert_page, call, fails, spans_of};
use harness::pyapm::{Pyapm, Report};
use harness::source::site_in;
use harness::stores::Stores;
use pyapm_model::line::SpanKind;

const MONGODB: Page = (
    "mongodb",
    SpanKind::Db,
    Some("mongodb"),
    &[
        call("mongodb find", "find people"),
        call("mongodb update", "update people"),
        fails("mongodb error", "insert people", "11000"),
    ],
);

/// On connections that are older than the attach.
#[test]
fn documents_messages_and_the_system_s_libraries() {
    let stores = Stores::start().unwrap();
    let attach = Pyapm::attach(stores.master(), &[]).unwrap();
    let built = ["psycopg2-whole", "psycopg2-whole-tls", "psycopg-whole", "psycopg-whole-tls"];
    stores.get("/mongodb").unwrap();
    let produced = String::from_utf8(stores.get("/kafka").unwrap()).unwrap();
    for path in built {
        stores.get(&format!("/{path}")).unwrap();
    }
    let report = attach.stop().unwrap();
    assert_page(&report, MONGODB.0, &MONGODB, |_| false);
    assert_kafka(&report, produced.trim().parse().unwrap());
    for path in built {
        let calls = if path.starts_with("psycopg2") { POSTGRESQL.to_vec() } else { psycopg() };
        assert_calls("conversations.py", &report, path, "postgresql", calls);
    }
    assert!(!report.stdout.contains("secret"), "a value was told");
}

/// Each kind of call on its line; how often a consumer asks until a message has come is its own affair. What is
/// produced is as large as the request.
fn assert_kafka(report: &Report, produced: u64) {
    let spans = spans_of(report, "kafka", |_| false);
    let others = spans
        .iter()
        .filter(|span| !["list_offsets", "fetch", "offset_commit", "produce"].contains(&&*span.name));
    assert_eq!(others.count(), 0, "{spans:#?}");
    for (mark, name, destination) in [
        ("kafka offsets", "list_offsets", None),
        ("kafka poll", "fetch", Some("orders")),
        ("kafka commit", "offset_commit", None),
        ("kafka produce", "produce", Some("orders")),
    ] {
        let site = site_in("drivers.py", &format!("call: {mark}")).unwrap();
        let here = |line: Option<u32>| line == Some(site.line);
        let span = spans
            .iter()
            .find(|span| span.name == name && span.stack.first().is_some_and(|frame| here(frame.line)))
            .unwrap_or_else(|| panic!("no `{name}` on the line of {mark}"));
        assert_eq!((span.kind, span.messaging_system.as_deref()), (SpanKind::Messaging, Some("kafka")));
        assert_eq!(
            (span.destination.as_deref(), span.error_type.as_deref()),
            (destination, None),
            "{span:#?}"
        );
        assert!(span.reply_seen, "{span:#?}");
        assert_eq!(span.message_bytes, (name == "produce").then_some(produced), "{span:#?}");
    }
}
