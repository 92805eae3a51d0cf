//! What is lost is counted, and the sum adds up, under an overload that really overflows.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Plan, Request, Stream};
use harness::place::Python;
use harness::pyapm::Pyapm;
use harness::wait;
use nix::sys::signal::Signal;
use pyapm_model::line::Outcome;
use std::collections::BTreeMap;

/// The smallest ring there is, and a reader that stands still for 3,000 requests: some 60,000 records.
#[test]
fn an_overflow_is_counted_and_nothing_is_invented() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &["--ring-bytes", "65536"]).unwrap();
    let requests = vec![Request::get("/"), Request::get("/nplus1"), Request::get("/status/204")];
    let load = Stream::start(&shop.address, &Plan { requests, total: 0, clients: 4 }, None);
    let reach = |count: u64| {
        wait::until("the load to go on", || Ok((load.sent() >= count).then_some(()))).unwrap();
    };
    reach(200);
    attach.signal(Signal::SIGSTOP).unwrap();
    reach(3_200);
    attach.signal(Signal::SIGCONT).unwrap();
    reach(3_600);
    let counts = load.stop().without_failures().unwrap();
    let report = attach.stop().unwrap();

    let summary = &report.summary;
    let dropped: u64 = summary.dropped.values().sum();
    assert!(summary.dropped.get("ring_full").is_some_and(|count| *count > 0), "{summary:?}");
    assert_eq!(summary.seen, summary.delivered + dropped, "{summary:?}");
    assert_eq!(summary.transactions, report.transactions.len() as u64);

    let mut complete: BTreeMap<(String, u16), u64> = BTreeMap::new();
    for transaction in report.transactions.iter().filter(|found| found.outcome == Outcome::Complete) {
        let key = (transaction.path.clone().unwrap(), transaction.status.unwrap());
        *complete.entry(key).or_default() += 1;
    }
    let answered = counts.by_path_and_status();
    for (key, count) in &complete {
        let most = answered.get(key).copied().unwrap_or_default();
        assert!(*count <= most, "{count} complete transactions of {key:?}, but {most} answers");
    }
    assert!(complete.values().sum::<u64>() >= 200, "nothing was reported: {summary:?}");
}

#[test]
fn without_an_overload_nothing_is_lost() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let plan = Plan { requests: vec![Request::get("/nplus1")], total: 1_000, clients: 4 };
    harness::load::drive(&shop.address, &plan).without_failures().unwrap();
    let report = attach.stop().unwrap();
    assert_eq!(report.summary.dropped.values().sum::<u64>(), 0, "{:?}", report.summary);
    assert_eq!(report.summary.seen, report.summary.delivered, "{:?}", report.summary);
    assert!(report.summary.seen > 0);
    assert_eq!(report.transactions.len(), 1_000);
}
