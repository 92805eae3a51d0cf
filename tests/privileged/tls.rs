//! Plaintext of TLS, in whichever copy of whichever library: requests, calls of clients, statements.

use harness::bpf::Held;
use harness::certificate::Certificate;
use harness::inspect::{Inspection, children};
use harness::interpreter::{Interpreter, Script};
use harness::load::{Plan, Request, drive};
use harness::mariadb::MariaDb;
use harness::pyapm::{self, Pyapm, Report};
use harness::server::{Numbered, PathCounts, Server, Setting};
use harness::wait;
use pyapm_model::line::{Line, Outcome, SpanKind};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of one process, or of all.
fn reported(report: &Report, pid: Option<u32>) -> PathCounts {
    let mut counts = PathCounts::new();
    for transaction in report.transactions.iter().filter(|one| pid.is_none_or(|pid| one.pid == pid)) {
        assert_eq!(transaction.outcome, Outcome::Complete, "{transaction:?}");
        let path = transaction.path.clone().expect("a path");
        *counts.entry((path, transaction.status.expect("a status"))).or_default() += 1;
    }
    counts
}

fn assert_no_losses(report: &Report) {
    let summary = &report.summary;
    assert_eq!(summary.seen, summary.delivered, "{summary:?}");
    for loss in ["tls_unfinished", "tls_implausible", "tls_full", "gap", "framing_lost", "payload_unreadable"]
    {
        assert_eq!(summary.incomplete.get(loss), None, "{summary:?}");
    }
}

/// A request of /db/N has one statement, with its number; others have none. (A driver's own, at a new connection, aside.)
fn assert_own_statements(report: &Report) {
    for one in &report.transactions {
        let number = one.path.as_deref().unwrap().strip_prefix("/db/");
        let texts = one.spans.iter().filter_map(|span| span.db_query.as_deref());
        let asked: Vec<&str> = texts.filter(|text| text.contains(" AS request_")).collect();
        match (number, &asked[..]) {
            (None, []) => {}
            (Some(number), [only]) => assert!(only.ends_with(&format!("_{number}")), "{one:#?}"),
            _ => panic!("{one:#?}\n{:?}", report.summary),
        }
    }
}

fn gunicorn(setting: &Setting<'_>, class: &str) -> Command {
    let mut command = setting.program("gunicorn");
    command
        .args(["app:application", "--no-control-socket", "--workers=2", "--threads=4", "--keep-alive=30"])
        .args(["--worker-class", class, "--bind", &setting.address()])
        .arg("--certfile")
        .arg(&setting.certificate.certificate)
        .arg("--keyfile")
        .arg(&setting.certificate.key);
    command
}

fn uvicorn(setting: &Setting<'_>, event_loop: &str, http: &str) -> Command {
    let mut command = setting.program("uvicorn");
    command
        .args(["app:asgi", "--port", &setting.port.to_string(), "--loop", event_loop, "--http", http])
        .arg("--timeout-keep-alive=60")
        .arg("--ssl-certfile")
        .arg(&setting.certificate.certificate)
        .arg("--ssl-keyfile")
        .arg(&setting.certificate.key);
    command
}

const PATHS: [&str; 4] = ["/a/1", "/missing/2", "/bytes/100000", "/a/3"];

#[test]
fn requests_over_tls_are_counted_exactly() {
    type Start = fn(&Setting<'_>) -> Command;
    let servers: [(&str, Start); 4] = [
        ("gunicorn sync", |setting| gunicorn(setting, "sync")),
        ("gunicorn gthread", |setting| gunicorn(setting, "gthread")),
        ("uvicorn on asyncio", |setting| uvicorn(setting, "asyncio", "h11")),
        ("uvicorn on uvloop", |setting| uvicorn(setting, "uvloop", "httptools")),
    ];
    let database = MariaDb::start().unwrap();
    let paths = [&PATHS[..], &["/db/5", "/db/6", "/db/7"]].concat();
    for (name, start) in servers {
        let server = Server::start(|setting| {
            let mut command = start(setting);
            command.env("DB_PORT", database.port().to_string());
            command
        })
        .unwrap();
        // No more connections than one worker has threads: those without wait for a request on the others.
        server.tls_client(4, 8, "1", &["/db/0"]).unwrap().finish().unwrap();
        for close in ["0", "1"] {
            eprintln!("{name}, closing: {close}");
            let attach = Pyapm::attach(server.pid(), &[]).unwrap();
            let counts = server.tls_client(4, 50, close, &paths).unwrap().finish().unwrap();
            let report = attach.stop().unwrap();
            assert_eq!(reported(&report, None), counts);
            assert_no_losses(&report);
            assert_own_statements(&report);
            let with_peer = report.transactions.iter().filter(|one| one.client_address.is_some());
            let with_peer = with_peer.inspect(|one| {
                assert_eq!(one.client_address.as_deref(), Some("127.0.0.1"));
            });
            // Where the library writes to the socket itself, there is no doubt whose it is.
            assert!(with_peer.count() == 200 || !name.starts_with("gunicorn"));
        }
    }
}

/// Sessions that were open and had spoken before the attach.
#[test]
fn sessions_open_at_the_attach_are_followed_from_the_next_message_on() {
    for event_loop in [None, Some("asyncio"), Some("uvloop")] {
        eprintln!("{event_loop:?}");
        let server = Server::start(|setting| match event_loop {
            None => gunicorn(setting, "gthread"),
            Some(event_loop) => uvicorn(setting, event_loop, "auto"),
        })
        .unwrap();
        let mut client = server.tls_client(4, 25, "wait", &PATHS).unwrap();
        client.ready().unwrap();
        let attach = Pyapm::attach(server.pid(), &[]).unwrap();
        let counts = client.finish().unwrap();
        let report = attach.stop().unwrap();
        assert_eq!(reported(&report, None), counts);
    }
}

/// Rounds here; `cargo xtask bench soak` attaches fifty times.
const ATTACHES: usize = 8;
/// Between two requests of a client.
const MILLISECONDS: u32 = 10;

/// What one attach in mid-traffic has reported, and between which times it was there for certain.
struct Round {
    report: Report,
    from_ns: u64,
    until_ns: u64,
}

/// Under load, on sessions that are older than all attaches: each attach tells every request that was made while it was
/// there, once, and nothing that was not; no request fails, and nothing is left behind.
#[test]
fn attaches_under_load_leave_nothing() {
    let server = Server::start(|setting| gunicorn(setting, "gthread")).unwrap();
    server.tls_client(4, 20, "0", &PATHS).unwrap().finish().unwrap();
    let of = |pids: &[u32]| -> Vec<Inspection> {
        pids.iter().map(|pid| Inspection::of(*pid).unwrap().without_anonymous()).collect()
    };
    let pids = children(server.pid()).unwrap();
    let before = of(&pids);
    let mut client = server.tls_client(4, MILLISECONDS, "numbered", &["/a", "/missing"]).unwrap();
    client.ready().unwrap();
    let mut held = Vec::new();
    let rounds: Vec<Round> = (0..ATTACHES)
        .map(|_| {
            let mut attach = Pyapm::attach(server.pid(), &[]).unwrap();
            let from_ns = wall_ns();
            held.push(Held::by(attach.pid()).unwrap());
            let begun = |line: &&Line| matches!(line, Line::Transaction(one) if one.start_ns > from_ns);
            attach.wait_for("forty requests", |lines| lines.iter().filter(begun).count() >= 40).unwrap();
            let until_ns = wall_ns();
            Round { report: attach.stop().unwrap(), from_ns, until_ns }
        })
        .collect();
    let answers = client.finish_numbered().unwrap();
    for (number, round) in rounds.iter().enumerate() {
        check_round(&format!("round {number}"), round, &answers);
    }
    wait::until("the kernel to free the programs of all attaches", || {
        for held in &held {
            if !held.still_there()?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .unwrap();
    assert_eq!(children(server.pid()).unwrap(), pids, "a worker has been replaced");
    for (before, after) in before.iter().zip(of(&pids)) {
        // The server starts threads of its pool when it has use for them.
        let mut differences = before.differences(&after);
        differences.retain(|difference| difference != "number of threads differs");
        assert_eq!(differences, Vec::<String>::new());
    }
}

fn check_round(what: &str, round: &Round, answers: &[Numbered]) {
    let summary = &round.report.summary;
    assert_eq!(summary.seen, summary.delivered, "{what}: {summary:?}");
    let asked: HashMap<&str, &Numbered> = answers.iter().map(|one| (one.path.as_str(), one)).collect();
    assert_eq!(asked.len(), answers.len());
    let mut told = HashSet::new();
    for transaction in &round.report.transactions {
        let path = transaction.path.as_deref().unwrap();
        assert!(told.insert(path), "{what}: {path} twice");
        let answer = asked.get(path).unwrap_or_else(|| panic!("{what}: nobody asked for {path}"));
        // What was under way as the probes came or went may lack its end.
        let whole = answer.asked_ns > round.from_ns && answer.answered_ns < round.until_ns;
        assert_eq!(
            transaction.status.or((!whole).then_some(answer.status)),
            Some(answer.status),
            "{what}: {path}"
        );
    }
    let due = answers.iter().filter(|one| one.asked_ns > round.from_ns && one.answered_ns < round.until_ns);
    let due: Vec<&str> = due.map(|one| one.path.as_str()).collect();
    let missing: Vec<&&str> = due.iter().filter(|path| !told.contains(**path)).collect();
    eprintln!("{what}: {} were due, {} told", due.len(), told.len());
    assert!(due.len() >= 20 && missing.is_empty(), "{what}: {missing:?} of {}: {summary:?}", due.len());
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// CPython calls `SSL_read` up to 3.9, `SSL_read_ex` from 3.10 on; OpenSSL is 1.1.1, 3.0, 3.5 and 3.6.
#[test]
fn every_python_with_its_own_openssl() {
    let interpreters = Interpreter::all().unwrap();
    let start = |interpreter: &Interpreter| {
        Script::start_with("tls.py", |scratch| {
            Certificate::make(scratch)?;
            Ok(interpreter.command("tls.py", scratch))
        })
        .unwrap()
    };
    let scripts: Vec<Script> = interpreters.iter().map(start).collect();
    // All at once: each with an OpenSSL of its own, in one library or another.
    let others: Vec<String> =
        scripts.iter().skip(1).flat_map(|script| ["--pid".to_owned(), script.pid().to_string()]).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let attach = Pyapm::attach(scripts[0].pid(), &others).unwrap();
    for script in &scripts {
        std::fs::write(script.folder().join("go"), "").unwrap();
    }
    for script in &scripts {
        wait::until("the requests to be answered", || {
            Ok(script.folder().join("done").exists().then_some(()))
        })
        .unwrap();
    }
    let report = attach.stop().unwrap();
    let expected: PathCounts = (0..20)
        .map(|number| ((format!("/a/{number}"), if matches!(number, 3 | 7) { 404 } else { 200 }), 2))
        .collect();
    for (interpreter, script) in interpreters.iter().zip(&scripts) {
        assert_eq!(reported(&report, Some(script.pid())), expected, "{interpreter}");
    }
    assert_no_losses(&report);
}

/// Files that a process executes code of, as `/proc` names them, if `is_copy` says that the name is one of a TLS library.
pub(crate) fn copies(pid: u32, is_copy: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let maps = Inspection::of(pid).unwrap().maps;
    let executable = maps.iter().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.contains('x')));
    let paths = executable.filter_map(|line| Some(line.get(line.find('/')?..)?.to_owned()));
    paths.filter(|path| path.rsplit('/').next().is_some_and(&is_copy)).collect()
}

/// What the doctor says of TLS in one process of this application: the copies' paths and whether all is well with each.
pub(crate) fn told_by_doctor(master: u32, pid: u32) -> BTreeSet<(String, bool)> {
    let output = pyapm::run(&["doctor", "--json", "--pid", &master.to_string()]).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = report["application"]["processes"].as_array().unwrap();
    let own = groups.iter().find(|group| group["pids"].as_array().unwrap().contains(&pid.into())).unwrap();
    let checks = own["checks"].as_array().unwrap().iter().filter(|check| check["subject"] == "tls");
    let told = checks.map(|check| {
        let detail = check["detail"].as_str().unwrap();
        let (path, what) = detail.split_once(": ").unwrap();
        assert!(what.contains("SSL_read") && what.contains("SSL_write"), "{detail}");
        (path.to_owned(), check["status"] == "ok")
    });
    told.collect()
}

/// Three libraries in one process: the system's, which Python calls, the one inside the wheel of pycurl, and the one inside of
/// the module of `cryptography`, whose names are in its symbol table alone.
#[test]
fn clients_over_tls_with_three_libraries_in_one_process() {
    let upstream = Server::start(|setting| gunicorn(setting, "gthread")).unwrap();
    let server = Server::start(|setting| {
        let mut command = setting.program("gunicorn");
        command
            .args(["app:application", "--no-control-socket", "--bind", &setting.address()])
            .env("UPSTREAM", format!("https://localhost:{}", upstream.port))
            .env("CA", &upstream.certificate.certificate);
        command
    })
    .unwrap();
    let ways = ["urllib", "requests", "httpx", "pycurl", "pyopenssl"];
    // Once before the attach, so that everything is imported.
    let requests: Vec<Request> = ways.iter().map(|way| Request::get(&format!("/out/{way}/5"))).collect();
    let plan = |total| Plan { requests: requests.clone(), total, clients: 1 };
    drive(&server.address(), &plan(5)).without_failures().unwrap();
    let [worker] = children(server.pid()).unwrap()[..] else { panic!("not one worker") };
    let copies = copies(worker, |name| name.starts_with("libssl") || name == "_rust.abi3.so");
    let is_one = |end: &str| copies.iter().filter(|path| path.contains(end)).count() == 1;
    assert!(copies.len() == 3 && is_one("/pycurl.libs/libssl-") && is_one("_rust.abi3.so"), "{copies:?}");
    let told = told_by_doctor(server.pid(), worker);
    assert_eq!(told.iter().map(|(path, _)| path.clone()).collect::<BTreeSet<_>>(), copies);
    let attach = Pyapm::attach(server.pid(), &[]).unwrap();
    drive(&server.address(), &plan(50)).without_failures().unwrap();
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), 50);
    for transaction in &report.transactions {
        let [span] = &transaction.spans[..] else { panic!("{transaction:#?}") };
        assert_eq!(span.kind, SpanKind::Http, "{span:#?}");
        assert_eq!(span.status, Some(200), "{span:#?}");
        assert_eq!(span.server_port, Some(upstream.port), "{transaction:#?}");
        let way = transaction.path.as_deref().unwrap().split('/').nth(2).unwrap();
        let function = format!("with_{way}");
        assert!(span.stack.iter().any(|frame| frame.function == function), "{span:#?}");
    }
    assert_no_losses(&report);
}

/// The statement is seen at the driver, its answer in the session: as in clear, so over TLS.
#[test]
fn statements_over_tls_have_their_answers() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path()).unwrap();
    let database = MariaDb::start_with_tls(&certificate).unwrap();
    let server = Server::start(|setting| {
        let mut command = setting.program("gunicorn");
        command
            .args(["app:application", "--no-control-socket", "--threads=4", "--bind", &setting.address()])
            .env("DB_PORT", database.port().to_string())
            .env("DB_CA", &certificate.certificate);
        command
    })
    .unwrap();
    let attach = Pyapm::attach(server.pid(), &[]).unwrap();
    let requests: Vec<Request> = (0..20)
        .flat_map(|n| [format!("/db/{n}"), format!("/fault/{n}")])
        .map(|path| Request::get(&path))
        .collect();
    drive(&server.address(), &Plan { requests, total: 80, clients: 4 }).without_failures().unwrap();
    let ciphers = database.query("SHOW GLOBAL STATUS LIKE 'Ssl_accepts'").unwrap();
    assert!(!ciphers.trim().ends_with("\t0"), "nobody spoke TLS to the database: {ciphers}");
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), 80);
    for transaction in &report.transactions {
        let path = transaction.path.as_deref().unwrap();
        let number = path.rsplit('/').next().unwrap();
        let text = |span: &&pyapm_model::line::Span| span.db_query.clone().unwrap_or_default();
        let own: Vec<_> =
            transaction.spans.iter().filter(|span| text(span).ends_with(&format!("_{number}"))).collect();
        let [span] = own[..] else { panic!("{transaction:#?}") };
        assert!(span.reply_seen, "{span:#?}");
        assert_eq!(span.error_type.as_deref(), path.starts_with("/fault").then_some("1146"), "{span:#?}");
        assert_eq!(span.server_port, Some(database.port()));
    }
    assert_no_losses(&report);
}
