//! Exceptions of web applications: the one that made a transaction fail, with the traceback that Python itself prints.

use harness::framework::{Framework, Served};
use harness::place::Python;
use harness::pyapm::{Pyapm, Report};
use harness::traceback::{self, Printed};
use pyapm_model::error::Error;
use pyapm_model::line::Transaction;
use serde::Deserialize;
use std::time::Duration;

/// How often each path is asked for.
const TIMES: usize = 5;
/// The kernel half sends so many exceptions in 134 ms at most (`BOUND` of `ebpf/src/exceptions.rs`), those that libraries catch
/// included: a request of FastAPI has eleven, so all requests in one such while would have more.
const WHILE: Duration = Duration::from_millis(135);

#[derive(Deserialize)]
struct PutDown {
    traceback: String,
}

fn observe(framework: Framework) -> (Report, Vec<Vec<Printed>>) {
    let python = Python::named("venv-3.11").unwrap();
    let served = Served::start(framework, &python).unwrap();
    let mut pyapm = Pyapm::attach(served.pid(), &[]).unwrap();
    let paths = [("/deep", 500), ("/refused", 500), ("/handled", 200), ("/excused", 500), ("/users/7", 200)];
    for _ in 0..TIMES {
        for (path, status) in paths {
            assert_eq!(served.get(path).unwrap(), status, "{path}");
        }
        std::thread::sleep(WHILE);
    }
    pyapm.wait_for_transactions(TIMES * paths.len()).unwrap();
    let report = pyapm.stop().unwrap();
    let text = std::fs::read_to_string(served.folder().join("tracebacks")).unwrap();
    let printed = text.lines().map(|line| {
        let put_down: PutDown = serde_json::from_str(line).unwrap();
        traceback::parse(&put_down.traceback)
    });
    (report, printed.collect())
}

fn of<'a>(report: &'a Report, path: &str) -> Vec<&'a Transaction> {
    let found: Vec<_> =
        report.transactions.iter().filter(|transaction| transaction.path.as_deref() == Some(path)).collect();
    assert_eq!(found.len(), TIMES, "{path}");
    found
}

fn error_of<'a>(report: &Report, transaction: &'a Transaction) -> &'a Error {
    let nothing = || panic!("no error of {transaction:#?}\n{:#?}\n{:#?}", report.errors, report.summary);
    transaction.error.as_ref().unwrap_or_else(nothing)
}

fn check(framework: Framework) {
    let (report, printed) = observe(framework);
    assert_eq!(printed.len(), 2 * TIMES);
    // One group of each failure, with what Python printed.
    for (kind, line) in [("ZeroDivisionError", "deep(4)"), ("Refused", "refuse()")] {
        let groups: Vec<_> =
            report.errors.iter().filter(|group| group.kind == kind && group.unhandled > 0).collect();
        let [group] = groups.as_slice() else { panic!("{framework:?} {kind}: {groups:#?}") };
        assert_eq!(
            (group.count, group.unhandled, group.suppressed),
            (TIMES as u64, TIMES as u64, 0),
            "{line}"
        );
        let told = traceback::of(&group.latest);
        assert!(printed.contains(&told), "{framework:?} {kind}\n{told:#?}\n{printed:#?}");
        assert!(group.first_seen_ns < group.last_seen_ns);
    }
    // A transaction that failed shows what made it fail.
    for transaction in of(&report, "/deep") {
        let error = error_of(&report, transaction);
        assert_eq!((error.kind.as_str(), error.handled), ("ZeroDivisionError", Some(false)));
        assert_eq!(error.message.as_deref(), Some("division by zero"));
        assert_eq!(error.stack[0].function, "divide");
        assert_eq!(error.tid, transaction.tid);
    }
    for transaction in of(&report, "/refused") {
        let error = error_of(&report, transaction);
        assert_eq!((error.kind.as_str(), error.module.as_deref()), ("Refused", Some("said")));
        assert_eq!((error.chain.len(), error.chain[0].kind.as_str()), (1, "KeyError"));
    }
    // One that the application answered itself shows what it had caught.
    for transaction in of(&report, "/excused") {
        let error = error_of(&report, transaction);
        assert_eq!((error.kind.as_str(), error.handled), ("AttributeError", Some(true)));
        assert_eq!(error.stack.last().unwrap().function, "excused");
    }
    for path in ["/handled", "/users/7"] {
        assert!(of(&report, path).iter().all(|transaction| transaction.error.is_none()), "{path}");
    }
}

#[test]
fn django_under_gunicorn() {
    check(Framework::Django);
}

#[test]
fn flask_under_gunicorn() {
    check(Framework::Flask);
}

#[test]
fn fastapi_under_uvicorn() {
    check(Framework::FastApi);
}
