//! As `drivers.rs` and `drivers_async.rs`, for what databases are asked beyond single statements: transactions, several
//! statements in one text, procedures, copies, cursors on the server, pipelines, notifications. By every driver that can, in
//! clear and over TLS, also by MySQL's own library in C; all on connections that are older than the attach.

use crate::drivers::{
    Call, REDIS, assert_page_in, call, changes, fails, http, is_preparation, select, spans_of,
};
use crate::tls::{copies, told_by_doctor};
use harness::drivers::{Asks, Drivers};
use harness::inspect::children;
use harness::place::Python;
use harness::pyapm::{Pyapm, Report};
use pyapm_model::line::{SpanKind, WarningKind};
use std::collections::BTreeSet;

const PEOPLE: &str = "SELECT name FROM people WHERE id < ?";
const INSERT: &str = "INSERT INTO people VALUES (?, ?)";
const SEVERAL: &str =
    "SELECT name FROM people WHERE id < ?; DELETE FROM people WHERE id > ?; SELECT ? UNION SELECT ?";

const fn rows(mark: &'static str, text: &'static str, rows: u64) -> Call {
    Call { rows: Some(rows), ..call(mark, text) }
}

/// Number and SQLSTATE.
const fn refused(mark: &'static str, text: &'static str, error: &'static str, state: &'static str) -> Call {
    Call { sqlstate: Some(state), ..fails(mark, text, error) }
}

/// How a driver of MySQL says what all of them say.
struct Mysql {
    begin: &'static str,
    rollback: &'static str,
    commit: &'static str,
    /// What it asks for itself before the first statement with values.
    mode: Option<&'static str>,
    /// How a procedure's values are set; the call; how they are read, and on which line.
    set: &'static [&'static str],
    called: &'static str,
    read: &'static str,
    out: &'static str,
}

const PLAIN: Mysql = Mysql {
    begin: "BEGIN",
    rollback: "ROLLBACK",
    commit: "COMMIT",
    mode: None,
    set: &["SET @`_pair_0` = ?, @`_pair_1` = ?"],
    called: "CALL `pair` (@`_pair_0`, @`_pair_1`)",
    read: "SELECT @_pair_1",
    out: "mysql out",
};
const ASYNCMY: Mysql =
    Mysql { set: &["SET @_pair_0 = ?, @_pair_1 = ?"], called: "CALL pair(@_pair_0, @_pair_1)", ..PLAIN };
const AIOMYSQL: Mysql = Mysql { set: &["SET @_pair_0 = ?", "SET @_pair_1 = ?"], ..ASYNCMY };
const CONNECTOR: Mysql = Mysql {
    begin: "START TRANSACTION",
    mode: Some("SELECT @@session.sql_mode"),
    set: &["SET @_pair_arg1 = ?, @_pair_arg2 = ?"],
    called: "CALL pair(@_pair_arg1, @_pair_arg2)",
    read: "SELECT @_pair_arg1 AS pair_arg1, @_pair_arg2 AS pair_arg2",
    out: "mysql procedure",
    ..PLAIN
};
const CONNECTOR_C: Mysql = Mysql { rollback: "rollback", commit: "commit", mode: None, ..CONNECTOR };

impl Mysql {
    fn begun(&self) -> Vec<Call> {
        vec![
            changes("mysql begin", self.begin, 0),
            changes("mysql update", "UPDATE people SET name = ? WHERE id IN (?)", 3),
            refused("mysql duplicate", INSERT, "1062", "23000"),
            changes("mysql rollback", self.rollback, 0),
        ]
    }

    /// One text with three results.
    fn several() -> Call {
        Call { affected: Some(0), ..rows("mysql several", SEVERAL, 4) }
    }

    /// Two results, and a value that comes out.
    fn procedure(&self) -> Vec<Call> {
        let mut calls: Vec<Call> = self.set.iter().map(|text| changes("mysql procedure", text, 0)).collect();
        calls.push(Call { affected: Some(1), ..rows("mysql procedure", self.called, 3) });
        calls.push(rows(self.out, self.read, 1));
        calls
    }

    fn whole(&self) -> Vec<Call> {
        let mut calls = self.begun();
        calls.push(changes("mysql begin again", self.begin, 0));
        calls.extend(self.mode.map(|text| rows("mysql select", text, 1)));
        calls.push(select("mysql select", 2));
        calls.push(changes("mysql commit", self.commit, 0));
        let text = "SELECT ?; SELECT secret FROM nosuch";
        let half = Call { rows: Some(1), ..refused("mysql several error", text, "1146", "42S02") };
        calls.extend([Self::several(), half]);
        calls.extend(self.procedure());
        calls
    }
}

const TABLE: &str = "CREATE TEMP TABLE IF NOT EXISTS rows (id INT, name TEXT)";
const COPY_IN: &str = "COPY rows FROM STDIN";
const COPY_OUT: &str = "COPY (SELECT * FROM rows WHERE id < ?) TO STDOUT";
const FETCH: &str = "FETCH FORWARD ? FROM ?";

/// psycopg2.
pub(crate) const POSTGRESQL: &[Call] = &[
    call("postgresql table", TABLE),
    changes("postgresql copy in", COPY_IN, 3),
    rows("postgresql copy out", COPY_OUT, 2),
    fails("postgresql copy error", COPY_IN, "22P02"),
    call("postgresql listen", "LISTEN news"),
    call("postgresql notify", "NOTIFY news, ?"),
    call("postgresql declare", "BEGIN"),
    call("postgresql declare", "DECLARE ? CURSOR WITHOUT HOLD FOR SELECT name FROM people WHERE id < ?"),
    rows("postgresql fetch", FETCH, 4),
    rows("postgresql fetch", FETCH, 3),
    rows("postgresql fetch", FETCH, 0),
    call("postgresql close", "CLOSE ?"),
    fails("postgresql duplicate", INSERT, "23505"),
    call("postgresql rollback", "ROLLBACK"),
    Call {
        affected: Some(3),
        ..rows("postgresql several", "DELETE FROM rows; SELECT name FROM rows; SELECT ?", 1)
    },
];

/// psycopg 3, as far as its two interfaces do the same.
const COPIES: [Call; 5] = [
    call("psycopg table", TABLE),
    changes("psycopg copy in", COPY_IN, 3),
    rows("psycopg copy out", COPY_OUT, 2),
    call("psycopg listen", "LISTEN news"),
    call("psycopg notify", "NOTIFY news, ?"),
];
const CURSOR: [Call; 5] = [
    call("psycopg begin", "BEGIN"),
    call("psycopg declare", "DECLARE ? CURSOR FOR SELECT name FROM people WHERE id < ?"),
    rows("psycopg fetch", FETCH, 4),
    call("psycopg close", "CLOSE ?"),
    call("psycopg begin", "COMMIT"),
];

pub(crate) fn psycopg() -> Vec<Call> {
    let pipeline = [
        changes("psycopg pipeline", "UPDATE people SET name = ? WHERE id = ?", 1),
        select("psycopg pipeline 2", 2),
    ];
    let rest =
        [fails("psycopg duplicate", INSERT, "23505"), changes("psycopg delete", "DELETE FROM rows", 3)];
    [&COPIES[..], &pipeline, &CURSOR, &rest].concat()
}

pub(crate) fn assert_calls(file: &str, report: &Report, path: &str, system: &'static str, calls: Vec<Call>) {
    let (kind, system) = match system {
        "http" => (SpanKind::Http, None),
        "redis" => (SpanKind::Cache, Some(system)),
        _ => (SpanKind::Db, Some(system)),
    };
    let page = ("", kind, system, &*calls.leak());
    assert_page_in(file, report, path, &page, |span| {
        is_preparation(span) || span.method.as_deref() == Some("POST")
    });
}

#[test]
fn of_drivers_that_block() {
    let drivers = Drivers::start_as(&Python::chosen().unwrap(), Asks::SyncWithC).unwrap();
    // MySQL's own, psycopg2's, psycopg's: each wheel has one. Python has the one that was there first.
    let [worker] = children(drivers.master()).unwrap()[..] else { panic!("not one worker") };
    let copies = copies(worker, |name| name.starts_with("libssl"));
    let is_one = |part: &str| copies.iter().filter(|path| path.contains(part)).count() == 1;
    let bundled = ["/mysql/vendor/", "/psycopg2_binary.libs/libssl-", "/psycopg_binary.libs/libssl-"];
    assert!(bundled.into_iter().all(is_one), "{copies:?}");
    let told = told_by_doctor(drivers.master(), worker);
    assert_eq!(told.iter().map(|(path, _)| path.clone()).collect::<BTreeSet<_>>(), copies);
    let attach = Pyapm::attach(drivers.master(), &[]).unwrap();
    let mysql = [
        ("mysqlclient-whole", &PLAIN),
        ("pymysql-whole", &PLAIN),
        ("pymysql-whole-tls", &PLAIN),
        ("connector-whole", &CONNECTOR),
        ("connector-whole-tls", &CONNECTOR),
        ("connector-c-whole", &CONNECTOR_C),
        ("connector-c-whole-tls", &CONNECTOR_C),
    ];
    let prepared = ["connector-c-prepared", "connector-c-prepared-tls"];
    let psycopg2 = ["psycopg2-whole", "psycopg2-whole-tls"];
    let psycopg3 = ["psycopg-whole", "psycopg-whole-tls"];
    let paths = mysql.iter().map(|(path, _)| *path).chain(prepared).chain(psycopg2).chain(psycopg3);
    for path in paths.chain(["held"]) {
        drivers.get(&format!("/{path}")).unwrap();
    }
    let report = attach.stop().unwrap();
    let of = |path, system, calls| assert_calls("conversations.py", &report, path, system, calls);
    for (path, driver) in mysql {
        of(path, "mysql", driver.whole());
    }
    for path in prepared {
        let update = changes("prepared update", "UPDATE people SET name = ? WHERE id > ?", 0);
        of(path, "mysql", vec![select("prepared select", 0), select("prepared select", 1), update]);
        assert_eq!(spans_of(&report, path, |span| !is_preparation(span)).len(), 2, "{path}");
    }
    for path in psycopg2 {
        of(path, "postgresql", POSTGRESQL.to_vec());
    }
    for path in psycopg3 {
        of(path, "postgresql", psycopg());
    }
    assert!(!report.stdout.contains("secret'"), "a value was told");

    // It slept between the checkout and the first statement, twice.
    let calls = ["held ping", "held again", "held transaction"].map(|mark| rows(mark, PEOPLE, 2));
    let [pinged, again, begun] = calls;
    of(
        "held",
        "mysql",
        vec![pinged, again, call("held begin", "BEGIN"), begun, call("held commit", "COMMIT")],
    );
    let slept = |held: Option<u64>| held.is_some_and(|held| held >= 150_000_000);
    let held: Vec<_> =
        spans_of(&report, "held", |_| false).iter().map(|span| slept(span.checkout_ns)).collect();
    assert_eq!(held, [true, false, false, true, false]);
    let transaction = report.transactions.iter().find(|one| one.path.as_deref() == Some("/held")).unwrap();
    let warned: Vec<_> = transaction.warnings.iter().map(|warning| (warning.kind, warning.count)).collect();
    assert_eq!(warned, [(WarningKind::HeldConnection, 1); 2], "{:#?}", transaction.warnings);
}

/// All at once: a call that is put into another request than its own shows.
#[test]
fn of_drivers_that_await() {
    let drivers = Drivers::start_as(&Python::chosen().unwrap(), Asks::Async).unwrap();
    let mut attach = Pyapm::attach(drivers.master(), &[]).unwrap();
    let mysql = |driver: &Mysql| [driver.begun(), vec![Mysql::several()], driver.procedure()].concat();
    let asyncpg = || {
        let mut calls = vec![
            call("asyncpg table", TABLE),
            changes("asyncpg copy in", r#"COPY "rows" FROM STDIN (FORMAT binary)"#, 3),
            rows("asyncpg copy out", COPY_OUT, 2),
            call("asyncpg listen", r#"LISTEN "news""#),
            call("asyncpg notify", "NOTIFY news, ?"),
            call("asyncpg begin", "BEGIN;"),
            rows("asyncpg fetch", "SELECT name FROM people WHERE id < ?", 4),
            rows("asyncpg fetch rest", "SELECT name FROM people WHERE id < ?", 3),
            call("asyncpg begin", "COMMIT;"),
            fails("asyncpg duplicate", INSERT, "23505"),
        ];
        calls.extend((0..7_u64).map(|number| rows("asyncpg loop", PEOPLE, number.saturating_sub(1))));
        calls
    };
    // What has a body is sent by a task of the client's own, which no line of the application is in.
    let http = || {
        vec![
            http("aiohttp get", "GET /download/{id}", 200),
            Call { error: Some("503"), ..http("aiohttp error", "GET /status/{id}", 503) },
        ]
    };
    let psycopg = || COPIES.iter().chain(&CURSOR).cloned().collect::<Vec<_>>();
    let pages: [(&str, &str, Vec<Call>); 11] = [
        ("redis-tls", "redis", REDIS.to_vec()),
        ("aiomysql-whole", "mysql", mysql(&AIOMYSQL)),
        ("aiomysql-whole-tls", "mysql", mysql(&AIOMYSQL)),
        ("asyncmy-whole", "mysql", mysql(&ASYNCMY)),
        ("asyncmy-whole-tls", "mysql", mysql(&ASYNCMY)),
        ("asyncpg-whole", "postgresql", asyncpg()),
        ("asyncpg-whole-tls", "postgresql", asyncpg()),
        ("psycopg-whole", "postgresql", psycopg()),
        ("psycopg-whole-tls", "postgresql", psycopg()),
        ("aiohttp", "http", http()),
        ("aiohttp-tls", "http", http()),
    ];
    std::thread::scope(|scope| {
        let drivers = &drivers;
        let asked = pages.each_ref().map(|(path, ..)| scope.spawn(move || drivers.get(&format!("/{path}"))));
        for answer in asked {
            answer.join().unwrap().unwrap();
        }
    });
    attach.wait_for_transactions(pages.len()).unwrap();
    let report = attach.stop().unwrap();
    for (path, system, calls) in pages {
        assert_calls("async_conversations.py", &report, path, system, calls);
    }
    assert!(!report.stdout.contains("secret'"), "a value was told");
    // A query inside of a loop over awaits: one line, seven times, with other values each time.
    for path in ["/asyncpg-whole", "/asyncpg-whole-tls"] {
        let transaction = report.transactions.iter().find(|one| one.path.as_deref() == Some(path)).unwrap();
        let repeated =
            transaction.warnings.iter().find(|warning| warning.kind == WarningKind::RepeatedCalls).unwrap();
        assert_eq!((repeated.count, repeated.db_query.as_deref()), (7, Some(PEOPLE)), "{repeated:#?}");
        let site = harness::source::site_in("async_conversations.py", "call: asyncpg loop").unwrap();
        assert_eq!(repeated.call_site.as_ref().and_then(|frame| frame.line), Some(site.line));
    }
    for path in ["aiohttp", "aiohttp-tls"] {
        let spans = spans_of(&report, path, |_| false);
        assert_eq!((spans[1].name.as_str(), spans[1].status), ("POST /echo", Some(200)), "{path}");
        let bodies: Vec<_> = spans
            .iter()
            .map(|span| {
                assert!(span.first_byte_ns.is_some_and(|first| first <= span.duration_ns), "{span:#?}");
                assert_eq!(span.host.as_deref(), Some("localhost"));
                (span.request_bytes, span.response_bytes)
            })
            .collect();
        assert_eq!(bodies, [(Some(0), Some(5000)), (Some(6), Some(2)), (Some(0), Some(12))], "{path}");
    }
}
