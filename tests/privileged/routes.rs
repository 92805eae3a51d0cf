//! Names of transactions: the framework's own routes, with the function behind them; and what a scanner cannot do to them.

use harness::framework::{Framework, Served};
use harness::inspect::Usage;
use harness::interpreter::Interpreter;
use harness::load::{Connection, Request};
use harness::loops::{Loops, Runner};
use harness::place::Python;
use harness::pyapm::{Pyapm, Report};
use pyapm_model::line::{Line, Transaction};
use serde_json::json;
use std::collections::BTreeSet;

const USERS: usize = 5_000;
const INVENTED: usize = 10_000;
/// Bytes of the daemon's memory that the second half of what is invented may take: one of its paths, and all that is kept by
/// path, is some hundred.
const GROWTH: u64 = 1 << 20;
/// Requests of one connection.
const ON_ONE: usize = 100;

fn ask(served: &Served, paths: impl Iterator<Item = String>) {
    let paths: Vec<String> = paths.collect();
    for part in paths.chunks(ON_ONE) {
        // Gunicorn's sync worker closes after each answer, uvicorn does not.
        let mut connection = Connection::open(&served.address).unwrap();
        for path in part {
            let answer = connection.ask(&Request::get(path)).unwrap();
            if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                connection = Connection::open(&served.address).unwrap();
            }
        }
    }
}

/// Path, route, handler's function.
type Case = (&'static str, Option<&'static str>, &'static str);

fn check(framework: Framework, venv: &str, cases: &[Case]) {
    let python = Python::named(venv).unwrap();
    let served = Served::start(framework, &python).unwrap();
    let mut pyapm = Pyapm::attach(served.pid(), &[]).unwrap();
    ask(&served, cases.iter().map(|(path, ..)| (*path).to_owned()));
    ask(&served, (1..=USERS).map(|number| format!("/users/{number}")));
    let invented = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| format!("/{number:x}/{}.php", number * 7919 % 10_007))
    };
    let all = cases.len() + USERS + INVENTED;
    ask(&served, invented(0..INVENTED / 2));
    pyapm.wait_for_transactions(all - INVENTED / 2).unwrap();
    let half = Usage::of(pyapm.pid()).unwrap().rss_bytes;
    ask(&served, invented(INVENTED / 2..INVENTED));
    pyapm.wait_for_transactions(all).unwrap();
    let whole = Usage::of(pyapm.pid()).unwrap().rss_bytes;
    eprintln!("{framework:?}: {half} bytes, {whole} after 5,000 more that nobody had asked for before");
    assert!(whole < half + GROWTH, "{framework:?}: {half} bytes of memory became {whole}");
    let report = pyapm.stop().unwrap();
    assert_eq!(report.transactions.len(), all, "{:?}", report.summary);

    for (path, route, function) in cases {
        let found = of(&report, path);
        assert_eq!(found.route.as_deref(), *route, "{framework:?} {path}: {found:?}");
        let Some(route) = route else { continue };
        assert_eq!(found.name, format!("GET {route}"));
        let handler = found.handler.as_ref().unwrap_or_else(|| panic!("{framework:?} {path}: no handler"));
        assert_eq!(handler.function, *function, "{path}");
        let file = match framework {
            Framework::Django => "django_app.py",
            Framework::Flask => "flask_app.py",
            Framework::FastApi => "fastapi_app.py",
        };
        assert!(handler.file.ends_with(file) && handler.line.is_some(), "{handler:?}");
    }
    let names: BTreeSet<&str> = report.transactions.iter().map(|one| one.name.as_str()).collect();
    let users = report.transactions.iter().filter(|one| one.name == "GET /users/{number}").count();
    assert!(users >= USERS, "{framework:?}: {users} of {USERS}: {names:?}");
    let invented = report.transactions.iter().filter(|one| one.name == "GET (not found)").count();
    assert!(invented >= INVENTED, "{framework:?}: {invented} of {INVENTED}: {names:?}");
    assert!(names.len() <= cases.len() + 2, "{names:?}");
    assert!(!report.summary.incomplete.contains_key("names_overflow"), "{:?}", report.summary);
}

fn of<'a>(report: &'a Report, path: &str) -> &'a Transaction {
    report.transactions.iter().find(|one| one.path.as_deref() == Some(path)).unwrap()
}

/// No module holds the application: `gunicorn 'shop:create_app()'`, `uvicorn --factory`.
#[test]
fn routes_of_applications_that_a_factory_made() {
    let python = Python::named("venv-3.11").unwrap();
    for framework in [Framework::Flask, Framework::FastApi] {
        let served = Served::start_by_factory(framework, &python).unwrap();
        let mut pyapm = Pyapm::attach(served.pid(), &[]).unwrap();
        ask(&served, (1..=50).map(|number| format!("/users/{number}")));
        ask(&served, ["/shops/corner/orders/7/", "/files/a/b.txt"].into_iter().map(str::to_owned));
        pyapm.wait_for_transactions(52).unwrap();
        let report = pyapm.stop().unwrap();
        assert_eq!(report.transactions.iter().filter(|one| one.name == "GET /users/{number}").count(), 50);
        let found = of(&report, "/shops/corner/orders/7/");
        assert_eq!(found.route.as_deref(), Some("/shops/{shop}/orders/{order}/"), "{framework:?}");
        assert_eq!(found.handler.as_ref().unwrap().function, "answer_order");
        assert_eq!(of(&report, "/files/a/b.txt").route.as_deref(), Some("/files/{name}"));
    }
}

/// The same in the distribution's newest Pythons, whose collectors keep their objects otherwise, all under one attach.
#[test]
fn routes_of_factories_in_the_newest_pythons() {
    let newest = |one: &Interpreter| one.minor >= 14 && !one.shared && one.root().is_some();
    let builds: Vec<Interpreter> = Interpreter::all().unwrap().into_iter().filter(newest).collect();
    assert!(builds.len() >= 2, "{builds:?}");
    let ways = [
        json!({"server": "gunicorn", "worker": "sync", "factory": true}),
        json!({"server": "uvicorn", "factory": true}),
    ];
    let servers: Vec<(String, Loops)> = builds
        .iter()
        .flat_map(|build| ways.iter().map(move |way| (build, way)))
        .map(|(build, way)| {
            let runner = Runner::Build(build.clone());
            (format!("{way} under {build}"), Loops::start(&runner, way.clone()).unwrap())
        })
        .collect();
    let others: Vec<String> = servers
        .iter()
        .skip(1)
        .flat_map(|(_, server)| ["--pid".to_owned(), server.pid().to_string()])
        .collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let mut pyapm = Pyapm::attach(servers[0].1.pid(), &others).unwrap();
    let all_attached = |lines: &[Line]| {
        lines.iter().filter(|line| matches!(line, Line::Attached(_))).count() == servers.len()
    };
    pyapm.wait_for("all to be attached", all_attached).unwrap();
    let paths = ["/users/1", "/users/4711", "/shops/corner/orders/7/", "/files/a/b.txt"];
    for (_, server) in &servers {
        for path in paths {
            let mut connection = Connection::open(&server.address).unwrap();
            assert_eq!(connection.ask(&Request::get(path).close()).unwrap().status, 200, "{path}");
        }
    }
    pyapm.wait_for_transactions(servers.len() * paths.len()).unwrap();
    let report = pyapm.stop().unwrap();
    let expected: BTreeSet<&str> =
        ["GET /users/{number}", "GET /shops/{shop}/orders/{order}/", "GET /files/{name}"].into();
    for (what, server) in &servers {
        let pids = descendants(server.pid());
        let own: Vec<&Transaction> =
            report.transactions.iter().filter(|one| pids.contains(&one.pid)).collect();
        assert_eq!(own.len(), paths.len(), "{what}");
        let names: BTreeSet<&str> = own.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, expected, "{what}");
        for one in own {
            let handler =
                one.handler.as_ref().unwrap_or_else(|| panic!("{what}: no handler of {}", one.name));
            assert!(
                handler.function.ends_with("answer") && handler.file.ends_with("factories.py"),
                "{handler:?}"
            );
        }
    }
}

/// A process and those that it has started.
fn descendants(pid: u32) -> BTreeSet<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace().flat_map(|child| descendants(child.parse().unwrap()));
    children.chain([pid]).collect()
}

#[test]
fn routes_of_django() {
    check(
        Framework::Django,
        "venv-3.11",
        &[
            ("/users/me", Some("/users/me"), "answer"),
            ("/files/a/b.txt", Some("/files/{name}"), "answer"),
            ("/by-uuid/123e4567-e89b-12d3-a456-426614174000/x", Some("/by-uuid/{key}/x"), "answer"),
            ("/catalogue/5", Some("/catalogue/{number}"), "Catalogue.__call__"),
            ("/shops/corner/orders/", Some("/shops/{shop}/orders/"), "answer"),
            ("/shops/corner/orders/7/", Some("/shops/{shop}/orders/{order}/"), "answer"),
            ("/shops/corner/orders/7/lines/a-b", Some("/shops/{shop}/orders/{order}/lines/{line}"), "answer"),
            ("/articles/2024/long-words/", Some("/articles/{year}/{slug}/"), "answer"),
            ("/old/12", Some("/old/{1}"), "answer"),
            ("/handled", Some("/handled"), "handled"),
            ("/users/nobody", None, ""),
        ],
    );
}

#[test]
fn routes_of_flask() {
    check(
        Framework::Flask,
        "venv-3.11",
        &[
            ("/users/me", Some("/users/me"), "answer"),
            ("/files/a/b.txt", Some("/files/{name}"), "answer"),
            ("/by-uuid/123e4567-e89b-12d3-a456-426614174000/x", Some("/by-uuid/{key}/x"), "answer"),
            ("/prices/1.5", Some("/prices/{price}"), "answer"),
            ("/de/about", Some("/{language}/about"), "answer"),
            ("/catalogue/5", Some("/catalogue/{number}"), "Catalogue.get"),
            ("/shops/corner/orders/", Some("/shops/{shop}/orders/"), "answer_order"),
            ("/shops/corner/orders/7/", Some("/shops/{shop}/orders/{order}/"), "answer_order"),
            (
                "/shops/corner/orders/7/lines/ab",
                Some("/shops/{shop}/orders/{order}/lines/{line}"),
                "answer_order",
            ),
            ("/handled", Some("/handled"), "handled"),
            ("/users/nobody", None, ""),
        ],
    );
}

#[test]
fn routes_of_fastapi() {
    check(
        Framework::FastApi,
        "venv-3.11",
        &[
            ("/users/me", Some("/users/me"), "answer"),
            ("/files/a/b.txt", Some("/files/{name}"), "answer"),
            ("/by-uuid/123e4567-e89b-12d3-a456-426614174000/x", Some("/by-uuid/{key}/x"), "answer"),
            ("/catalogue/5", Some("/catalogue/{number}"), "catalogue"),
            ("/shops/corner/orders/", Some("/shops/{shop}/orders/"), "answer_order"),
            ("/shops/corner/orders/7/", Some("/shops/{shop}/orders/{order}/"), "answer_order"),
            (
                "/shops/corner/orders/7/lines/ab",
                Some("/shops/{shop}/orders/{order}/lines/{line}"),
                "answer_order",
            ),
            ("/v2/things/9", Some("/v2/things/{thing}"), "mounted"),
            ("/handled", Some("/handled"), "handled"),
            ("/users/nobody", None, ""),
        ],
    );
}
