//! The history: what `pyapm report` says of a past window is what happened, also while it is being written, and after
//! kills at any moment. And alerts, which are fed in the same way.

use super::exports_prometheus::only;
use harness::guard::Guard;
use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Connection, Plan, Request, Stream, drive};
use harness::place::{self, Python};
use harness::service::Service;
use harness::wait;
use nix::sys::signal::Signal;
use pyapm_model::report::{Application, Report};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn shop() -> Gunicorn {
    let mut options = Options::new(Python::first().unwrap());
    options.workers = 2;
    Gunicorn::start(&options).unwrap()
}

fn service(shop: &Gunicorn, history: &Path, more: &str) -> Service {
    let config = format!(
        "[prometheus]\nlisten = ''\n[history]\nfile = '{}'\n{more}{}",
        history.display(),
        only(shop, "shop")
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the shop", |all| all.iter().any(|one| one.name == "shop")).unwrap();
    service
}

fn report(history: &Path, arguments: &[&str]) -> Result<Report, String> {
    let file = history.to_str().unwrap();
    let mut all = vec!["report", "--history", file, "--format", "json"];
    all.extend(arguments);
    let output = harness::pyapm::run(&all).unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// The shop's part of the last hour; as if there were nothing before there is anything.
fn of_shop(history: &Path) -> Application {
    let report = report(history, &["--last", "1h"]).unwrap_or_default();
    report.applications.into_iter().find(|one| one.application == "shop").unwrap_or_default()
}

/// Waits until the history has so many transactions, while it is being written.
fn wait_for(history: &Path, count: u64) {
    wait::until(&format!("{count} transactions in the history"), || {
        Ok((of_shop(history).totals.count >= count).then_some(()))
    })
    .unwrap();
}

/// A statement without its values: what is left is told in the same words by the server and by pyapm.
fn bare(text: &str) -> String {
    let mut bare = String::new();
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (None, '\'') => quote = Some(letter),
            (Some(_), '\'') => quote = None,
            (None, letter) if letter.is_ascii_alphabetic() || letter == '_' => {
                bare.push(letter.to_ascii_lowercase());
            }
            _ => {}
        }
    }
    bare
}

#[test]
fn a_report_says_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.db");
    let shop = shop();
    let service = service(&shop, &history, "slowest_per_minute = 7\n");
    // What the shop asked its database for before it was watched is none of the report's business.
    wait::until("the first transaction", || {
        Connection::open(&shop.address)?.ask(&Request::get("/").close())?;
        Ok((of_shop(&history).totals.count > 0).then_some(()))
    })
    .unwrap();
    let before = service.state("shop").unwrap().snapshot.totals.all_transactions;
    wait_for(&history, before);
    let before = of_shop(&history);
    shop.database.begin_log().unwrap();
    let paths = ["/", "/products/2", "/error", "/nplus1", "/sqlerror", "/status/404"];
    let plan = Plan { requests: paths.map(Request::get).to_vec(), total: 240, clients: 2 };
    let counts = drive(&shop.address, &plan).without_failures().unwrap();
    let statements = shop.database.end_log().unwrap();
    let total = before.totals.count + 240;
    wait_for(&history, total);

    let truth = Truth { before, total, requests: counts.by_path_and_status(), statements };
    truth.check(&of_shop(&history));
    assert_eq!(service.health().unwrap().subscribers["history"].dropped, 0);
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    truth.check(&of_shop(&history));

    for (format, mark) in [("text", "GET /nplus1"), ("html", "</html>")] {
        let file = history.to_str().unwrap();
        let output = harness::pyapm::run(&["report", "--history", file, "--format", format]).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(mark), "{text}");
    }
    for (arguments, told) in [
        (&["--application", "blog"][..], "it knows `shop`"),
        (&["--since", "3d", "--until", "2d"], "nothing between these times"),
    ] {
        let error = report(&history, arguments).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let error = report(&folder.path().join("none"), &[]).unwrap_err();
    assert!(error.contains("there is no history") && error.contains("hint: "), "{error}");
}

/// What happened after `before`.
struct Truth {
    before: Application,
    total: u64,
    requests: BTreeMap<(String, u16), u64>,
    /// As the server has them.
    statements: Vec<String>,
}

impl Truth {
    fn check(&self, now: &Application) {
        assert_eq!((now.totals.count, now.totals.errors), (self.total, 80));
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for ((path, _), count) in &self.requests {
            let name = match path.as_str() {
                "/products/2" => "GET /products/{product_id}".to_owned(),
                "/status/404" => "GET /status/{code}".to_owned(),
                path => format!("GET {path}"),
            };
            *expected.entry(name).or_default() += count;
        }
        for route in &self.before.routes {
            *expected.entry(route.name.clone()).or_default() += route.figures.count;
        }
        let found: BTreeMap<String, u64> =
            now.routes.iter().map(|one| (one.name.clone(), one.figures.count)).collect();
        assert_eq!(found, expected);
        for route in &now.routes {
            let figures = &route.figures;
            let fails = ["GET /error", "GET /sqlerror"].contains(&route.name.as_str());
            assert_eq!(figures.errors, if fails { 40 } else { 0 }, "{}", route.name);
            assert!(figures.p50_ns <= figures.p95_ns && figures.p95_ns <= figures.max_ns, "{route:?}");
            assert!(figures.total_ns >= figures.max_ns && figures.mean_ns > 0, "{route:?}");
        }
        let mut asked: BTreeMap<String, u64> = BTreeMap::new();
        for statement in &self.statements {
            *asked.entry(bare(statement)).or_default() += 1;
        }
        for statement in &self.before.statements {
            *asked.entry(bare(&statement.text)).or_default() += statement.figures.count;
        }
        let mut told: BTreeMap<String, u64> = BTreeMap::new();
        for statement in &now.statements {
            *told.entry(bare(&statement.text)).or_default() += statement.figures.count;
        }
        assert_eq!(told, asked);
        let group = |kind: &str| {
            let group = now.errors.iter().find(|one| one.kind == kind);
            group.unwrap_or_else(|| panic!("no {kind} in {:#?}", now.errors))
        };
        let division = group("ZeroDivisionError");
        // Those beyond the rate limit of one place are errors of their routes, without an exception.
        assert!((1..=40).contains(&division.count), "{division:?}");
        assert_eq!(division.unhandled, division.count);
        assert_eq!(division.frame.as_ref().unwrap().function, "inner");
        assert_eq!(division.latest.message, None, "values are kept only on request");
        let refused = group("ProgrammingError");
        assert!((1..=40).contains(&refused.count), "{refused:?}");
        let nplus1 = now.warnings.iter().find(|one| one.route == "GET /nplus1" && one.most_calls == 20);
        assert_eq!(nplus1.unwrap_or_else(|| panic!("{:#?}", now.warnings)).transactions, 40);
        assert!(now.slowest.len() >= 7 && now.slowest[0].duration_ns == now.totals.max_ns);
        assert!(now.slowest.iter().all(|one| one.path.is_none() && one.client_address.is_none()));
        assert!(now.failed.iter().all(|one| one.status == Some(500)));
    }
}

#[test]
fn it_survives_kills_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.db");
    let shop = shop();
    let mut least = 0;
    for round in 0..3 {
        let service = service(&shop, &history, "");
        let plan = Plan { requests: vec![Request::get("/"), Request::get("/error")], total: 0, clients: 2 };
        let load = Stream::start(&shop.address, &plan, None);
        wait_for(&history, least + 20);
        // Between two commits as well as in one: wherever it is now.
        let written = of_shop(&history).totals.count;
        service.signal(Signal::SIGKILL).unwrap();
        drop(service);
        let counts = load.stop();
        let left = of_shop(&history).totals.count;
        assert!(left >= written, "round {round}: {left} are left of {written}");
        assert!(left - least <= counts.answers.len() as u64 + 2, "round {round}: more than there were");
        least = left;
    }
    let report = report(&history, &[]).unwrap();
    assert_eq!(report.window.lost_lines, 0);
    assert!(report.window.recorded_ns > 0);
}

const SUMMARY: &str = "failing: error_rate of `shop` is 1 (alert above 0.4)";

#[test]
fn alerts_reach_a_receiver_that_was_down_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let (history, posted) = (folder.path().join("history.db"), folder.path().join("posted"));
    let mut command = Command::new(Python::first().unwrap().program("python"));
    command.arg(place::workloads().join("webhook.py")).arg(&posted).arg("2");
    let receiver = Guard::start(&mut command, &folder.path().join("log"), None).unwrap();
    let port: u16 = wait::until("the receiver", || {
        let log = receiver.log();
        Ok(log
            .strip_prefix("ready ")
            .filter(|rest| rest.ends_with('\n'))
            .and_then(|rest| rest.trim().parse().ok()))
    })
    .unwrap();
    let shop = shop();
    let alerts = format!(
        "[alerts]\nwebhook = 'http://127.0.0.1:{port}/hook'\nheaders = {{ Authorization = 'Bearer hush-hush' }}\n\
         [[alerts.rule]]\nname = 'failing'\napplication = 'sh*'\nmetric = 'error_rate'\nabove = 0.4\nover_seconds = 3\n\
         for_seconds = 1\nresolve_seconds = 1\nminimum = 3\n\
         [[alerts.rule]]\nname = 'elsewhere'\napplication = 'blog'\nmetric = 'throughput'\nabove = 0.0\nfor_seconds = 0\n"
    );
    let mut service = service(&shop, &history, &alerts);
    let taken = || -> Vec<Value> {
        let text = std::fs::read_to_string(&posted).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let until = |path: &str, status: &str| {
        wait::until(&format!("`{status}`"), || {
            let answer = Connection::open(&shop.address)?.ask(&Request::get(path).close())?;
            assert!(answer.status == 200 || path == "/error");
            let of = |one: &Value| one["status"] == 200 && one["body"]["status"] == status;
            Ok(taken().into_iter().find(of))
        })
        .unwrap()
    };
    let fired = until("/error", "firing");
    let alert = &fired["body"]["alerts"][0];
    assert_eq!(alert["labels"]["alertname"], "failing");
    assert_eq!(alert["labels"]["service_name"], "shop");
    assert_eq!(alert["annotations"]["value"], "1");
    assert_eq!(fired["headers"]["authorization"], "Bearer hush-hush");
    let shown = |is_over: bool| {
        wait::until("the alert in what views are sent", || {
            let alerts = service.state("shop")?.snapshot.alerts.clone();
            Ok(alerts.into_iter().find(|one| one.until_ns.is_some() == is_over))
        })
        .unwrap()
    };
    let fires = shown(false);
    assert_eq!((fires.name.as_str(), fires.summary.as_str()), ("failing", SUMMARY));
    let over = until("/", "resolved");
    assert_eq!(shown(true).since_ns, fires.since_ns);
    assert_eq!(over["body"]["alerts"][0]["fingerprint"], alert["fingerprint"]);
    let all = taken();
    let statuses: Vec<u64> = all.iter().filter_map(|one| one["status"].as_u64()).collect();
    assert_eq!(statuses, [503, 503, 200, 200], "{all:#?}");
    assert!(all.iter().all(|one| one["body"]["alerts"][0]["labels"]["alertname"] == "failing"));
    service.wait_for_log(SUMMARY).unwrap();
    service.wait_for_log("over: failing").unwrap();
    assert_eq!(service.health().unwrap().subscribers["alerts"].dropped, 0);
    let (_, log) = service.stop().unwrap();
    assert!(!log.contains("hush-hush"), "{log}");
}
