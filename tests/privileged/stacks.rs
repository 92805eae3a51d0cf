//! Samples fall into the transaction they were taken in, on the lines where the time went, on every build of Python.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Connection, Request};
use harness::place::Python;
use harness::pyapm::Pyapm;
use pyapm_model::line::SampleState;
use std::collections::BTreeMap;

const REQUESTS: u64 = 10;
const MILLISECONDS: u64 = 500;
/// The default rate, and what it gives for all requests together.
const EXPECTED: f64 = 99.0 * (REQUESTS * MILLISECONDS) as f64 / 1000.0;
/// Points of 100. With some 500 samples the share of 60 has a standard deviation of 2.2 points.
const TOLERANCE: f64 = 8.0;

#[test]
fn samples_show_where_a_transactions_time_went() {
    for python in Python::all().unwrap() {
        let name = python.name.clone();
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        let target = format!("/cpu/{MILLISECONDS}");
        for _ in 0..REQUESTS {
            let answer =
                Connection::open(&shop.address).unwrap().ask(&Request::get(&target).close()).unwrap();
            assert_eq!(answer.status, 200);
        }
        let report = attach.stop().unwrap();
        assert_eq!(report.transactions.len() as u64, REQUESTS, "{name}");
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut all = 0;
        for transaction in &report.transactions {
            assert_eq!(transaction.path.as_deref(), Some(target.as_str()));
            let own: u64 = transaction.samples.iter().map(|samples| samples.count).sum();
            assert!(own > 0, "{name}: a transaction of {MILLISECONDS} ms on the CPU without a sample");
            all += own;
            for samples in &transaction.samples {
                assert_eq!(samples.state, SampleState::Cpu);
                let view = samples.stack.iter().position(|frame| frame.function == "cpu");
                let Some(view) = view else { continue };
                // The view itself, and the making of its answer, take a sample now and then.
                let inner = view.checked_sub(1).map(|inner| &samples.stack[inner]);
                let Some(inner) = inner.filter(|frame| frame.file.ends_with("catalogue/work.py")) else {
                    continue;
                };
                assert!(inner.line.is_some(), "{name}: {inner:?}");
                assert_eq!(
                    samples.stack.last().unwrap().function,
                    "<module>",
                    "{name}: {:#?}",
                    samples.stack
                );
                *counts.entry(inner.function.as_str()).or_default() += samples.count;
            }
        }
        let total: u64 = counts.values().sum();
        eprintln!("{name}: {all} samples, {total} in the view, {EXPECTED} expected: {counts:?}");
        assert!(total as f64 >= 0.95 * all as f64, "{name}: {total} of {all} samples are in the view");
        let ratio = all as f64 / EXPECTED;
        assert!((0.6..1.3).contains(&ratio), "{name}: {all} samples where {EXPECTED} were due");
        for (function, share) in [("spend_sixty", 60.0), ("spend_thirty", 30.0), ("spend_ten", 10.0)] {
            let found = 100.0 * counts.get(function).copied().unwrap_or_default() as f64 / total as f64;
            assert!((found - share).abs() <= TOLERANCE, "{name}: {function} has {found:.1} %, not {share} %");
        }
    }
}

#[test]
fn a_transaction_that_waits_has_no_samples_to_speak_of() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    Connection::open(&shop.address).unwrap().ask(&Request::get("/sleep/1000").close()).unwrap();
    let report = attach.stop().unwrap();
    let samples: u64 = report.transactions[0].samples.iter().map(|samples| samples.count).sum();
    // A second on the CPU would be 99.
    assert!(samples <= 5, "{samples} samples in a request that slept");
}
