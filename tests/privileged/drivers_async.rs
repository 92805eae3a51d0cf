//! As `drivers.rs`, for drivers that wait on an event loop: all paths are asked for at once, so that a call that is put
//! into another request than its own shows.

use crate::drivers::{Call, NOSUCH, Page, assert_page_in, call, changes, fails, is_preparation, select};
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

const PAGES: &[Page] = &[
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
