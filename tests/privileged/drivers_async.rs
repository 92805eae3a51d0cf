//! As `drivers.rs`, for drivers that wait on an event loop: all paths are asked for at once, so that a call that is put
//! into another request than its own shows.

use crate::drivers::{
    Call, NOSUCH, Page, assert_page_in, call, changes, fails, http, is_preparation, select,
};
use harness::drivers::{Asks, Drivers};
use harness::place::Python;
use harness::pyapm::Pyapm;
use pyapm_model::line::SpanKind;

const UPDATE_ONE: &str = "UPDATE people SET name = ? WHERE id = ?";
const DIVIDED: &str = "SELECT ? / (id - ?) FROM people WHERE id = ?";

const ASYNCPG: &[Call] = &[
    select("asyncpg select", 2),
    select("asyncpg select", 3),
    changes("asyncpg update", UPDATE_ONE, 1),
    fails("asyncpg error", "SELECT ? / (id - ?::int) FROM people WHERE id = ?", "22012"),
    call("asyncpg begin", "BEGIN;"),
    changes("asyncpg many", UPDATE_ONE, 1),
    changes("asyncpg many", UPDATE_ONE, 1),
    call("asyncpg begin", "COMMIT;"),
];
const PSYCOPG: &[Call] = &[
    select("psycopg select", 2),
    select("psycopg select", 3),
    fails("psycopg error", DIVIDED, "22012"),
    changes("psycopg pipeline", UPDATE_ONE, 1),
    changes("psycopg pipeline 2", UPDATE_ONE, 1),
];
const REDIS: &[Call] = &[
    call("redis set", "SET user:{id}:name"),
    call("redis get", "GET user:{id}:name"),
    fails("redis error", "LPUSH user:{id}:name", "WRONGTYPE"),
    call("redis pipeline", "GET user:{id}:name"),
    call("redis pipeline", "GET user:{id}:name"),
    call("redis pipeline", "GET user:{id}:name"),
    call("redis publish", "PUBLISH news:{id}"),
];

const HTTP2: &[Call] = &[
    http("http2 get", "GET /download/{id}", 200),
    http("http2 post", "POST /echo", 200),
    Call { error: Some("503"), ..http("http2 error", "GET /status/{id}", 503) },
];

const PAGES: &[Page] = &[
    ("http2", SpanKind::Http, None, HTTP2),
    ("http2-tls", SpanKind::Http, None, HTTP2),
    ("asyncpg", SpanKind::Db, Some("postgresql"), ASYNCPG),
    ("asyncpg-tls", SpanKind::Db, Some("postgresql"), ASYNCPG),
    ("psycopg", SpanKind::Db, Some("postgresql"), PSYCOPG),
    ("psycopg-tls", SpanKind::Db, Some("postgresql"), PSYCOPG),
    (
        "aiomysql",
        SpanKind::Db,
        Some("mysql"),
        &[
            select("aiomysql select", 2),
            changes("aiomysql insert", "INSERT INTO people VALUES (?, ?)", 2),
            changes("aiomysql delete", "DELETE FROM people WHERE id IN (?)", 2),
            fails("aiomysql error", NOSUCH, "1146"),
        ],
    ),
    (
        "asyncmy",
        SpanKind::Db,
        Some("mysql"),
        &[
            select("asyncmy select", 2),
            changes("asyncmy insert", "INSERT INTO people VALUES (?, ?)", 2),
            changes("asyncmy delete", "DELETE FROM people WHERE id IN (?)", 2),
            fails("asyncmy error", NOSUCH, "1146"),
        ],
    ),
    ("redis", SpanKind::Cache, Some("redis"), REDIS),
    ("redis-python", SpanKind::Cache, Some("redis"), REDIS),
    (
        "pubsub",
        SpanKind::Cache,
        Some("redis"),
        &[
            call("pubsub subscribe", "SUBSCRIBE news:{id}"),
            call("pubsub publish", "PUBLISH news:{id}"),
            call("pubsub unsubscribe", "UNSUBSCRIBE news:{id}"),
        ],
    ),
];

#[test]
fn calls_of_requests_that_are_served_at_once() {
    let drivers = Drivers::start_as(&Python::chosen().unwrap(), Asks::Async).unwrap();
    let mut attach = Pyapm::attach(drivers.master(), &[]).unwrap();
    let before = drivers.postgresql.log().len();
    std::thread::scope(|scope| {
        let asked: Vec<_> = PAGES
            .iter()
            .map(|page| {
                let drivers = &drivers;
                scope.spawn(move || drivers.get(&format!("/{}", page.0)))
            })
            .collect();
        for answer in asked {
            answer.join().unwrap().unwrap();
        }
    });
    let postgresql = drivers.postgresql.log().split_off(before);
    attach.wait_for_transactions(PAGES.len()).unwrap();
    let report = attach.stop().unwrap();
    for page in PAGES {
        assert_page_in("async_drivers.py", &report, page.0, page, is_preparation);
    }
    assert!(!report.stdout.contains("secret'"), "a value was told");
    let logged = postgresql
        .lines()
        .filter(|line| line.contains("LOG:  statement:") || line.contains("LOG:  execute "));
    let spans = report.transactions.iter().flat_map(|transaction| &transaction.spans);
    let run = spans.filter(|span| span.db_system.as_deref() == Some("postgresql") && !is_preparation(span));
    assert_eq!(run.count(), logged.count(), "{postgresql}");
}

/// Requests that are asked at once through one client that all of them share.
const SHARED: usize = 40;
/// Those that are asked one after the other.
const ALONE: usize = 4;

/// Streams share a connection and even its writes, so that whoever writes need not be the one who asked: what could be
/// another's is nobody's, and counted. Nothing is in the wrong request.
#[test]
fn streams_of_one_connection() {
    let drivers = Drivers::start_as(&Python::chosen().unwrap(), Asks::Async).unwrap();
    let mut attach = Pyapm::attach(drivers.master(), &[]).unwrap();
    // All of one request: there is nobody else that they could be for.
    drivers.get("/http2-gathered").unwrap();
    attach.wait_for_transactions(1).unwrap();
    std::thread::scope(|scope| {
        for number in 1..=SHARED {
            let drivers = &drivers;
            let way = if number % 2 == 0 { "http2-shared" } else { "http2-shared-tls" };
            scope.spawn(move || drivers.get(&format!("/{way}/{number}")).unwrap());
        }
    });
    // One after the other: nothing else is on their connections.
    for number in SHARED + 1..=SHARED + ALONE {
        drivers.get(&format!("/http2-shared/{number}")).unwrap();
    }
    attach.wait_for_transactions(1 + SHARED + ALONE).unwrap();
    let report = attach.stop().unwrap();
    let gathered =
        report.transactions.iter().find(|one| one.path.as_deref() == Some("/http2-gathered")).unwrap();
    let mut paths: Vec<_> = gathered.spans.iter().filter_map(|span| span.path.clone()).collect();
    paths.sort();
    let mut expected: Vec<_> = (1..=10).map(|number| format!("/download/{number}")).collect();
    expected.sort();
    assert_eq!(paths, expected);
    let mut placed = 0;
    let shared = report.transactions.iter().filter(|one| one.name.starts_with("GET /http2-shared"));
    for transaction in shared {
        let number = transaction.path.as_deref().unwrap().rsplit('/').next().unwrap();
        for span in &transaction.spans {
            placed += 1;
            match span.method.as_deref() {
                Some("GET") => assert_eq!(span.path.as_deref(), Some(&*format!("/download/{number}"))),
                Some("POST") => assert_eq!(span.request_bytes, number.parse().ok(), "{span:#?}"),
                other => panic!("{other:?}"),
            }
            assert_eq!((span.status, span.reply_seen), (Some(200), true), "{span:#?}");
        }
    }
    let incomplete = &report.summary.incomplete;
    let nobodys = incomplete.get("unplaced_shared_connection").copied().unwrap_or(0);
    assert_eq!(placed + nobodys, 2 * (SHARED + ALONE) as u64, "{incomplete:?}");
    // How many of the others meet is a matter of luck.
    assert!(placed >= 2 * ALONE as u64, "{incomplete:?}");
}
