//! Exceptions of every version of CPython, told from outside, against what Python itself prints of them.

use harness::interpreter::{Interpreter, Script};
use harness::pyapm::Pyapm;
use harness::traceback::{self, Printed};
use harness::wait;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Truth {
    told: BTreeMap<String, String>,
}

/// Bytes of a message that are kept (`pyapm_wire::exception::MAX_TEXT`).
const MOST: usize = 256;

#[test]
fn tracebacks_are_what_python_prints() {
    let mut interpreters = Interpreter::all().unwrap();
    // Exceptions are not seen in builds without the GIL: `free_threaded.rs` has what is said of them.
    interpreters.retain(|interpreter| !interpreter.free_threaded);
    // A few at a time: each has a pyapm of its own.
    for group in interpreters.chunks(4) {
        std::thread::scope(|scope| {
            for interpreter in group {
                scope.spawn(move || check(interpreter));
            }
        });
    }
}

fn check(interpreter: &Interpreter) {
    let script = Script::start(interpreter, "raising.py").unwrap();
    let pyapm = Pyapm::attach(script.pid(), &[]).unwrap();
    std::fs::write(script.folder().join("go"), "").unwrap();
    wait::until("everything to be raised", || {
        Ok(script.log().lines().any(|line| line == "done").then_some(()))
    })
    .unwrap();
    let report = pyapm.stop().unwrap();
    let truth: Truth =
        serde_json::from_slice(&std::fs::read(script.folder().join("truth.json")).unwrap()).unwrap();
    let told: Vec<Vec<Printed>> = report.errors.iter().map(|group| traceback::of(&group.latest)).collect();

    for (name, text) in &truth.told {
        let mut expected = traceback::parse(text);
        let last = expected.last_mut().unwrap();
        match name.as_str() {
            // Two things differ from what Python prints, and are documented: long messages are cut, and a class's own
            // `__str__` is not run.
            "long" => last.last = format!("raising.Outer.Failure: {}…", "x".repeat(MOST)),
            "printed" => last.last = "raising.Printed: x".to_owned(),
            _ => {}
        }
        let mine = format!("/srv/raising/{name}.py");
        let close: Vec<_> = told
            .iter()
            .filter(|chain| chain.iter().any(|one| one.frames.iter().any(|(file, ..)| *file == mine)))
            .collect();
        assert!(told.contains(&expected), "{interpreter}: `{name}`\n{text}\n{close:#?}");
    }
    // Nothing else of the program's own, but what was caught on the way to these.
    let quiet = report.errors.iter().filter(|group| {
        group.latest.stack.iter().any(|frame| matches!(frame.function.as_str(), "quiet" | "Endless.__next__"))
    });
    assert_eq!(quiet.count(), 0, "{interpreter}");
    let handled = |name: &str| {
        let file = format!("/srv/raising/{name}.py");
        report.errors.iter().find(|group| group.frame.as_ref().is_some_and(|frame| frame.file == file))
    };
    assert_eq!(handled("deep").unwrap().latest.handled, Some(true), "{interpreter}");
    assert_eq!(report.summary.dropped.values().sum::<u64>(), 0, "{:?}", report.summary);
    assert!(!report.summary.incomplete.contains_key("exceptions_suppressed"), "{:?}", report.summary);
}

fn flood(minor: u8, pace: &str) -> harness::pyapm::Report {
    let found = Interpreter::all().unwrap();
    let interpreter =
        found.iter().find(|one| one.minor == minor && !one.shared && !one.free_threaded).unwrap();
    let mut script = Script::start(interpreter, "flood.py").unwrap();
    let pyapm = Pyapm::attach(script.pid(), &[]).unwrap();
    std::fs::write(script.folder().join("go"), format!("{pace}\n")).unwrap();
    wait::until("everything to be raised", || {
        Ok(script.log().lines().any(|line| line == "done").then_some(()))
    })
    .unwrap();
    let report = pyapm.stop().unwrap();
    assert!(script.ended().unwrap().is_none(), "{}", script.log());
    report
}

/// At a pace that the probe is not taken away for, each is either told or counted as one that was not.
#[test]
fn none_is_lost_without_being_counted() {
    const NUMBER: u64 = 5_000;
    for minor in [9, 11, 13, 14, 15] {
        let report = flood(minor, &format!("{NUMBER} 250 0.1"));
        let group = report.errors.iter().find(|group| group.kind == "ValueError").unwrap();
        let suppressed = report.summary.incomplete["exceptions_suppressed"];
        assert!(group.suppressed > 0 && group.suppressed <= suppressed, "{group:?}");
        // What the interpreter imports meanwhile raises a few others, none of them twice.
        let told = group.count - group.suppressed;
        assert_eq!(told + suppressed, NUMBER, "3.{minor}: {:?} {:?}", report.summary, report.errors);
        let of_its_kind = report.errors.iter().filter(|group| group.kind == "ValueError").count();
        assert_eq!(of_its_kind, 1, "3.{minor}: {:?}", report.errors);
        assert!(!report.summary.incomplete.contains_key("exceptions_paused_ms"), "{:?}", report.summary);
        assert_eq!(group.latest.handled, Some(true));
    }
}

/// As fast as it can, and 100,000 a second: the probe goes away, the program goes on, and how long nobody looked is told. At
/// most a quarter is raised with the probe in the way: it may run 20,000 times a second, and as often at once.
#[test]
fn a_flood_is_left_alone() {
    for (minor, number, batch, pause) in [(11, 1_000_000, 1_000_000, "0"), (14, 500_000, 10_000, "0.1")] {
        let report = flood(minor, &format!("{number} {batch} {pause}"));
        assert!(report.summary.incomplete["exceptions_paused_ms"] > 0, "{:?}", report.summary);
        let told: u64 = report.errors.iter().map(|group| group.count - group.suppressed).sum();
        let seen = told + report.summary.incomplete["exceptions_suppressed"];
        assert!(told > 0 && seen < number / 4, "3.{minor}: {seen} of {number}");
        eprintln!("3.{minor}: {seen} of {number} seen, {told} told, {:?}", report.summary.incomplete);
    }
}
