//! One application, all its workers: found from any pid, followed through every replacement.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Connection, Plan, Request};
use harness::place::Python;
use harness::pyapm::{self, Pyapm};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyapm_model::line::{Line, Outcome, WorkerEvent};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn any_pid_leads_to_the_whole_application() {
    for python in Python::all().unwrap() {
        let version = if python.name.contains("3.13") { "3.13." } else { "3.11." };
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        let workers = shop.workers().unwrap();
        let mut whole = workers.clone();
        whole.insert(shop.master());
        for pid in [shop.master(), *workers.last().unwrap()] {
            let report = Pyapm::attach(pid, &[]).unwrap().stop().unwrap();
            assert_eq!(report.attached.application, "shop");
            assert_eq!(report.attached.pids.iter().copied().collect::<BTreeSet<_>>(), whole);
            assert!(report.attached.python.as_deref().is_some_and(|found| found.starts_with(version)));
            assert_eq!(report.status.code(), Some(0), "{}", report.stderr);
        }
    }
}

#[test]
fn ps_lists_the_application_with_its_workers() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let output = pyapm::run(&["ps"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("shop") && text.contains("gunicorn"), "{text}");
    for pid in shop.workers().unwrap().into_iter().chain([shop.master()]) {
        assert!(text.contains(&pid.to_string()), "{pid} is missing in:\n{text}");
    }
}

/// Replaced three ways at once: each worker ends after some 25 requests, the master reloads them all by HUP, and
/// their number goes up and down by TTIN and TTOU.
#[test]
fn a_thousand_requests_while_workers_are_replaced_are_a_thousand_transactions() {
    let mut options = Options::new(Python::first().unwrap());
    options.arguments = ["--max-requests=25", "--max-requests-jitter=10"].map(str::to_owned).to_vec();
    let shop = Gunicorn::start(&options).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let before = shop.workers().unwrap();
    let requests = vec![Request::get("/"), Request::get("/sleep/5"), Request::get("/products/3")];
    let counts = shop.drive_while_replacing(&Plan { requests, total: 1000, clients: 4 }).unwrap();
    let report = attach.stop().unwrap();

    let mut answered: BTreeMap<u32, u64> = BTreeMap::new();
    for answer in &counts.answers {
        *answered.entry(answer.worker.unwrap()).or_default() += 1;
    }
    let mut reported: BTreeMap<u32, u64> = BTreeMap::new();
    for transaction in &report.transactions {
        assert_eq!(transaction.outcome, Outcome::Complete, "{transaction:?}");
        *reported.entry(transaction.pid).or_default() += 1;
    }
    assert_eq!(counts.answers.len(), 1000);
    assert!(answered.len() > 12, "only {} workers served: too few were replaced", answered.len());
    assert_eq!(reported, answered, "transactions by worker differ from answers by worker");
    assert_eq!(report.summary.transactions, 1000);

    let pids = |event| -> BTreeSet<u32> {
        report.workers.iter().filter(|line| line.event == event).map(|line| line.pid).collect()
    };
    let (started, exited) = (pids(WorkerEvent::Started), pids(WorkerEvent::Exited));
    let new: BTreeSet<u32> = answered.keys().copied().filter(|pid| !before.contains(pid)).collect();
    assert!(new.is_subset(&started), "served without a line `started`: {:?}", new.difference(&started));
    let gone: BTreeSet<u32> = before.difference(&shop.workers().unwrap()).copied().collect();
    assert!(gone.is_subset(&exited), "gone without a line `exited`: {:?}", gone.difference(&exited));
}

#[test]
fn the_replacement_of_a_killed_worker_is_traced_from_its_first_request() {
    let mut options = Options::new(Python::first().unwrap());
    options.workers = 1;
    let shop = Gunicorn::start(&options).unwrap();
    let mut attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let old = *shop.workers().unwrap().first().unwrap();
    let ask = || Connection::open(&shop.address).unwrap().ask(&Request::get("/").close()).unwrap();
    assert_eq!(ask().worker().unwrap(), old);
    kill(Pid::from_raw(i32::try_from(old).unwrap()), Signal::SIGKILL).unwrap();
    attach
        .wait_for("the killed worker's line", |lines| {
            lines.iter().any(|line| {
                matches!(line, Line::Worker(worker) if worker.pid == old && worker.event == WorkerEvent::Exited)
            })
        })
        .unwrap();
    // The listening socket is the master's: this request waits in its queue until the new worker accepts.
    let new = ask().worker().unwrap();
    assert_ne!(new, old);
    let report = attach.stop().unwrap();
    let pids: Vec<u32> = report.transactions.iter().map(|transaction| transaction.pid).collect();
    assert_eq!(pids, [old, new], "a transaction is missing");
    let db_spans: Vec<usize> =
        report.transactions.iter().map(|transaction| transaction.spans.len()).collect();
    assert_eq!(db_spans[0], 1);
    assert!(db_spans[1] >= 1, "the new worker's first statement is missing");
}
