//! The shop and the raw server do what their headers promise. Without this, a wrong workload would look like a
//! wrong pyapm.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Body, Connection, Plan, Request, drive};
use harness::place::Python;
use harness::workload::Workload;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn each_route_of_the_shop_answers_as_promised_on_every_python() {
    for python in Python::all().unwrap() {
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        for (request, status, body) in [
            (Request::get("/"), 200, r#"{"products": 200}"#),
            (Request::get("/products/1"), 200, r#""price": 99"#),
            (Request::get("/products/4711"), 404, "<!doctype html>"),
            (Request::get("/search?q=no.%207"), 200, "toys no. 7"),
            (Request::get("/sleep/5"), 200, "slept_ns"),
            (Request::get("/cpu/5"), 200, r#"{"spent": 5}"#),
            (Request::get("/error"), 500, "<!doctype html>"),
            (Request::get("/sqlerror"), 500, r#"{"errno": 1146}"#),
            (Request::get("/status/204"), 204, ""),
            (Request::get("/status/304"), 304, ""),
            (Request::get("/status/418"), 418, "as you wish"),
            (Request::get("/chunked?pieces=3"), 200, "yyy"),
            (Request::get("/download/5"), 200, "xxxxx"),
            (Request::head("/download/5"), 200, ""),
            (Request::get("/slow-sql/5"), 200, r#"{"slept": 5}"#),
            (Request::post("/upload", Body::Length(1234)), 200, r#"{"received": 1234}"#),
            (Request::post("/upload", Body::Chunked(1234, 100)), 200, r#"{"received": 1234}"#),
            (Request::post("/upload", Body::Length(7)).expect_continue(), 200, r#"{"received": 7}"#),
        ] {
            let answer = Connection::open(&shop.address).unwrap().ask(&request).unwrap();
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, status, "{request:?}: {text}");
            assert!(text.trim_start().contains(body), "{request:?}: {text}");
            assert_eq!(text.is_empty(), body.is_empty(), "{request:?}: {text}");
            assert!(shop.workers().unwrap().contains(&answer.worker().unwrap()));
        }
    }
}

#[test]
fn nplus1_makes_exactly_21_statements() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    shop.database.begin_log().unwrap();
    let answer = Connection::open(&shop.address).unwrap().ask(&Request::get("/nplus1")).unwrap();
    assert_eq!(answer.status, 200);
    let statements = shop.database.end_log().unwrap();
    assert_eq!(statements.len(), 21, "{statements:#?}");
    assert!(statements[0].contains("FROM `catalogue_product`"), "{statements:#?}");
    assert!(statements[1..].iter().all(|text| text.contains("FROM `catalogue_category`")), "{statements:#?}");
}

#[test]
fn the_raw_server_speaks_http11_over_both_sockets() {
    let python = Python::first().unwrap();
    for server in [Workload::http_over_tcp(&python).unwrap(), Workload::http_over_unix(&python).unwrap()] {
        let mut connection = Connection::open(&server.address).unwrap();
        // Three requests in one write: the answers come in order, on the same connection.
        let requests = [Request::get("/"), Request::head("/download/9"), Request::get("/chunked/3")];
        let together: Vec<u8> = requests.iter().flat_map(Request::head_bytes).collect();
        connection.send(&together).unwrap();
        let lengths = requests.each_ref().map(|request| connection.answer(request).unwrap().body.len());
        assert_eq!(lengths, [12, 0, 3000]);
        let echo = Request::post("/echo", Body::Chunked(70_000, 999)).expect_continue();
        assert_eq!(connection.ask(&echo).unwrap().body, b"70000\n");
        let answer = connection.ask(&Request::get("/status/304")).unwrap();
        assert_eq!((answer.status, answer.worker().unwrap()), (304, server.pid()));
    }
}

#[test]
fn the_load_generator_counts_what_it_asked() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    let requests = vec![Request::get("/?x=1"), Request::get("/status/404"), Request::get("/nowhere").close()];
    let counts =
        drive(&server.address, &Plan { requests, total: 300, clients: 3 }).without_failures().unwrap();
    let expected = [
        (("/".to_owned(), 200), 100),
        (("/nowhere".to_owned(), 404), 100),
        (("/status/404".to_owned(), 404), 100),
    ];
    assert_eq!(counts.by_path_and_status(), BTreeMap::from(expected));
}

#[test]
fn no_request_fails_while_workers_are_replaced() {
    let mut options = Options::new(Python::first().unwrap());
    options.arguments = ["--max-requests=25", "--max-requests-jitter=10"].map(str::to_owned).to_vec();
    let shop = Gunicorn::start(&options).unwrap();
    let requests = vec![Request::get("/"), Request::get("/sleep/5"), Request::get("/products/3")];
    let counts = shop.drive_while_replacing(&Plan { requests, total: 1000, clients: 4 }).unwrap();
    let workers: BTreeSet<_> = counts.answers.iter().map(|answer| answer.worker).collect();
    assert!(workers.len() > 12, "only {} workers served", workers.len());
}
