//! Where a transaction's time went: the parts add up to the whole, and each is what the handler measures of itself.

use harness::framework::Served;
use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Address, Connection, Request};
use harness::place::Python;
use harness::pyapm::Pyapm;
use harness::servers::Server;
use harness::wait;
use harness::wsgi::Site;
use pyapm_model::line::Transaction;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of a transaction's duration.
const TOLERANCE: f64 = 0.02;
/// What a request costs beside its handler's work, more or less: nothing is compared more exactly.
const AROUND_NS: f64 = 5e6;

fn near(what: &str, transaction: &Transaction, found: u64, due: f64) {
    near_within(what, transaction, found, due, AROUND_NS);
}

fn near_within(what: &str, transaction: &Transaction, found: u64, due: f64, around_ns: f64) {
    let bound = TOLERANCE * transaction.duration_ns as f64 + around_ns;
    let off = found as f64 - due;
    eprintln!("{}: {what} {found} ns, {due} are due", transaction.name);
    assert!(off.abs() <= bound, "{what}: {found} ns, not {due} +- {bound}; {transaction:#?}");
}

#[test]
fn the_parts_of_a_transaction_are_what_its_handler_measures() {
    let mut options = Options::new(Python::first().unwrap());
    options.workers = 1;
    let shop = Gunicorn::start(&options).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let paths = [
        "/sleep/150",
        "/lock/150",
        "/cpu/150",
        "/slow-sql/150",
        "/rival/150",
        "/peer/150",
        "/sync/20",
        "/nplus1",
    ];
    let mut answers: HashMap<String, Value> = HashMap::new();
    for path in paths {
        let connection = Connection::open(&shop.address).unwrap();
        let answer = connection.ask_until_closed(&Request::get(path).close()).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        answers.insert(path.to_owned(), serde_json::from_slice(&answer.body).unwrap_or(Value::Null));
    }
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), paths.len());
    for transaction in &report.transactions {
        let waits = transaction.waits.expect("waits are followed");
        let duration = transaction.duration_ns;
        eprintln!("{} {duration} ns: {waits:?}", transaction.name);
        let off = waits.total_ns() as f64 / duration as f64 - 1.0;
        assert!(off.abs() <= TOLERANCE, "the parts are off by {off}: {transaction:#?}");
        assert_eq!(waits.unknown_ns, 0, "{transaction:#?}");
        let path = transaction.path.as_deref().unwrap();
        let own = |name: &str| answers[path][name].as_f64().unwrap();
        let measured_wait = || own("wall_ns") - own("cpu_ns") - own("queued_ns");
        match path {
            "/sleep/150" => {
                near("sleep and CPU", transaction, waits.sleep_ns + waits.runnable_ns, own("slept_ns"));
                assert!(waits.sleep_ns as f64 >= 150e6, "{waits:?}");
            }
            "/lock/150" => near("lock", transaction, waits.lock_ns + waits.gil_ns, measured_wait()),
            "/peer/150" => {
                near("network", transaction, waits.network_ns, measured_wait());
                assert!(waits.network_ns > 0, "{waits:?}");
            }
            "/sync/20" => near("disk", transaction, waits.disk_ns, measured_wait()),
            "/rival/150" => {
                near("GIL", transaction, waits.gil_ns, measured_wait());
                assert!(waits.gil_ns > 0, "{waits:?}");
            }
            "/cpu/150" => near("CPU", transaction, waits.on_cpu_ns, 150e6),
            "/slow-sql/150" => {
                let span = transaction.spans.iter().map(|span| span.duration_ns).max().unwrap();
                near("database", transaction, waits.database_ns + waits.runnable_ns, span as f64);
                assert!(waits.database_ns as f64 >= 150e6 * (1.0 - TOLERANCE), "{waits:?}");
            }
            // Whoever lost its CPU after it asked may find the answer there.
            _ => assert!(waits.database_ns + waits.runnable_ns > 0 && waits.on_cpu_ns > 0, "{waits:?}"),
        }
    }
}

/// Requests that wait, each for something else, while others of the same loop hold them up.
#[test]
fn on_an_event_loop_the_parts_are_what_the_handlers_measure() {
    let (postgresql, redis) = (Server::postgresql().unwrap(), Server::redis().unwrap());
    for event_loop in ["asyncio", "uvloop"] {
        let python = Python::named("loops-3.11").unwrap();
        let served = Served::waiting(&python, event_loop, postgresql.port, redis.port).unwrap();
        let attach = Pyapm::attach(served.pid(), &[]).unwrap();
        let mut answers: HashMap<String, Value> = HashMap::new();
        // In the first round, what tells whose a context is has yet to be learnt.
        for round in 1..=2 {
            let waiting = ["sleep", "cache", "sql", "thread"].map(|what| format!("/{what}/{}", 400 + round));
            let holding = ["burn/120", "block/80"].map(|what| format!("/{what}/{}", 4 * round));
            answers.extend(std::thread::scope(|scope| {
                let paths = waiting.into_iter().chain(holding);
                let ask = |path: String| (own_measure(&served.address, &path), path);
                let asked: Vec<_> = paths.map(|path| scope.spawn(move || ask(path))).collect();
                let answered = asked.into_iter().map(|asked| asked.join().unwrap());
                answered.map(|(answer, path)| (path, answer)).collect::<Vec<_>>()
            }));
        }
        let report = attach.stop().unwrap();
        assert_eq!(report.transactions.len(), answers.len());
        for transaction in &report.transactions {
            let waits = transaction.waits.expect("waits are followed");
            eprintln!("{event_loop} {} {} ns: {waits:?}", transaction.name, transaction.duration_ns);
            assert_eq!(waits.total_ns(), transaction.duration_ns, "{transaction:#?}");
            assert_eq!(waits.unknown_ns, 0, "{transaction:#?}");
            let path = transaction.path.as_deref().unwrap();
            let own = |name: &str| answers[path][name].as_f64().unwrap();
            let what = path.split('/').nth(1).unwrap();
            let near = |what: &str, found: u64, due: f64| {
                near_within(what, transaction, found, due, AROUND_NS + own("stolen_ns"));
            };
            match what {
                "burn" => near("CPU", waits.on_cpu_ns, own("cpu_ns")),
                "block" => near("asleep", waits.sleep_ns, own("slept_ns")),
                _ => {
                    let idle = own("wall_ns") - own("busy_ns");
                    let part = match what {
                        "sql" => waits.database_ns,
                        "cache" => waits.network_ns,
                        _ => waits.awaiting_ns,
                    };
                    near(what, part, idle);
                    // Its own work is next to nothing, but for the CPU that it may have to wait for; before and after its
                    // own measure the loop may have worked for others, too.
                    near("CPU", waits.on_cpu_ns, 0.0);
                    let others = waits.loop_busy_ns + waits.runnable_ns;
                    near("loop", others.min(own("busy_ns") as u64), own("busy_ns"));
                }
            }
        }
    }
}

fn own_measure(address: &Address, path: &str) -> Value {
    let connection = Connection::open(address).unwrap();
    let answer = connection.ask_until_closed(&Request::get(path).close()).unwrap();
    assert_eq!(answer.status, 200, "{path}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// The one worker is busy: who comes next waits to be accepted, and the client knows for how long.
#[test]
fn who_waits_to_be_accepted_is_told_for_how_long() {
    let site = Site::new("accepting", Python::first().unwrap()).unwrap();
    let server = site.serve(&["--workers", "1"]).unwrap();
    let attach = Pyapm::attach(server.master(), &[]).unwrap();
    // They are accepted in the order in which they come.
    let asked = ["/held", "/next"].map(|path| {
        let request = Request::get(path).close();
        let mut connection = Connection::open(&server.address).unwrap();
        let before_ns = wall_ns();
        connection.send(&request.head_bytes()).unwrap();
        (path, request, connection, before_ns, wall_ns())
    });
    let since_ns = wall_ns();
    wait::until("some time to pass", || Ok((wall_ns() > since_ns + 200_000_000).then_some(()))).unwrap();
    site.release().unwrap();
    let asked = asked.map(|(path, request, mut connection, before_ns, after_ns)| {
        assert_eq!(connection.answer(&request).unwrap().status, 200);
        (path, before_ns, after_ns)
    });
    let report = attach.stop().unwrap();
    for (path, before_ns, after_ns) in asked {
        let one = report.transactions.iter().find(|one| one.path.as_deref() == Some(path)).unwrap();
        let waited = one.accept_queue_ns.expect("it is known over TCP");
        // The kernel notes by its ticks, of 10 ms at most, when something came.
        let tick = 10_000_000;
        let least = one.start_ns.saturating_sub(after_ns + tick);
        let most = one.start_ns.saturating_sub(before_ns) + tick;
        eprintln!("{path} waited {waited} ns, {least} to {most} by the client");
        assert!((least..=most).contains(&waited), "{path}: {waited} ns, not {least} to {most}");
        assert!(path == "/held" || waited >= 190_000_000, "{waited}");
    }
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

#[test]
fn waits_that_are_not_followed_are_unknown() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &["--no-waits"]).unwrap();
    let connection = Connection::open(&shop.address).unwrap();
    connection.ask_until_closed(&Request::get("/").close()).unwrap();
    let report = attach.stop().unwrap();
    assert!(report.transactions.iter().all(|transaction| transaction.waits.is_none()));
    assert_eq!(report.transactions.len(), 1);
}
