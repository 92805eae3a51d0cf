//! Whose is a call, when one thread serves 200 connections: what the application says in its payload against what pyapm
//! says. Wrong is never; what could not be placed is counted, and seldom.

use harness::interpreter::Interpreter;
use harness::load::{Plan, Request, drive};
use harness::loops::{Loops, Runner};
use harness::pyapm::{Pyapm, Report};
use harness::servers::Server;
use pyapm_model::line::{Line, Span, SpanKind, Transaction};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Calls of one request.
const CALLS: u64 = 3;
const CONNECTIONS: usize = 200;
const REQUESTS: u64 = 1800;

/// One after the other in turn; `after` is for servers with a task for each request.
const PATTERNS: [&str; 8] =
    ["plain", "gather", "group", "wait_for", "spawned", "to_thread", "blocking", "executor"];
/// How many of them ask from coroutines.
const ON_THE_LOOP: usize = 5;

/// What is expected of one server.
struct Case {
    runner: Runner,
    config: Value,
    /// Each request has a task of its own, which may go on after the answer.
    task_each: bool,
    /// What `run_in_executor` hands to a pool can be followed in this version.
    pools: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Placed {
    requests: u64,
    right: u64,
    wrong: u64,
    /// Calls of its own that it did not wait for.
    cancelled: u64,
}

impl Placed {
    fn share(&self) -> f64 {
        100.0 * self.right as f64 / (self.requests * CALLS) as f64
    }
}

/// `/PATTERN/NUMBER`
fn asked(path: &str) -> Option<(&str, u64)> {
    let (pattern, number) = path.strip_prefix('/')?.split_once('/')?;
    Some((pattern, number.parse().ok()?))
}

/// Whose call it says that it is: the number in `/echo/NUMBER/...`, in `SELECT ? AS request_NUMBER`, and, in letters, in
/// `GET request:LETTERS`.
fn called_for(span: &Span) -> Option<u64> {
    match span.kind {
        SpanKind::Db => span.db_query.as_deref()?.split_once(" AS request_")?.1.parse().ok(),
        SpanKind::Cache => {
            let digit =
                |letter: char| letter.is_ascii_lowercase().then(|| char::from(letter as u8 - b'g' + b'0'));
            let letters = span.db_query.as_deref()?.strip_prefix("GET request:")?;
            letters.chars().map(digit).collect::<Option<String>>()?.parse().ok()
        }
        _ => span.path.as_deref()?.strip_prefix("/echo/")?.split('/').next()?.parse().ok(),
    }
}

/// What drivers ask for themselves, when a pool takes a connection back or makes one: it says nothing of whose it is.
const OF_DRIVERS: [&str; 3] = ["pg_advisory_unlock_all", "HELLO", "CLIENT "];

/// The number in `/never/NUMBER`, of a call that was cancelled.
fn cancelled_for(span: &Span) -> Option<u64> {
    span.path.as_deref()?.strip_prefix("/never/")?.parse().ok()
}

/// What a call is known by among those of one request.
fn name(span: &Span) -> &str {
    span.path.as_deref().or(span.db_query.as_deref()).unwrap_or_default()
}

fn transaction(line: &Line) -> Option<&Transaction> {
    match line {
        Line::Transaction(transaction) => Some(transaction),
        _ => None,
    }
}

/// Asks for what a pool works off until that can be followed: its objects are known once there have been some.
fn warm_up(server: &Loops, attach: &mut Pyapm, case: &Case) {
    let requests = vec![Request::get("/executor/0")];
    for _ in 0..20 {
        drive(&server.address, &Plan { requests: requests.clone(), total: 8, clients: 2 })
            .without_failures()
            .unwrap();
        let before = attach.with_lines(<[Line]>::len);
        attach.wait_for("the warm-up", |lines| lines.len() > before.max(1)).unwrap();
        let whole = |line: &Line| {
            transaction(line).is_some_and(|transaction| transaction.spans.len() as u64 == CALLS)
        };
        if !case.pools || attach.with_lines(|lines| lines.iter().any(whole)) {
            return;
        }
    }
    panic!("nothing that was handed to a pool is ever followed");
}

fn placed(report: &Report) -> BTreeMap<String, Placed> {
    let mut placed: BTreeMap<String, Placed> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    for transaction in &report.transactions {
        let path = transaction.path.as_deref().unwrap();
        let (pattern, number) = asked(path).unwrap_or_else(|| panic!("{path}"));
        if number == 0 {
            continue;
        }
        assert!(numbers.insert(number), "{path} twice");
        assert_eq!(transaction.status, Some(200), "{path}");
        let placed = placed.entry(pattern.to_owned()).or_default();
        placed.requests += 1;
        let mut seen = BTreeSet::new();
        for span in &transaction.spans {
            assert_eq!(span.parent_span_id, transaction.span_id);
            if span.db_query.as_deref().is_some_and(|text| OF_DRIVERS.iter().any(|own| text.contains(own))) {
                continue;
            }
            assert!(seen.insert(name(span)), "{span:?} twice");
            if called_for(span) == Some(number) {
                placed.right += 1;
            } else if cancelled_for(span) == Some(number) {
                assert!(!span.reply_seen, "{span:?}");
                placed.cancelled += 1;
            } else {
                eprintln!("WRONG: {} in /{pattern}/{number}", name(span));
                placed.wrong += 1;
            }
        }
    }
    placed
}

fn holds(case: &Case) {
    let server = Loops::start(&case.runner, case.config.clone()).unwrap();
    let mut attach = Pyapm::attach(server.pid(), &[]).unwrap();
    warm_up(&server, &mut attach, case);
    let mut patterns = PATTERNS.to_vec();
    if case.config.get("postgresql").is_some() {
        patterns.truncate(ON_THE_LOOP);
    }
    if case.task_each {
        patterns.push("after");
    }
    // A step that shares no divisor with the number of connections: each meets each pattern.
    let requests: Vec<Request> = (1..=REQUESTS)
        .map(|number| {
            let pattern = patterns[number as usize % patterns.len()];
            Request::get(&format!("/{pattern}/{number}"))
        })
        .collect();
    let plan = Plan { requests, total: REQUESTS, clients: CONNECTIONS };
    drive(&server.address, &plan).without_failures().unwrap();
    let report = attach.stop().unwrap();
    let placed = placed(&report);
    eprintln!("{} under {}:", case.config, case.runner);
    for (pattern, placed) in &placed {
        eprintln!(
            "  {pattern:10} {:6.2} % right, {} wrong of {}",
            placed.share(),
            placed.wrong,
            placed.requests * CALLS
        );
    }
    eprintln!("  not placed: {:?}", report.summary.incomplete);
    assert_eq!(placed.values().map(|placed| placed.requests).sum::<u64>(), REQUESTS);
    assert_eq!(report.summary.dropped.values().sum::<u64>(), 0);
    let late = report.summary.incomplete.get("span_late").copied().unwrap_or(0);
    for (pattern, placed) in &placed {
        assert_eq!(placed.wrong, 0, "{pattern}");
        if pattern == "wait_for" {
            assert!(placed.cancelled as f64 >= 0.998 * placed.requests as f64, "{placed:?}");
        }
        let (least, late) = match pattern.as_str() {
            "executor" if case.pools => (99.0, 0),
            "executor" => (0.0, 0),
            // What they do after the answer comes too late on a machine that has no time for it: told as such.
            "spawned" | "after" => (99.8, late),
            _ => (99.8, 0),
        };
        let placed = Placed { right: placed.right + late, ..*placed };
        assert!(placed.share() >= least, "{pattern}: {placed:?}\n{}", server.log());
    }
    // Each call is in a transaction, or counted as in none.
    let right: u64 = placed.values().map(|placed| placed.right).sum();
    let unplaced = report.summary.incomplete.get("span_unplaced").copied().unwrap_or(0);
    assert!(right + unplaced >= REQUESTS * CALLS, "{right} + {unplaced}");
}

fn environment(name: &str, config: Value, task_each: bool) -> Case {
    Case { runner: Runner::environment(name).unwrap(), config, task_each, pools: true }
}

#[test]
fn uvicorn_on_asyncio() {
    for (name, http) in [("loops-3.11", "h11"), ("loops-3.13", "httptools")] {
        holds(&environment(name, json!({"server": "uvicorn", "http": http}), true));
    }
}

#[test]
fn uvicorn_on_uvloop_with_a_variable_of_its_own() {
    for (name, http) in [("loops-3.11", "httptools"), ("loops-3.13", "h11")] {
        let config = json!({"server": "uvicorn", "loop": "uvloop", "http": http, "variable": true});
        holds(&environment(name, config, true));
    }
}

/// It writes nothing before the end of its turn, when no coroutine runs any more.
#[test]
fn uvicorn_on_a_uvloop_that_puts_writes_off() {
    let config = json!({"server": "uvicorn", "loop": "uvloop", "http": "httptools"});
    holds(&environment("loops-old-3.11", config, true));
}

#[test]
fn uvicorn_with_a_middleware_that_runs_handlers_in_tasks() {
    holds(&environment("loops-3.13", json!({"server": "uvicorn", "middleware": true}), true));
}

#[test]
fn aiohttp() {
    for name in ["loops-3.11", "loops-3.13"] {
        holds(&environment(name, json!({"server": "aiohttp"}), false));
    }
    holds(&environment("loops-3.13", json!({"server": "aiohttp", "loop": "uvloop"}), false));
}

#[test]
fn hypercorn() {
    holds(&environment("loops-3.13", json!({"server": "hypercorn"}), true));
}

/// gunicorn with workers that are uvicorn's (`uvicorn_worker` has the same in a package of its own).
#[test]
fn uvicorn_below_gunicorn() {
    let config = json!({"server": "gunicorn", "worker": "uvicorn.workers.UvicornWorker"});
    holds(&environment("loops-3.13", config, true));
}

#[test]
fn streams_and_eager_tasks() {
    holds(&environment("loops-3.11", json!({"server": "streams"}), false));
    holds(&environment("loops-3.13", json!({"server": "streams"}), false));
    holds(&environment("loops-3.13", json!({"server": "streams", "eager": true}), false));
}

/// Statements, commands of Redis and HTTP calls in turn, each by a driver whose pool has an eighth of the connections.
#[test]
fn databases_caches_and_calls_over_shared_pools() {
    let (postgresql, redis) = (Server::postgresql().unwrap(), Server::redis().unwrap());
    let config = json!({"server": "uvicorn", "postgresql": postgresql.port, "redis": redis.port});
    holds(&environment("venv-3.11", config, true));
}

/// Debian's, with the interpreter in the executable, which is stripped, and in a library.
#[test]
fn every_build_of_the_distribution() {
    let builds = Interpreter::all().unwrap();
    for interpreter in builds.into_iter().filter(|build| build.root().is_some()) {
        let pools = matches!(interpreter.minor, 11 | 13..);
        let runner = Runner::Build(interpreter);
        holds(&Case { runner, config: json!({"server": "uvicorn"}), task_each: true, pools });
    }
}

/// What a greenlet does for its request: with its own hands, by others that it waits for, and by one that goes on while the
/// next requests of the connection come.
const PLACED: [&str; 5] = ["own", "joined", "pooled", "nested", "left"];
/// By threads, which gevent makes greenlets of or (`native`) does not: nothing tells whose work they do.
const NOT_PLACED: [&str; 3] = ["thread", "shared", "native"];

const EACH: u64 = 40;

/// `expected`: how many calls of a request of each pattern are placed.
fn greenlets(runner: &Runner, config: &Value, expected: impl Fn(&str) -> u64) {
    let server = Loops::start(runner, config.clone()).unwrap();
    let attach = Pyapm::attach(server.pid(), &[]).unwrap();
    let patterns: Vec<&str> = PLACED.into_iter().chain(NOT_PLACED).collect();
    let total = EACH * patterns.len() as u64;
    // No divisor is shared with the number of connections: each meets each pattern.
    let requests = (1..=total)
        .map(|number| Request::get(&format!("/{}/{number}", patterns[number as usize % patterns.len()])));
    let plan = Plan { requests: requests.collect(), total, clients: 19 };
    drive(&server.address, &plan).without_failures().unwrap();
    let last = Plan { requests: vec![Request::get("/settled/0")], total: 1, clients: 1 };
    drive(&server.address, &last).without_failures().unwrap();
    let report = attach.stop().unwrap();
    let placed = placed(&report);
    eprintln!("{config} under {runner}: {placed:?}\n  {:?}", report.summary.incomplete);
    assert_eq!(report.summary.dropped.values().sum::<u64>(), 0);
    for (pattern, placed) in &placed {
        assert_eq!((placed.requests, placed.wrong), (EACH, 0), "{pattern}\n{}", server.log());
        let right = EACH * expected(pattern);
        assert_eq!(placed.right, right, "{pattern}\n{}", server.log());
    }
    assert_eq!(placed.len(), patterns.len());
    let unplaced = report.summary.incomplete.get("span_unplaced").copied().unwrap_or(0);
    let right: u64 = placed.values().map(|placed| placed.right).sum();
    assert_eq!(right + unplaced, total * CALLS);
}

fn told_apart(pattern: &str) -> u64 {
    if PLACED.contains(&pattern) { CALLS } else { 0 }
}

#[test]
fn gevent() {
    for minor in [9, 11, 13] {
        greenlets(&Runner::greenlets(minor).unwrap(), &json!({"server": "gevent"}), told_apart);
    }
}

/// A greenlet library that is not understood: from Python 3.11 on it is known which greenlet reads a connection, and no more.
#[test]
fn gevent_with_greenlets_that_are_hidden() {
    let runner = Runner::greenlets(13).unwrap();
    greenlets(&runner, &json!({"server": "gevent", "hidden": true}), |pattern| match pattern {
        "own" => CALLS,
        "left" => 1,
        _ => 0,
    });
}

/// Some libraries import gevent wherever it is installed: that makes no greenlets.
#[test]
fn uvicorn_with_gevent_imported() {
    holds(&environment("loops-3.13", json!({"server": "uvicorn", "imports": "gevent"}), true));
}

/// gunicorn's workers come to gevent after they were forked.
#[test]
fn gevent_below_gunicorn() {
    let runner = Runner::environment("loops-3.13").unwrap();
    greenlets(&runner, &json!({"server": "gunicorn", "worker": "gevent"}), told_apart);
}
