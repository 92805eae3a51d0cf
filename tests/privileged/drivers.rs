//! What each driver asks its server is one span: with text or name, result and error, the line of Python that asked, in
//! the request that it was for. Servers and drivers are real; connections are both older than the attach and new.

use harness::drivers::Drivers;
use harness::place::Python;
use harness::pyapm::{Pyapm, Report};
use harness::source::site_in;
use pyapm_model::line::{Span, SpanKind, WarningKind};

/// One call: its mark in the workload, and what its span must say.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) mark: &'static str,
    /// `db.query.text`, or the name where there is none.
    pub(crate) text: &'static str,
    pub(crate) error: Option<&'static str>,
    /// Where the error has a number of the server's own.
    pub(crate) sqlstate: Option<&'static str>,
    pub(crate) rows: Option<u64>,
    pub(crate) affected: Option<u64>,
    pub(crate) status: Option<u16>,
}

pub(crate) const fn call(mark: &'static str, text: &'static str) -> Call {
    Call { mark, text, error: None, sqlstate: None, rows: None, affected: None, status: None }
}

const SELECT: &str = "SELECT name FROM people WHERE id < ?";
pub(crate) const NOSUCH: &str = "SELECT secret FROM nosuch";

pub(crate) const fn select(mark: &'static str, rows: u64) -> Call {
    Call { rows: Some(rows), ..call(mark, SELECT) }
}

const fn select_as(mark: &'static str, text: &'static str, rows: u64) -> Call {
    Call { rows: Some(rows), ..call(mark, text) }
}

pub(crate) const fn fails(mark: &'static str, text: &'static str, error: &'static str) -> Call {
    Call { error: Some(error), ..call(mark, text) }
}

pub(crate) const fn changes(mark: &'static str, text: &'static str, affected: u64) -> Call {
    Call { affected: Some(affected), ..call(mark, text) }
}

pub(crate) const fn http(mark: &'static str, text: &'static str, status: u16) -> Call {
    Call { status: Some(status), ..call(mark, text) }
}

/// Path, kind, system, calls.
pub(crate) type Page = (&'static str, SpanKind, Option<&'static str>, &'static [Call]);

pub(crate) const PSYCOPG2: &[Call] = &[
    select("psycopg2 select", 2),
    changes("psycopg2 update", "UPDATE people SET name = ? WHERE id = ?", 1),
    fails("psycopg2 error", NOSUCH, "42P01"),
];
const PSYCOPG: &[Call] = &[
    select("psycopg select", 0),
    select("psycopg select", 0),
    select("psycopg select", 1),
    select("psycopg select", 2),
    select("psycopg select", 3),
    select("psycopg select", 4),
    select("psycopg select", 5),
    fails("psycopg error", "SELECT ? / (id - ?) FROM people WHERE id = ?", "22012"),
];

pub(crate) const REDIS: &[Call] = &[
    call("redis set", "SET user:{id}:name"),
    call("redis get", "GET user:{id}:name"),
    fails("redis error", "LPUSH user:{id}:name", "WRONGTYPE"),
    call("redis pipeline", "GET user:{id}:name"),
    call("redis pipeline", "GET user:{id}:name"),
    call("redis pipeline", "GET user:{id}:name"),
];

pub(crate) const MYSQLCLIENT: &[Call] = &[
    select("mysqlclient select", 2),
    changes("mysqlclient update", "UPDATE people SET name = ? WHERE id = ?", 1),
    fails("mysqlclient error", NOSUCH, "1146"),
];
const MEMCACHED: &[Call] =
    &[call("memcached set", "set user:{id}:name"), call("memcached get", "get user:{id}:name")];

const PAGES: &[Page] = &[
    ("psycopg2", SpanKind::Db, Some("postgresql"), PSYCOPG2),
    ("psycopg2-tls", SpanKind::Db, Some("postgresql"), PSYCOPG2),
    ("psycopg", SpanKind::Db, Some("postgresql"), PSYCOPG),
    ("psycopg-tls", SpanKind::Db, Some("postgresql"), PSYCOPG),
    (
        "pg8000",
        SpanKind::Db,
        Some("postgresql"),
        &[select("pg8000 select", 2), fails("pg8000 error", NOSUCH, "42P01")],
    ),
    ("mysqlclient", SpanKind::Db, Some("mysql"), MYSQLCLIENT),
    (
        "pymysql",
        SpanKind::Db,
        Some("mysql"),
        &[
            select("pymysql select", 2),
            changes("pymysql insert", "INSERT INTO people VALUES (?, ?)", 2),
            changes("pymysql delete", "DELETE FROM people WHERE id >= ?", 2),
            fails("pymysql error", NOSUCH, "1146"),
        ],
    ),
    (
        "connector",
        SpanKind::Db,
        Some("mysql"),
        &[
            select("connector select", 0),
            select("connector select", 1),
            fails("connector error", NOSUCH, "1146"),
        ],
    ),
    ("redis", SpanKind::Cache, Some("redis"), REDIS),
    ("redis-tls", SpanKind::Cache, Some("redis"), REDIS),
    ("memcached", SpanKind::Cache, Some("memcached"), MEMCACHED),
    ("memcached-tls", SpanKind::Cache, Some("memcached"), MEMCACHED),
    (
        "urllib",
        SpanKind::Http,
        None,
        &[
            http("urllib get", "GET /download/{id}", 200),
            Call { error: Some("503"), ..http("urllib error", "GET /status/{id}", 503) },
        ],
    ),
    (
        "requests",
        SpanKind::Http,
        None,
        &[http("requests get", "GET /chunked/{id}", 200), http("requests post", "POST /echo", 200)],
    ),
    ("httpx", SpanKind::Http, None, &[http("httpx get", "GET /download/{id}", 200)]),
    (
        "urllib3",
        SpanKind::Http,
        None,
        &[http("urllib3 get", "GET /download/{id}", 200), http("urllib3 post", "POST /echo", 200)],
    ),
    ("urllib-tls", SpanKind::Http, None, &encrypted("urllib tls")),
    ("requests-tls", SpanKind::Http, None, &encrypted("requests tls")),
    ("urllib3-tls", SpanKind::Http, None, &encrypted("urllib3 tls")),
    ("httpx-tls", SpanKind::Http, None, &encrypted("httpx tls")),
    ("http2", SpanKind::Http, None, HTTP2),
    ("http2-tls", SpanKind::Http, None, HTTP2),
    ("sqlite3", SpanKind::Db, Some("sqlite"), SQLITE),
    ("pysqlite3", SpanKind::Db, Some("sqlite"), SQLITE),
    (
        "django",
        SpanKind::Db,
        Some("sqlite"),
        &[
            select_as(
                "django select",
                r#"SELECT "people"."id", "people"."name" FROM "people" WHERE "people"."id" < ?"#,
                2,
            ),
            changes("django update", r#"UPDATE "people" SET "name" = ? WHERE "people"."id" = ?"#, 1),
        ],
    ),
];

const fn encrypted(mark: &'static str) -> [Call; 2] {
    [
        http(mark, "GET /download/{id}", 200),
        Call { error: Some("503"), ..http(mark, "GET /status/{id}", 503) },
    ]
}

const HTTP2: &[Call] = &[
    http("http2 get", "GET /download/{id}", 200),
    http("http2 post", "POST /echo", 200),
    Call { error: Some("503"), ..http("http2 error", "GET /status/{id}", 503) },
    http("http2 stream", "GET /download/{id}", 200),
];

/// Bytes of bodies of outgoing HTTP calls; chunks have their framing.
const BODIES: [(&str, &[(u64, u64)]); 8] = [
    ("urllib", &[(0, 5000), (0, 12)]),
    ("requests", &[(0, 1000 + 7 + 5), (6, 2)]),
    ("httpx", &[(0, 70_000)]),
    ("urllib3", &[(0, 5000), (6, 2)]),
    ("urllib-tls", ENCRYPTED),
    ("requests-tls", ENCRYPTED),
    ("urllib3-tls", ENCRYPTED),
    ("httpx-tls", ENCRYPTED),
];
const ENCRYPTED: &[(u64, u64)] = &[(0, 5000), (0, 12)];
const HTTP2_BODIES: &[(u64, u64)] = &[(0, 70_000), (6, 2), (0, 12), (0, 200_000)];

/// Of each call, the bytes of the two bodies.
fn bodies(spans: &[&Span]) -> Vec<(Option<u64>, Option<u64>)> {
    spans.iter().map(|span| (span.request_bytes, span.response_bytes)).collect()
}

fn whole(bodies: &[(u64, u64)]) -> Vec<(Option<u64>, Option<u64>)> {
    bodies.iter().map(|(sent, received)| (Some(*sent), Some(*received))).collect()
}

pub(crate) const SQLITE: &[Call] = &[
    select("sqlite3 select", 2),
    changes("sqlite3 update", "UPDATE people SET name = ? WHERE id = ?", 1),
    fails("sqlite3 error", NOSUCH, "SQLITE_ERROR"),
];

/// Statements that are prepared are calls to the server too, but no work of the application's.
pub(crate) fn is_preparation(span: &Span) -> bool {
    span.name.starts_with("PREPARE ")
}

pub(crate) fn assert_is(file: &str, span: &Span, expected: &Call, kind: SpanKind, system: Option<&str>) {
    let site = site_in(file, &format!("call: {}", expected.mark)).unwrap();
    let frame = span.stack.first().unwrap_or_else(|| panic!("no call site: {span:#?}"));
    assert!(frame.file.ends_with(file), "{span:#?}");
    assert_eq!(frame.line, Some(site.line), "{span:#?}");
    assert_eq!((span.kind, span.db_system.as_deref()), (kind, system), "{span:#?}");
    assert_eq!(span.db_query.as_deref().unwrap_or(&span.name), expected.text, "{span:#?}");
    assert_eq!(span.error_type.as_deref(), expected.error, "{span:#?}");
    assert_eq!(span.status, expected.status, "{span:#?}");
    if expected.sqlstate.is_some() {
        assert_eq!(span.sqlstate.as_deref(), expected.sqlstate, "{span:#?}");
    }
    if expected.rows.is_some() {
        assert_eq!(span.returned_rows, expected.rows, "{span:#?}");
    }
    if expected.affected.is_some() {
        assert_eq!(span.affected_rows, expected.affected, "{span:#?}");
    }
    assert!(span.duration_ns > 0, "{span:#?}");
    // SQLite is a library, and has no server. Which connection carries TLS that goes through memory is inferred, the
    // more often not the earlier it is asked.
    let is_inferred = match file {
        "async_drivers.py" => kind == SpanKind::Http,
        file => file == "async_conversations.py",
    };
    if !is_inferred {
        assert_eq!(span.server_port.is_some(), system != Some("sqlite"), "{span:#?}");
    }
}

/// The spans of the only transaction with this path, those left out that `but` names.
pub(crate) fn spans_of<'a>(report: &'a Report, path: &str, but: impl Fn(&Span) -> bool) -> Vec<&'a Span> {
    let path = format!("/{path}");
    let mut found = report.transactions.iter().filter(|one| one.path.as_deref() == Some(&path));
    let transaction = found.next().unwrap_or_else(|| panic!("no transaction of {path}"));
    assert!(found.next().is_none(), "more than one transaction of {path}");
    transaction.spans.iter().filter(|span| !but(span)).collect()
}

pub(crate) fn assert_page(report: &Report, path: &str, page: &Page, but: impl Fn(&Span) -> bool) {
    assert_page_in("drivers.py", report, path, page, but);
}

/// The calls of one page are those, in that order, made in this file.
pub(crate) fn assert_page_in(
    file: &str,
    report: &Report,
    path: &str,
    (_, kind, system, calls): &Page,
    but: impl Fn(&Span) -> bool,
) {
    let spans = spans_of(report, path, but);
    let texts: Vec<_> = spans.iter().map(|span| (&span.name, &span.db_query)).collect();
    assert_eq!(spans.len(), calls.len(), "{path}: {texts:#?}");
    for (span, expected) in spans.iter().zip(*calls) {
        assert_is(file, span, expected, *kind, *system);
    }
}

#[test]
fn calls_on_connections_that_are_older_than_the_attach() {
    let drivers = Drivers::start(&Python::chosen().unwrap()).unwrap();
    let attach = Pyapm::attach(drivers.master(), &[]).unwrap();
    let paths: Vec<String> = PAGES.iter().map(|(path, ..)| format!("/{path}")).collect();
    drivers.ask(&paths.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let addresses = String::from_utf8(drivers.get("/sqlite3-made").unwrap()).unwrap();
    assert!(addresses.trim().parse::<usize>().unwrap() < 8, "no address was taken again: {addresses}");
    let report = attach.stop().unwrap();
    assert_made(&spans_of(&report, "sqlite3-made", |_| false));
    for page in PAGES {
        assert_page(&report, page.0, page, is_preparation);
    }
    for (path, expected) in BODIES {
        let spans = spans_of(&report, path, |_| false);
        assert_eq!(bodies(&spans), whole(expected), "{path}");
        for span in spans {
            let first = span.first_byte_ns.unwrap();
            assert!(first > 0 && first <= span.duration_ns, "{span:#?}");
        }
    }
    // Made for this call, and by a name; other connections were there before.
    let urllib = spans_of(&report, "urllib", |_| false);
    assert_eq!(urllib[0].host.as_deref(), Some("localhost"));
    assert_eq!(urllib[1].host.as_deref(), Some("127.0.0.1"));
    assert!(urllib[0].dns_ns.is_some_and(|took| took > 0), "{:#?}", urllib[0]);
    assert_eq!(urllib[1].dns_ns, None);
    for span in urllib {
        let connect = span.connect_ns.unwrap();
        let before = connect + span.dns_ns.unwrap_or(0);
        assert!(connect > 0 && before < span.first_byte_ns.unwrap(), "{span:#?}");
    }
    // Over TLS too; all but urllib keep their connection for the second call.
    for path in ["urllib-tls", "requests-tls", "urllib3-tls", "httpx-tls"] {
        let spans = spans_of(&report, path, |_| false);
        assert_eq!(spans[0].host.as_deref(), Some("localhost"), "{path}");
        assert!(spans[0].dns_ns.is_some_and(|took| took > 0), "{path}: {:#?}", spans[0]);
        assert!(spans[0].connect_ns.is_some_and(|took| took > 0), "{path}: {:#?}", spans[0]);
        assert_eq!(spans[1].connect_ns.is_some(), path == "urllib-tls", "{path}: {:#?}", spans[1]);
    }
    // Frames begin anywhere in an answer: until that is wanted, a part of a long one is not copied.
    for path in ["http2", "http2-tls"] {
        for (told, whole) in bodies(&spans_of(&report, path, |_| false)).iter().zip(whole(HTTP2_BODIES)) {
            assert!(*told == whole || told.1.is_none(), "{path}: {told:?} {whole:?}");
        }
    }
    let older = spans_of(&report, "http2", |_| false);
    assert!(older.iter().all(|span| span.connect_ns.is_none() && span.dns_ns.is_none()), "{older:#?}");
    assert!(!report.stdout.contains("secret="), "a query string was told");
    assert!(!report.stdout.contains("'secret'"), "a value was told");
    // From one line in a loop, with other values each time.
    let transaction = report.transactions.iter().find(|one| one.path.as_deref() == Some("/psycopg")).unwrap();
    let [warning] = &transaction.warnings[..] else { panic!("{:#?}", transaction.warnings) };
    assert_eq!((warning.kind, warning.count), (WarningKind::RepeatedCalls, 7));
    let site = site_in("drivers.py", "call: psycopg select").unwrap();
    assert_eq!(warning.call_site.as_ref().and_then(|frame| frame.line), Some(site.line));
}

/// Each statement was asked by the function of its number, if that could be named while it lived, and by no other.
fn assert_made(spans: &[&Span]) {
    let mut named = 0;
    assert_eq!(spans.len(), 8, "{spans:#?}");
    for (number, span) in spans.iter().enumerate() {
        assert_eq!(span.db_query.as_deref(), Some(&*format!("SELECT ? AS made_{number}")), "{span:#?}");
        let own = format!("asks_{number}");
        let asked: Vec<_> = span.stack.iter().filter(|frame| frame.function.starts_with("asks_")).collect();
        assert!(asked.iter().all(|frame| *frame.function == *own), "{span:#?}");
        named += asked.len();
    }
    assert!(named > 0, "{spans:#?}");
}

/// What a driver says when it connects has a line of its own in `drivers.py`, in a function named for it.
fn is_connecting(span: &Span) -> bool {
    span.stack.first().is_some_and(|frame| frame.function.ends_with("_connect"))
}

#[test]
fn calls_on_new_connections_are_those_that_the_server_received() {
    let drivers = Drivers::start(&Python::chosen().unwrap()).unwrap();
    let attach = Pyapm::attach(drivers.master(), &[]).unwrap();
    drivers.mysql.begin_log().unwrap();
    let before = drivers.postgresql.log().len();
    // Each is in the other test: nothing is made anew for it, or all is.
    let http1 = BODIES.map(|(path, _)| path);
    // Django is set up once in a process.
    let pages: Vec<&Page> =
        PAGES.iter().filter(|page| !http1.contains(&page.0) && page.0 != "django").collect();
    let asked_before = drivers.http2.calls().unwrap().lines().count();
    let paths: Vec<String> = pages.iter().map(|(path, ..)| format!("/fresh/{path}")).collect();
    drivers.ask(&paths.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let mysql = drivers.mysql.end_log().unwrap();
    let postgresql = drivers.postgresql.log().split_off(before);
    let http2 = drivers.http2.calls().unwrap();
    let report = attach.stop().unwrap();
    for page in &pages {
        let path = format!("fresh/{}", page.0);
        assert_page(&report, &path, page, |span| is_preparation(span) || is_connecting(span));
    }
    let of = |system: &str| {
        let spans = report.transactions.iter().flat_map(|transaction| &transaction.spans);
        spans.filter(|span| span.db_system.as_deref() == Some(system)).collect::<Vec<_>>()
    };
    // With `log_statement` PostgreSQL writes simple queries and executions, but not one that fails to parse in the
    // extended protocol, which none here does.
    let logged = postgresql
        .lines()
        .filter(|line| line.contains("LOG:  statement:") || line.contains("LOG:  execute "));
    let run = of("postgresql").into_iter().filter(|span| !is_preparation(span)).count();
    assert_eq!(run, logged.count(), "{postgresql}");
    // The general log has a line of kind `Query` for each text statement; prepared ones are of another kind.
    let prepared = |span: &&Span| {
        is_preparation(span)
            || (span.db_query.as_deref() == Some(SELECT)
                && span.stack.first().is_some_and(|frame| frame.function == "connector"))
    };
    let text = of("mysql").into_iter().filter(|span| !prepared(span)).count();
    assert_eq!(text, mysql.len(), "{mysql:#?}");
    // nginx writes a line for each call that it has answered; the text is the path that the client sent.
    let answered: Vec<&str> = http2.lines().skip(asked_before).collect();
    let calls =
        report.transactions.iter().flat_map(|one| &one.spans).filter(|span| span.kind == SpanKind::Http);
    assert_eq!(calls.count(), answered.len(), "{answered:#?}");
    assert!(answered.iter().all(|line| line.starts_with("HTTP/2.0 ")), "{answered:#?}");
    for path in ["fresh/http2", "fresh/http2-tls"] {
        // The first call, that of the connection, has its parts.
        let [first, rest @ ..] = &*spans_of(&report, path, |_| false) else { panic!("no calls of {path}") };
        assert!(first.dns_ns.is_some_and(|took| took > 0), "{first:#?}");
        assert!(first.connect_ns.is_some_and(|took| took > 0), "{first:#?}");
        assert_eq!(first.path.as_deref(), Some("/"));
        assert_eq!(bodies(rest), whole(HTTP2_BODIES), "{path}");
        assert!(rest.iter().all(|span| span.connect_ns.is_none()), "{rest:#?}");
        assert!(rest.iter().all(|span| span.host.as_deref() == Some("localhost")), "{rest:#?}");
    }
    let opened = |path: &str| {
        let transaction = report.transactions.iter().find(|one| one.path.as_deref() == Some(path)).unwrap();
        transaction.warnings.iter().filter(|warning| warning.kind == WarningKind::ConnectionOpened).count()
    };
    let paths = ["/fresh/psycopg2", "/fresh/pymysql", "/fresh/psycopg2-tls", "/fresh/psycopg-tls"];
    assert_eq!(paths.map(opened), [1; 4]);
}
