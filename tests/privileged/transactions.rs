//! Every request is one transaction, with the status, times and bytes that the client saw.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Address, Answer, Body, Connection, Plan, Request, drive};
use harness::place::Python;
use harness::pyapm::{Pyapm, Report};
use harness::wait;
use harness::workload::Workload;
use pyapm_model::line::{Outcome, Transaction, TransactionKind};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn by_path_and_status(report: &Report) -> BTreeMap<(String, u16), u64> {
    let mut counts = BTreeMap::new();
    for transaction in &report.transactions {
        assert_eq!(transaction.kind, TransactionKind::Http);
        assert_eq!(transaction.outcome, Outcome::Complete, "{transaction:?}");
        let path = transaction.path.clone().expect("a path");
        let status = transaction.status.expect("a status");
        *counts.entry((path, status)).or_default() += 1;
    }
    counts
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

fn assert_no_losses(report: &Report) {
    let summary = &report.summary;
    assert_eq!(summary.dropped.values().sum::<u64>(), 0, "{summary:?}");
    assert_eq!(summary.seen, summary.delivered, "{summary:?}");
}

#[test]
fn twenty_thousand_requests_on_four_workers_are_counted_exactly() {
    for unix in [false, true] {
        let mut options = Options::new(Python::first().unwrap());
        options.unix = unix;
        let shop = Gunicorn::start(&options).unwrap();
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        let requests = [
            "/",
            "/products/7",
            "/products/4711",
            "/search?q=zanzibar",
            "/status/204",
            "/status/304",
            "/status/418",
            "/sqlerror",
            "/download/20000",
            "/chunked?pieces=3",
        ];
        let requests = requests.map(Request::get).to_vec();
        let counts = drive(&shop.address, &Plan { requests, total: 20_000, clients: 8 });
        let counts = counts.without_failures().unwrap();
        let report = attach.stop().unwrap();
        assert_eq!(by_path_and_status(&report), counts.by_path_and_status());
        let mut answered: BTreeMap<u32, u64> = BTreeMap::new();
        for answer in &counts.answers {
            *answered.entry(answer.worker.unwrap()).or_default() += 1;
        }
        let mut reported: BTreeMap<u32, u64> = BTreeMap::new();
        for transaction in &report.transactions {
            *reported.entry(transaction.pid).or_default() += 1;
        }
        assert_eq!(reported, answered);
        assert_eq!(report.summary.transactions, 20_000);
        assert_no_losses(&report);
        assert!(!report.stdout.contains("zanzibar"), "a value of a query string or a statement was reported");
    }
}

#[test]
fn durations_lie_between_the_handlers_own_and_the_clients() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let mut asked = Vec::new();
    for milliseconds in [0, 1, 3, 10, 30, 100, 1, 10] {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let connection = Connection::open(&shop.address).unwrap();
        let request = Request::get(&format!("/sleep/{milliseconds}")).close();
        let answer = connection.ask_until_closed(&request).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        asked.push((nanoseconds(began), body["slept_ns"].as_u64().unwrap(), nanoseconds(answer.elapsed)));
    }
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), asked.len());
    // The wall clock is set from the monotonic one's at attach, and may be slewed meanwhile.
    let slew = nanoseconds(Duration::from_millis(50));
    for (transaction, (began, slept, elapsed)) in report.transactions.iter().zip(asked) {
        assert!(transaction.duration_ns >= slept, "{} ns, slept {slept}", transaction.duration_ns);
        assert!(transaction.duration_ns <= elapsed, "{} ns, client {elapsed}", transaction.duration_ns);
        assert!(
            transaction.start_ns + slew >= began,
            "start {} before the client's {began}",
            transaction.start_ns
        );
        assert!(transaction.start_ns <= began + elapsed + slew, "start {} too late", transaction.start_ns);
    }
}

/// What a request on one connection should be reported as.
#[derive(Debug, PartialEq)]
struct Expected {
    method: String,
    path: String,
    status: u16,
    request_bytes: u64,
    /// `None` where an interim answer came too, which may be counted or not.
    response_bytes: Option<u64>,
    pid: u32,
    tid: u32,
}

impl Expected {
    fn new(request: &Request, answer: &Answer) -> Self {
        Self {
            method: request.method.to_owned(),
            path: request.path().to_owned(),
            status: answer.status,
            request_bytes: (request.head_bytes().len() + request.body_bytes().len()) as u64,
            response_bytes: (!request.waits()).then_some(answer.bytes),
            pid: answer.worker().unwrap(),
            tid: answer.header("x-thread").unwrap().parse().unwrap(),
        }
    }

    fn of(transaction: &Transaction, with_response_bytes: bool) -> Self {
        Self {
            method: transaction.method.clone().unwrap(),
            path: transaction.path.clone().unwrap(),
            status: transaction.status.unwrap(),
            request_bytes: transaction.request_bytes.unwrap(),
            response_bytes: transaction.response_bytes.filter(|_| with_response_bytes),
            pid: transaction.pid,
            tid: transaction.tid,
        }
    }
}

fn assert_reported(report: &Report, expected: &[Expected]) {
    assert_eq!(report.transactions.len(), expected.len(), "{:#?}", report.transactions);
    for (transaction, expected) in report.transactions.iter().zip(expected) {
        assert_eq!(transaction.outcome, Outcome::Complete, "{transaction:?}");
        assert_eq!(&Expected::of(transaction, expected.response_bytes.is_some()), expected);
    }
    assert_no_losses(report);
}

/// Runs it against the raw server over TCP, then over a unix socket.
fn over_both_sockets(exchange: impl Fn(&Address) -> Vec<Expected>) {
    let python = Python::first().unwrap();
    for server in [Workload::http_over_tcp(&python).unwrap(), Workload::http_over_unix(&python).unwrap()] {
        let attach = Pyapm::attach(server.pid(), &[]).unwrap();
        let expected = exchange(&server.address);
        assert_reported(&attach.stop().unwrap(), &expected);
    }
}

#[test]
fn one_connection_carries_every_form_of_request() {
    over_both_sockets(|address| {
        let mut connection = Connection::open(address).unwrap();
        let requests = [
            Request::get("/"),
            Request::get("/?secret=1"),
            Request::head("/download/100000"),
            Request::get("/status/204"),
            Request::get("/status/304"),
            Request::get("/status/500"),
            Request::get("/chunked/5"),
            Request::get("/chunked/0"),
            Request::post("/echo", Body::Length(0)),
            Request::post("/echo", Body::Length(5)),
            Request::post("/echo", Body::Chunked(100_000, 7_000)),
            Request::post("/echo", Body::Length(30_000)).expect_continue(),
            Request::get("/nowhere"),
        ];
        requests.iter().map(|request| Expected::new(request, &connection.ask(request).unwrap())).collect()
    });
}

#[test]
fn pipelined_requests_are_told_apart() {
    over_both_sockets(|address| {
        let mut connection = Connection::open(address).unwrap();
        let requests = [
            Request::get("/sleep/5"),
            Request::post("/echo", Body::Length(3_000)),
            Request::head("/"),
            Request::post("/echo", Body::Chunked(2_000, 300)),
            Request::get("/chunked/2"),
            Request::get("/status/204"),
            Request::get("/"),
        ];
        let together: Vec<u8> = requests
            .iter()
            .flat_map(|request| [request.head_bytes(), request.body_bytes()].concat())
            .collect();
        connection.send(&together).unwrap();
        requests.iter().map(|request| Expected::new(request, &connection.answer(request).unwrap())).collect()
    });
}

#[test]
fn a_head_in_pieces_is_one_request() {
    over_both_sockets(|address| {
        let mut connection = Connection::open(address).unwrap();
        let request = Request::post("/echo", Body::Length(10));
        let bytes = [request.head_bytes(), request.body_bytes()].concat();
        for piece in bytes.chunks(9) {
            connection.send(piece).unwrap();
            // The server reads what is there; without a pause there would be one piece.
            std::thread::sleep(Duration::from_millis(3));
        }
        vec![Expected::new(&request, &connection.answer(&request).unwrap())]
    });
}

#[test]
fn ten_megabytes_each_way_are_counted_to_the_byte() {
    over_both_sockets(|address| {
        let mut connection = Connection::open(address).unwrap();
        let requests = [
            Request::post("/echo", Body::Length(10_000_000)),
            Request::get("/download/10000000"),
            Request::post("/echo", Body::Chunked(10_000_000, 65_536)),
            Request::get("/chunked/10000"),
            Request::get("/"),
        ];
        requests.iter().map(|request| Expected::new(request, &connection.ask(request).unwrap())).collect()
    });
}

#[test]
fn the_shop_takes_every_body_too() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let requests = [
        Request::post("/upload", Body::Length(10_000_000)).close(),
        Request::get("/download/10000000").close(),
        Request::post("/upload", Body::Chunked(50_000, 999)).close(),
        Request::post("/upload", Body::Length(50_000)).expect_continue().close(),
        Request::get("/chunked?pieces=100").close(),
        Request::head("/download/1000").close(),
    ];
    let expected: Vec<Expected> = requests
        .iter()
        .map(|request| {
            Expected::new(request, &Connection::open(&shop.address).unwrap().ask(request).unwrap())
        })
        .collect();
    assert_reported(&attach.stop().unwrap(), &expected);
}

#[test]
fn gthread_workers_keep_connections_open() {
    let mut options = Options::new(Python::first().unwrap());
    options.workers = 2;
    options.worker_class = "gthread";
    options.arguments = vec!["--threads=4".to_owned()];
    let shop = Gunicorn::start(&options).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let requests = ["/", "/products/2", "/status/204", "/sleep/1"].map(Request::get).to_vec();
    let counts =
        drive(&shop.address, &Plan { requests, total: 2_000, clients: 6 }).without_failures().unwrap();
    let report = attach.stop().unwrap();
    assert_eq!(by_path_and_status(&report), counts.by_path_and_status());
    assert_no_losses(&report);
}

#[test]
fn a_client_that_goes_away_leaves_an_aborted_transaction() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    let mut attach = Pyapm::attach(server.pid(), &[]).unwrap();
    let mut connection = Connection::open(&server.address).unwrap();
    // More than the sockets hold: the server is still writing when the client goes.
    connection.send(&Request::get("/download/50000000").head_bytes()).unwrap();
    assert!(connection.read_some(1000).unwrap() > 0);
    drop(connection);
    attach.wait_for_transactions(1).unwrap();
    let after = Connection::open(&server.address).unwrap().ask(&Request::get("/").close()).unwrap();
    assert_eq!(after.status, 200);
    let report = attach.stop().unwrap();
    let aborted: Vec<&Transaction> =
        report.transactions.iter().filter(|transaction| transaction.outcome == Outcome::Aborted).collect();
    assert_eq!(aborted.len(), 1, "{:#?}", report.transactions);
    assert_eq!((aborted[0].path.as_deref(), aborted[0].status), (Some("/download/50000000"), Some(200)));
    assert!(aborted[0].response_bytes.unwrap() < 50_000_000);
    let complete: Vec<_> = report
        .transactions
        .iter()
        .filter(|transaction| transaction.outcome == Outcome::Complete)
        .map(|transaction| transaction.path.as_deref())
        .collect();
    assert_eq!(complete, [Some("/")]);
}

#[test]
fn a_head_that_is_never_whole_is_no_request() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    for _ in 0..8 {
        let mut half = Connection::open(&shop.address).unwrap();
        half.send(b"GET /never HTTP/1.1\r\nHost: sh").unwrap();
        drop(half);
        let whole = Connection::open(&shop.address).unwrap().ask(&Request::get("/").close()).unwrap();
        assert_eq!(whole.status, 200);
    }
    let report = attach.stop().unwrap();
    assert_eq!(by_path_and_status(&report), BTreeMap::from([(("/".to_owned(), 200), 8)]));
}

#[test]
fn an_attach_ends_by_itself_and_by_every_polite_signal() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let report = Pyapm::attach(shop.master(), &["--duration", "1"]).unwrap().finish().unwrap();
    assert_eq!(report.status.code(), Some(0), "{}", report.stderr);
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        let answer = Connection::open(&shop.address).unwrap().ask(&Request::get("/").close()).unwrap();
        assert_eq!(answer.status, 200);
        attach.signal(signal).unwrap();
        let report = attach.finish().unwrap();
        assert_eq!(report.status.code(), Some(0), "{signal}: {}", report.stderr);
        assert_eq!(report.transactions.len(), 1, "{signal}");
    }
}

#[test]
fn a_transaction_is_written_when_it_ends_not_when_the_attach_does() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let mut attach = Pyapm::attach(shop.master(), &[]).unwrap();
    for count in 1..=5 {
        Connection::open(&shop.address).unwrap().ask(&Request::get("/").close()).unwrap();
        attach.wait_for_transactions(count).unwrap();
    }
    let pid = attach.pid();
    wait::until("pyapm to be there still", || {
        Ok(std::path::Path::new(&format!("/proc/{pid}")).exists().then_some(()))
    })
    .unwrap();
    assert_eq!(attach.stop().unwrap().transactions.len(), 5);
}
