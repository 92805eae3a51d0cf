//! The room as a whole, on real files: what goes in comes out, whatever happens to the writer in between.

use super::*;
use crate::config;
use pyapm_model::error::Error;
use pyapm_model::line::{
    Frame, Line, SampleState, Samples, Span, SpanKind, Stacks, Transaction, Warning, WarningKind,
};
use pyapm_model::report::Application;
use pyapm_model::service::ApplicationInfo;
use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, Instant};

const MINUTE_NS: u64 = 60_000_000_000;

struct Said(ApplicationInfo, Line);

impl Entry for Said {
    fn application(&self) -> &ApplicationInfo {
        &self.0
    }

    fn line(&self) -> &Line {
        &self.1
    }
}

fn settings(folder: &Path) -> config::History {
    config::History { file: folder.join("of").join("history.db"), ..config::History::default() }
}

fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

fn frame(function: &str) -> Frame {
    Frame { function: function.into(), file: "/srv/shop/views.py".into(), line: Some(7) }
}

fn transaction(name: &str, end_ns: u64, duration_ns: u64) -> Transaction {
    Transaction {
        name: name.into(),
        status: Some(200),
        start_ns: end_ns - duration_ns,
        duration_ns,
        path: Some("/users/7".into()),
        ..Transaction::default()
    }
}

fn query(count: u64) -> Span {
    Span {
        name: "SELECT users".into(),
        db_system: Some("mysql".into()),
        db_query: Some("SELECT * FROM users WHERE id = ?".into()),
        duration_ns: count * 1_000_000,
        stack: vec![frame("user_detail")].into(),
        ..Span::default()
    }
}

fn failed(end_ns: u64) -> Transaction {
    let error = Error {
        kind: "KeyError".into(),
        message: Some("secret".into()),
        handled: Some(false),
        stack: vec![frame("pay")].into(),
        ..Error::default()
    };
    Transaction { status: Some(500), error: Some(error), ..transaction("POST /pay", end_ns, 3_000_000) }
}

fn offer(writer: &Writer<Said>, application: &str, line: Line) {
    let info = ApplicationInfo {
        name: application.into(),
        python: Some("3.11.7".into()),
        ..ApplicationInfo::default()
    };
    writer.offer(Said(info, line)).unwrap();
}

fn all(path: &Path) -> Result<pyapm_model::report::Report, HistoryError> {
    ask(path, 0, now_ns() + MINUTE_NS)
}

fn ask(path: &Path, since_ns: u64, until_ns: u64) -> Result<pyapm_model::report::Report, HistoryError> {
    let query = Query { since_ns, until_ns, application: None, compare: None, transactions: 100 };
    History::open(path)?.report(&query)
}

fn of<'a>(report: &'a pyapm_model::report::Report, name: &str) -> &'a Application {
    report.applications.iter().find(|one| one.application == name).unwrap()
}

#[test]
fn what_goes_in_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now = now_ns();
    // Twice, as a service that is started anew within the minute.
    for _ in 0..2 {
        let writer = Writer::start(&settings).unwrap();
        for number in 1..=100 {
            let mut one = transaction("GET /users/{id}", now, number * 1_000_000);
            one.spans = vec![query(1), query(2)];
            one.warnings = vec![Warning {
                kind: WarningKind::RepeatedCalls,
                name: "SELECT users".into(),
                db_system: None,
                db_query: Some("SELECT * FROM users WHERE id = ?".into()),
                count: 2,
                duration_ns: 3_000_000,
                call_site: Some(frame("user_detail")),
            }];
            offer(&writer, "shop", Line::Transaction(Box::new(one)));
        }
        for _ in 0..20 {
            offer(&writer, "shop", Line::Transaction(Box::new(failed(now))));
        }
        let samples = |count, name: &str| Samples {
            count,
            state: SampleState::Cpu,
            stack: vec![frame(name), frame("main;x")].into(),
        };
        let stacks = Stacks { taken_ns: now, samples: vec![samples(3, "f"), samples(1, "g")], left_out: 0 };
        offer(&writer, "shop", Line::Stacks(Box::new(stacks)));
        offer(&writer, "blog", Line::Transaction(Box::new(transaction("GET /", now, 5))));
        writer.finish().unwrap();
    }
    let report = all(&settings.file).unwrap();
    let names: Vec<&str> = report.applications.iter().map(|one| one.application.as_str()).collect();
    assert_eq!(names, ["blog", "shop"]);
    let shop = of(&report, "shop");
    assert_eq!((shop.totals.count, shop.totals.errors, shop.python.as_deref()), (240, 40, Some("3.11.7")));
    let [users, pay] = &shop.routes[..] else { panic!("{:?}", shop.routes) };
    assert_eq!((users.name.as_str(), users.figures.count, users.db_calls), ("GET /users/{id}", 200, 400));
    assert_eq!(users.figures.total_ns, 2 * 5_050_000_000);
    assert_eq!(users.status_classes, [0, 200, 0, 0, 0]);
    for (quantile, exact) in
        [(users.figures.p50_ns, 50), (users.figures.p95_ns, 95), (users.figures.p99_ns, 99)]
    {
        assert!(quantile.abs_diff(exact * 1_000_000) * 50 <= exact * 1_000_000, "{quantile} {exact}");
    }
    assert_eq!((pay.figures.count, pay.figures.errors, pay.figures.max_ns), (40, 40, 3_000_000));
    let [statement] = &shop.statements[..] else { panic!("{:?}", shop.statements) };
    assert_eq!((statement.figures.count, statement.figures.total_ns), (400, 600_000_000));
    assert_eq!(
        (statement.system.as_deref(), statement.call_site.as_ref()),
        (Some("mysql"), Some(&frame("user_detail")))
    );
    let [group] = &shop.errors[..] else { panic!("{:?}", shop.errors) };
    assert_eq!((group.kind.as_str(), group.count, group.unhandled), ("KeyError", 40, 40));
    assert_eq!(
        (group.latest.message.as_deref(), &group.transactions[..]),
        (None, &["POST /pay".to_owned()][..])
    );
    let [warning] = &shop.warnings[..] else { panic!("{:?}", shop.warnings) };
    assert_eq!((warning.transactions, warning.calls, warning.most_calls), (200, 400, 2));
    let functions: Vec<(&str, u64, u64)> = shop
        .functions
        .iter()
        .map(|one| (one.function.as_str(), one.self_samples, one.total_samples))
        .collect();
    assert_eq!((functions, shop.samples), (vec![("f", 6, 6), ("g", 2, 2), ("main:x", 0, 8)], 8));
    // Each run keeps five of the slowest, and three that failed alike.
    let slowest: Vec<u64> = shop.slowest.iter().take(10).map(|one| one.duration_ns / 1_000_000).collect();
    assert_eq!(slowest, [100, 100, 99, 99, 98, 98, 97, 97, 96, 96]);
    assert_eq!((shop.slowest.len(), shop.failed.len()), (16, 6));
    assert!(shop.slowest.iter().all(|one| one.path.is_none()), "no values without being told to");
    assert_eq!(shop.minutes.iter().map(|minute| minute.count).sum::<u64>(), 240);
}

#[test]
fn it_is_read_while_it_is_written_and_is_whole_whenever_the_writer_ends() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let writer = Writer::start(&settings).unwrap();
    let mut seen = 0;
    for round in 1..=8_u64 {
        for _ in 0..50 {
            offer(&writer, "shop", Line::Transaction(Box::new(failed(now_ns()))));
        }
        let begin = Instant::now();
        // What is committed is there for others at once.
        while seen < round * 50 {
            assert!(begin.elapsed() < Duration::from_secs(60), "{seen} of {}", round * 50);
            std::thread::sleep(Duration::from_millis(20));
            seen = all(&settings.file).map_or(0, |report| of(&report, "shop").totals.count);
        }
        // The files as they would be left by a kill at this moment.
        let left = folder.path().join(format!("left-{round}"));
        std::fs::create_dir(&left).unwrap();
        for name in ["history.db", "history.db-wal"] {
            std::fs::copy(settings.file.with_file_name(name), left.join(name)).unwrap();
        }
        let left = config::History { file: left.join("history.db"), ..settings.clone() };
        let report = all(&left.file).unwrap();
        assert_eq!(of(&report, "shop").totals.count, round * 50);
        let again = Writer::start(&left).unwrap();
        offer(&again, "shop", Line::Transaction(Box::new(failed(now_ns()))));
        again.finish().unwrap();
        assert_eq!(of(&all(&left.file).unwrap(), "shop").totals.count, round * 50 + 1);
        let sound: String = Connection::open(&left.file)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
    }
    writer.finish().unwrap();
}

#[test]
fn what_is_older_than_its_age_goes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now = now_ns();
    let day = 24 * 60 * MINUTE_NS;
    let writer = Writer::start(&settings).unwrap();
    offer(&writer, "shop", Line::Transaction(Box::new(transaction("GET /old", now - 20 * day, 5))));
    writer.finish().unwrap();
    assert_eq!(of(&all(&settings.file).unwrap(), "shop").routes[0].name, "GET /old");
    let mut connection = Connection::open(&settings.file).unwrap();
    let before = (now - 14 * day) / MINUTE_NS;
    super::prune::prune(&mut connection, before, now / MINUTE_NS, 1 << 30, 99).unwrap();
    for table in ["routes", "transactions", "texts"] {
        let left: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

#[test]
fn it_stays_within_its_size_and_keeps_the_newest() {
    const MAX: u64 = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let settings = config::History {
        max_bytes: MAX,
        slowest_per_minute: 1_000,
        values: true,
        ..settings(folder.path())
    };
    // Does not compress into nothing.
    let noise = |seed: u64| -> String {
        let next = |number: u64| {
            number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let numbers = std::iter::successors(Some(next(seed)), |number| Some(next(*number)));
        numbers.take(1_000).map(|number| format!("{number:016x}")).collect()
    };
    let now = now_ns() / MINUTE_NS * MINUTE_NS;
    let minutes = 120_u64;
    for part in 0..6 {
        let writer = Writer::start(&settings).unwrap();
        for minute in 0..20 {
            let end_ns = now - (minutes - part * 20 - minute) * MINUTE_NS;
            for number in 0..12_u64 {
                let mut one = transaction(&format!("GET /{part}/{minute}/{number}"), end_ns, number + 1);
                one.path = Some(noise(end_ns + number));
                let mut entry = Some(one);
                while let Some(one) = entry.take() {
                    let info = ApplicationInfo { name: "shop".into(), ..ApplicationInfo::default() };
                    let line = Line::Transaction(Box::new(one.clone()));
                    if writer.offer(Said(info, line)).is_err() {
                        std::thread::sleep(Duration::from_millis(5));
                        entry = Some(one);
                    }
                }
            }
        }
        writer.finish().unwrap();
        assert!(std::fs::metadata(&settings.file).unwrap().len() <= MAX);
    }
    let report = all(&settings.file).unwrap();
    let shop = of(&report, "shop");
    assert_eq!(shop.minutes.last().unwrap().start_ns, now - MINUTE_NS, "the newest is there");
    assert!(shop.minutes.first().unwrap().start_ns > now - minutes * MINUTE_NS, "the oldest is not");
}

/// Of a transaction that is kept whole, calls have all their parts; of what requests carried nothing stays.
#[test]
fn whole_transactions_have_their_calls_with_all_parts() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let writer = Writer::start(&settings).unwrap();
    let http = Span {
        kind: SpanKind::Http,
        name: "GET /users/{id}".into(),
        method: Some("GET".into()),
        path: Some("/users/7".into()),
        host: Some("api.test".into()),
        status: Some(200),
        request_bytes: Some(6),
        response_bytes: Some(5000),
        dns_ns: Some(11),
        connect_ns: Some(12),
        first_byte_ns: Some(13),
        ..query(3)
    };
    let database =
        Span { checkout_ns: Some(9), affected_rows: Some(2), sqlstate: Some("23000".into()), ..query(1) };
    let mut one = transaction("GET /users/{id}", now_ns(), 5_000_000);
    one.spans = vec![http.clone(), database.clone()];
    offer(&writer, "shop", Line::Transaction(Box::new(one)));
    writer.finish().unwrap();
    let report = all(&settings.file).unwrap();
    let [kept] = &of(&report, "shop").slowest[..] else { panic!("{report:#?}") };
    assert_eq!(kept.spans, [Span { path: None, ..http }, database]);
}

#[test]
fn windows_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let writer = Writer::start(&settings).unwrap();
    let now = now_ns() / MINUTE_NS * MINUTE_NS;
    let before = now - 2 * MINUTE_NS;
    let say = |one| offer(&writer, "shop", Line::Transaction(Box::new(one)));
    for _ in 0..10 {
        say(transaction("GET /same", before + 1, 1_000_000));
        say(transaction("GET /slow", before + 1, 1_000_000));
        say(transaction("GET /gone", before + 1, 1_000_000));
    }
    for _ in 0..10 {
        say(transaction("GET /same", now + 1, 1_000_000));
        say(Transaction { spans: vec![query(1)], ..transaction("GET /slow", now + 1, 5_000_000) });
        say(failed(now + 1));
    }
    writer.finish().unwrap();
    let query = Query {
        since_ns: now,
        until_ns: now + MINUTE_NS,
        application: Some("shop".into()),
        compare: Some((before, before + MINUTE_NS)),
        transactions: 1,
    };
    let report = History::open(&settings.file).unwrap().report(&query).unwrap();
    let comparison = of(&report, "shop").comparison.clone().unwrap();
    let names = |changes: &[pyapm_model::report::Change]| -> Vec<String> {
        changes.iter().map(|change| change.name.clone()).collect()
    };
    assert_eq!(names(&comparison.routes.slower), ["GET /slow"]);
    assert!(comparison.routes.faster.is_empty());
    assert_eq!(names(&comparison.routes.new), ["POST /pay"]);
    assert_eq!(names(&comparison.routes.gone), ["GET /gone"]);
    assert_eq!(names(&comparison.statements.new), ["SELECT * FROM users WHERE id = ?"]);
    let [error] = &comparison.new_errors[..] else { panic!("{:?}", comparison.new_errors) };
    assert_eq!((error.kind.as_str(), error.count), ("KeyError", 10));
    let slow = &comparison.routes.slower[0];
    assert_eq!((slow.before.unwrap().max_ns, slow.now.unwrap().max_ns), (1_000_000, 5_000_000));
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    assert!(matches!(all(&path), Err(HistoryError::Missing { .. })));
    let settings = config::History { file: path.clone(), ..config::History::default() };
    // Somebody else's files are left as they are.
    std::fs::write(&path, "a letter to my aunt, which is no database at all, ".repeat(100)).unwrap();
    assert!(matches!(all(&path), Err(HistoryError::Foreign { .. })));
    assert!(matches!(Writer::<Said>::start(&settings), Err(HistoryError::Foreign { .. })));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE aunts (name TEXT)").unwrap();
    assert!(matches!(all(&path), Err(HistoryError::Foreign { .. })));
    assert!(matches!(Writer::<Said>::start(&settings), Err(HistoryError::Foreign { .. })));
    std::fs::remove_file(&path).unwrap();

    Writer::<Said>::start(&settings).unwrap().finish().unwrap();
    assert!(matches!(all(&path), Err(HistoryError::Empty)));
    let writer = Writer::start(&settings).unwrap();
    let now = now_ns();
    offer(&writer, "shop", Line::Transaction(Box::new(transaction("GET /", now, 5))));
    writer.finish().unwrap();
    let hour = 60 * MINUTE_NS;
    assert!(matches!(ask(&path, now - 2 * hour, now - hour), Err(HistoryError::Window { .. })));
    let query = Query {
        since_ns: now - hour,
        until_ns: now + hour,
        application: Some("blog".into()),
        compare: None,
        transactions: 1,
    };
    let error = History::open(&path).unwrap().report(&query).unwrap_err();
    assert_eq!(error.to_string(), "the history knows no application `blog`; it knows `shop`");

    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let told = all(&path).unwrap_err();
    assert!(told.to_string().contains("has form 99, this pyapm knows forms up to 1"), "{told}");
    assert!(matches!(Writer::<Said>::start(&settings), Err(HistoryError::Newer { found: 99, .. })));
}

#[test]
fn nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let writer = Writer::start(&settings).unwrap();
    // Somebody has the file to himself: the writer waits for him, nobody waits for the writer.
    let other = Connection::open(&settings.file).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (mut refused, begin) = (0, Instant::now());
    while refused < 100 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        let info = ApplicationInfo { name: "shop".into(), ..ApplicationInfo::default() };
        let line = Line::Transaction(Box::new(transaction("GET /", now_ns(), 5)));
        refused += u64::from(writer.offer(Said(info, line)) == Err(Refused::Full));
    }
    writer.say_lost(refused);
    other.execute_batch("COMMIT").unwrap();
    writer.finish().unwrap();
    let report = all(&settings.file).unwrap();
    assert_eq!(report.window.lost_lines, refused);
    assert!(of(&report, "shop").totals.count >= 8_192);
}
