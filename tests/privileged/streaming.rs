//! Answers that take their time: streams, server-sent events, long polls, and connections that become something else.

use harness::load::{Address, Connection, Plan, Request, drive};
use harness::mariadb::MariaDb;
use harness::prometheus::{free_port, page, samples};
use harness::pyapm::{Pyapm, Report};
use harness::server::{Server, Setting};
use harness::service::Service;
use harness::wait;
use pyapm_model::line::{Line, Outcome, Transaction};
use std::process::Command;
use std::time::Instant;

type Start = fn(&Setting<'_>) -> Command;

const SERVERS: [(&str, Start); 3] = [
    ("gunicorn gthread", |setting| {
        let mut command = setting.program("gunicorn");
        command.args(["app:application", "--no-control-socket", "--worker-class=gthread", "--threads=16"]);
        command.args(["--keep-alive=30", "--bind", &setting.address()]);
        command
    }),
    ("uvicorn h11", |setting| uvicorn(setting, "asyncio", "h11")),
    ("uvicorn httptools", |setting| uvicorn(setting, "uvloop", "httptools")),
];

fn uvicorn(setting: &Setting<'_>, event_loop: &str, http: &str) -> Command {
    let mut command = setting.program("uvicorn");
    command.args(["app:asgi", "--port", &setting.port.to_string(), "--loop", event_loop, "--http", http]);
    command.args(["--ws=wsproto", "--no-access-log", "--timeout-keep-alive=60"]);
    command
}

fn of<'a>(report: &'a Report, path: &str) -> &'a Transaction {
    let found: Vec<_> = report.transactions.iter().filter(|one| one.path.as_deref() == Some(path)).collect();
    let [only] = found[..] else { panic!("{path}: {found:#?}") };
    only
}

/// So many statements, all with the request's number. (What the driver asks at a new connection aside: a server's pool may
/// have grown a thread.)
fn assert_own(one: &Transaction, count: usize) {
    let number = one.path.as_deref().unwrap().rsplit('/').next().unwrap();
    assert!(one.spans.iter().all(|span| span.parent_span_id == one.span_id), "{one:#?}");
    let texts = one.spans.iter().filter_map(|span| span.db_query.as_deref());
    let asked: Vec<&str> = texts.filter(|text| text.contains(" AS request_")).collect();
    assert!(asked.iter().all(|text| text.ends_with(&format!("_{number}"))), "{one:#?}");
    assert_eq!(asked.len(), count, "{one:#?}");
}

fn is_told(lines: &[Line], path: &str) -> bool {
    lines.iter().any(|line| matches!(line, Line::Transaction(one) if one.path.as_deref() == Some(path)))
}

/// What a client may send in a frame of a WebSocket, unmasked and masked with zeros, is a request to whoever reads on.
const FAKE: &[u8] = b"GET /fake HTTP/1.1\r\nHost: x\r\n\r\n";

fn become_another(server: &Server, attach: &mut Pyapm, websocket: bool) {
    let mut connection = Connection::open(&server.address()).unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    connection.send(head.as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap(), 101);
    // Told although the connection stays open.
    attach.wait_for("the upgrade", |lines| is_told(lines, "/ws")).unwrap();
    if websocket {
        // A ping and the header of the next frame: once the ping is answered, what follows is read by itself.
        let length = 0x80 | u8::try_from(FAKE.len()).unwrap();
        connection.send(&[0x89, 0x80, 0, 0, 0, 0, 0x82, length, 0, 0, 0, 0]).unwrap();
        assert_eq!(connection.read_some(2).unwrap(), 2);
    }
    for _ in 0..3 {
        connection.send(FAKE).unwrap();
        let mut back = 0;
        while back < FAKE.len() {
            let read = connection.read_some(64).unwrap();
            assert!(read > 0);
            back += read;
        }
        if websocket {
            return;
        }
    }
}

/// With every thread connected to the database.
fn started(start: Start, database: &MariaDb) -> (Server, Address) {
    let server = Server::start(|setting| {
        let mut command = start(setting);
        command.env("DB_PORT", database.port().to_string());
        command
    })
    .unwrap();
    let address = server.address();
    let warm = Plan { requests: vec![Request::get("/db/0")], total: 64, clients: 16 };
    drive(&address, &warm).without_failures().unwrap();
    (server, address)
}

#[test]
fn answers_that_take_their_time() {
    let database = MariaDb::start().unwrap();
    for (name, start) in SERVERS {
        eprintln!("{name}");
        let (server, address) = started(start, &database);
        let streams: Vec<Request> = (1..=60).map(|n| Request::get(&format!("/stream/{n}"))).collect();
        let mut attach = Pyapm::attach(server.pid(), &[]).unwrap();

        // Listens from before everything else until after it.
        let mut listener = Connection::open(&address).unwrap();
        listener.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(listener.head().unwrap(), 200);
        let listening = Instant::now();
        let mut poll = Connection::open(&address).unwrap();
        poll.send(b"GET /poll/7 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();

        let plan = Plan { requests: streams, total: 60, clients: 6 };
        let counts = drive(&address, &plan).without_failures().unwrap();
        become_another(&server, &mut attach, name.starts_with("uvicorn"));
        Connection::open(&address).unwrap().ask(&Request::get("/release/8")).unwrap();
        assert_eq!(poll.head().unwrap(), 200);
        attach
            .wait_for("the poll", |lines| is_told(lines, "/poll/7") && is_told(lines, "/release/8"))
            .unwrap();
        assert!(!attach.with_lines(|lines| is_told(lines, "/events")), "somebody listens still");
        let listened = listening.elapsed();
        drop(listener);
        attach.wait_for("the events", |lines| is_told(lines, "/events")).unwrap();
        let report = attach.stop().unwrap();

        for (path, status) in counts.by_path_and_status().into_keys() {
            let streamed = of(&report, &path);
            assert_eq!((streamed.status, streamed.outcome), (Some(status), Outcome::Complete));
            assert!(streamed.response_bytes.unwrap() > 15_000, "{streamed:?}");
            assert_own(streamed, 5);
        }
        let (poll, release) = (of(&report, "/poll/7"), of(&report, "/release/8"));
        assert_eq!((poll.status, poll.outcome), (Some(200), Outcome::Complete));
        assert_own(poll, 1);
        assert_own(release, 0);
        assert!(poll.start_ns < release.start_ns && poll.start_ns + poll.duration_ns > release.start_ns);
        let events = of(&report, "/events");
        assert_eq!(events.status, Some(200));
        assert_ne!(events.outcome, Outcome::Complete, "{events:?}");
        assert!(u128::from(events.duration_ns) >= listened.as_nanos(), "{events:?}");
        let upgraded = of(&report, "/ws");
        assert_eq!((upgraded.status, upgraded.outcome), (Some(101), Outcome::Complete));
        assert_eq!(report.transactions.len(), 64, "nothing in what the connection became is a request");
        assert_eq!(report.summary.seen, report.summary.delivered, "{:?}", report.summary);
    }
}

/// One transaction until the 101, and from then on one open connection, until it is closed.
#[test]
fn what_was_upgraded_is_counted_while_it_is_open() {
    let server = Server::start(SERVERS[0].1).unwrap();
    let port = free_port().unwrap();
    let config = format!(
        "[prometheus]\nlisten = '127.0.0.1:{port}'\n[[discovery.include]]\nname = 'upgraded'\nport = [{}]\n",
        server.port
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "upgraded")).unwrap();
    let open = |expected: f64| {
        wait::until(&format!("{expected} open connections"), || {
            let samples = samples(&page(port, "/metrics", "")?.1)?;
            let found = samples.iter().find(|(key, _)| key.starts_with("pyapm_upgraded_connections"));
            Ok(found.filter(|(_, value)| **value == expected).map(|_| ()))
        })
        .unwrap();
    };
    open(0.0);
    let mut connections: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = Connection::open(&server.address()).unwrap();
            connection.send(&Request::get("/ws").head_bytes()).unwrap();
            assert_eq!(connection.head().unwrap(), 101);
            connection
        })
        .collect();
    open(2.0);
    connections.pop();
    open(1.0);
    connections.pop();
    open(0.0);
}

/// Connections that have been spoken on before, and requests under way: right from the next message on.
#[test]
fn an_attach_in_the_middle() {
    const KEPT: usize = 6;
    const EACH: usize = 15;
    let database = MariaDb::start().unwrap();
    for (name, start) in SERVERS {
        eprintln!("{name}");
        let (server, address) = started(start, &database);
        let connect = || Connection::open(&address).unwrap();
        let mut kept: Vec<Connection> = (0..KEPT).map(|_| connect()).collect();
        for connection in &mut kept {
            assert_eq!(connection.ask(&Request::get("/db/0")).unwrap().status, 200);
        }
        let mut polls: Vec<Connection> = (0..2).map(|_| connect()).collect();
        for poll in &mut polls {
            poll.send(Request::get("/poll/900").head_bytes().as_slice()).unwrap();
        }
        let attach = Pyapm::attach(server.pid(), &[]).unwrap();
        std::thread::scope(|scope| {
            for (index, mut connection) in kept.into_iter().enumerate() {
                scope.spawn(move || {
                    for turn in 1..=EACH {
                        let request = Request::get(&format!("/db/{}", index * 100 + turn));
                        assert_eq!(connection.ask(&request).unwrap().status, 200);
                    }
                });
            }
        });
        connect().ask(&Request::get("/release/901")).unwrap();
        for (index, mut poll) in polls.into_iter().enumerate() {
            assert_eq!(poll.answer(&Request::get("/poll/900")).unwrap().status, 200);
            let next = Request::get(&format!("/db/{}", 910 + index));
            assert_eq!(poll.ask(&next).unwrap().status, 200);
        }
        let report = attach.stop().unwrap();
        assert_eq!(report.transactions.len(), KEPT * EACH + 3, "{:?}", report.summary);
        for one in &report.transactions {
            assert_eq!((one.status, one.outcome), (Some(200), Outcome::Complete), "{one:?}");
            assert_own(one, usize::from(one.path.as_deref() != Some("/release/901")));
        }
        assert_eq!(report.summary.seen, report.summary.delivered, "{:?}", report.summary);
    }
}
