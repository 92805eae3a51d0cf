//! What must not get out, does not: no secret of the configuration and no value of a request in anything that the service
//! writes, sends or shows, but where the documentation says so; sockets and files are their owner's. The service runs over its
//! budget meanwhile, and says that everywhere.

use super::exports_prometheus::{scrape, sum};
use harness::load::{Address, Connection, Request};
use harness::place::{self, Python};
use harness::prometheus::{free_port, page};
use harness::receiver::Receiver;
use harness::servers::Server;
use harness::service::Service;
use harness::tmux::Terminal;
use harness::wait;
use harness::workload::Workload;
use harness::wsgi::Site;
use nix::sys::signal::Signal;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

/// Carries a mark wherever a request can carry a value, and hands them on in every way.
const MODULE: &str = r#"
import http.client, os, sqlite3, redis
host, port = os.environ["UPSTREAM"].rsplit(":", 1)
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]))
def app(environ, start):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["PATH_INFO"].startswith("/marked"):
        assert b"mark-body" in body
        store = sqlite3.connect(":memory:")
        store.execute("CREATE TABLE people (name TEXT)")
        store.execute("INSERT INTO people VALUES ('mark-literal')")
        store.execute("SELECT name FROM people WHERE name = ?", ("mark-parameter",)).fetchall()
        cache.set("session:9f86d081884c7d659a2feaa0c55ad015", "mark-cached")
        cache.get("session:9f86d081884c7d659a2feaa0c55ad015")
        sent = http.client.HTTPConnection(host, int(port))
        sent.request("POST", "/sent/7301928373?q=mark-sent-query", b"mark-sent-body", {"X-Sent": "mark-sent-header"})
        sent.getresponse().read()
        sent.close()
        secret = "mark-local"
        raise ValueError("shown-message")
    answer = b"mark-answer"
    start("200 OK", [("Content-Length", str(len(answer))), ("X-Answer", "mark-answer-header")])
    return [answer]
"#;

/// What is never shown: anything with `mark-`, and the random part of a key.
const NEVER: [&str; 3] = ["mark-", "9f86d081884c7d65", "secret-"];
/// What is part of single transactions where they are shown whole, and nowhere else: paths, and messages of exceptions.
const BY_DESIGN: [&str; 2] = ["7301928373", "shown-message"];

const MARKED: &[u8] = b"POST /marked/7301928373?q=mark-query HTTP/1.1\r\nHost: x.test\r\n\
    Authorization: Bearer mark-authorization\r\nCookie: a=mark-cookie\r\nX-Mark: mark-header\r\n\
    User-Agent: mark-agent\r\nContent-Length: 9\r\nConnection: close\r\n\r\nmark-body";

fn without(what: &str, text: &str, words: &[&str]) {
    for word in words {
        if let Some(at) = text.find(word) {
            let around = text.get(at.saturating_sub(200)..(at + 100).min(text.len())).unwrap_or(text);
            panic!("`{word}` is in {what}: {around}");
        }
    }
}

fn bytes(folder: &Path, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap_or_default()).into_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn secrets_and_values_stay_where_they_are() {
    let python = Python::first().unwrap();
    let (redis, receiver) = (Server::redis().unwrap(), Receiver::start().unwrap());
    let upstream = Workload::http_over_tcp(&python).unwrap();
    let Address::Tcp(sent_to) = &upstream.address else { panic!() };
    let (upstream_variable, redis_variable) =
        (format!("UPSTREAM={sent_to}"), format!("REDIS_PORT={}", redis.port));
    let variables = ["env", "DATABASE_URL=mysql://app:mark-dsn@db/shop", &upstream_variable, &redis_variable];
    let site = Site::with_module("private", python, MODULE).unwrap().through(&variables);
    let served = site.serve(&["--env", "PASSWORD=mark-argument"]).unwrap();

    let (statsd, web) = (UdpSocket::bind("127.0.0.1:0").unwrap(), free_port().unwrap());
    statsd.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    std::fs::write(folder.path().join("token"), "secret-token\n").unwrap();
    let config = format!(
        "socket_group = 'daemon'\n\
         [discovery]\ninclude = [{{ name = 'private', command = '{pattern}', environment = {{ DATABASE_URL = '*' }} }}]\n\
         [collection]\nprobe_costs = true\nsampling_hz = 99\n\
         [budget]\ncpu_percent = 0.001\n\
         [prometheus]\nlisten = '127.0.0.1:{web}'\nworker_label = true\n\
         [otlp]\nendpoint = 'http://user:secret-password@127.0.0.1:{otlp}'\nprotocol = 'http/protobuf'\nheaders = {{ x-key = 'secret-header' }}\n\
         signals = ['traces', 'metrics', 'logs', 'profiles']\nmetrics_interval_seconds = 1.0\n\
         [statsd]\naddress = '{statsd}'\ninterval_seconds = 0.5\n\
         [log]\nfile = '{place}/log'\nslow_milliseconds = 0\n\
         [history]\nfile = '{place}/history.db'\n\
         [alerts]\nwebhook = 'http://user:secret-url@127.0.0.1:1/secret-hook?key=secret-query'\n\
         headers = {{ Authorization = 'Bearer secret-bearer' }}\n\
         [[alerts.rule]]\nname = 'any'\nmetric = 'throughput'\nabove = 0.0\nover_seconds = 1\nfor_seconds = 0\nminimum = 1\n",
        pattern = site.pattern(),
        otlp = receiver.http,
        statsd = statsd.local_addr().unwrap(),
    );
    let mut service = Service::start_as(&config, &["env", "PYAPM_LOG=trace"]).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "private")).unwrap();
    let (mut pushed, mut buffer) = (String::new(), vec![0; 65_536]);
    let mut asked = 0;
    let mut ask = || {
        let mut connection = Connection::open(&served.address).unwrap();
        connection.send(MARKED).unwrap();
        assert_eq!(connection.answer(&Request::get("/marked").close()).unwrap().status, 500);
        Connection::open(&served.address).unwrap().ask(&Request::get("/plain?q=mark-query").close()).unwrap();
        asked += 1;
    };
    // Everybody has been told, and the budget has been found to be exceeded: its readings are ten seconds apart.
    wait::until("all that is said, and the budget", || {
        ask();
        while let Ok(count) = statsd.recv(&mut buffer) {
            pushed.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let received = receiver.received()?;
        let signals =
            ["traces", "metrics", "logs"].iter().all(|kind| received.iter().any(|one| one.signal == *kind));
        let written = bytes(folder.path(), "log").contains("shown-message");
        let health = service.health()?;
        Ok((signals && written && !pushed.is_empty() && health.is_over_budget).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", service.log()));

    // Over its budget: in the metrics, in the log, in what views are told, and on the screen.
    let figures = scrape(web);
    assert_eq!(sum(&figures, "pyapm_budget_exceeded"), 1.0);
    let rate = sum(&figures, "pyapm_sampling_rate");
    assert!((5.0..99.0).contains(&rate), "{rate} Hz");
    assert!(service.log().contains("sampling changes its rate"), "{}", service.log());
    let state = service.state("private").unwrap();
    assert_eq!(state.snapshot.slowed_hz.map(|slowed| slowed <= 49), Some(true));
    let terminal = Terminal::open(120, 40).unwrap();
    let (binary, socket) = (place::binary().unwrap(), service.socket());
    terminal
        .type_line(&format!("{} top --application private --socket {}", binary.display(), socket.display()))
        .unwrap();
    let screen = terminal.wait_for("OVER BUDGET").unwrap();
    terminal.press("q").unwrap();

    // How the service fares is complete.
    for name in [
        "pyapm_cpu_utilization_ratio",
        "pyapm_memory_usage_bytes",
        "pyapm_ring_size_bytes",
        "pyapm_ring_peak_bytes",
        "pyapm_records_seen_total",
        "pyapm_records_delivered_total",
        "pyapm_export_waiting",
        "pyapm_export_dropped_total",
        "pyapm_probe_hits_total",
        "pyapm_probe_time_seconds_total",
        "pyapm_watching",
    ] {
        assert!(figures.keys().any(|key| key.split('{').next() == Some(name)), "`{name}` is missing");
    }
    assert!(
        sum(&figures, "pyapm_probe_hits_total") > 100.0
            && sum(&figures, "pyapm_probe_time_seconds_total") > 0.0
    );
    assert!(
        sum(&figures, "pyapm_memory_usage_bytes") > 1e6 && sum(&figures, "pyapm_cpu_utilization_ratio") > 0.0
    );

    // A configuration that is wrong in a secret place, and one that has the page ask for a token.
    service
        .configure(&config.replace("{ Authorization = 'Bearer secret-bearer' }", "'secret-misplaced'"))
        .unwrap();
    service.signal(Signal::SIGHUP).unwrap();
    service.wait_for_log("the old one stays in force").unwrap();
    service
        .configure(&config.replace("worker_label", &format!("token_file = '{place}/token'\nworker_label")))
        .unwrap();
    service.signal(Signal::SIGHUP).unwrap();
    let bearer = "Authorization: Bearer secret-token\r\n";
    wait::until("the page to ask for a token", || {
        let refused = page(web, "/metrics", "").is_ok_and(|(status, _)| status == 401);
        Ok(refused.then_some(()))
    })
    .unwrap();
    assert_eq!(page(web, "/metrics", "Authorization: Bearer secret-wrong\r\n").unwrap().0, 401);
    let (status, metrics) = page(web, "/metrics", bearer).unwrap();
    assert_eq!(status, 200);

    let gid = nix::unistd::Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
    assert_eq!((mode(&socket), std::fs::metadata(&socket).unwrap().gid()), (0o660, gid));
    for name in ["log", "history.db"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
    let state = serde_json::to_string(&*service.state("private").unwrap()).unwrap();
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    while let Ok(count) = statsd.recv(&mut buffer) {
        pushed.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let history: String =
        ["history.db", "history.db-wal"].iter().map(|name| bytes(folder.path(), name)).collect();
    let file = folder.path().join("history.db");
    let report = |format: &str| {
        let output =
            harness::pyapm::run(&["report", "--history", file.to_str().unwrap(), "--format", format])
                .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let reports = ["text", "json", "html"].map(report).concat();
    let received: String =
        receiver.received().unwrap().iter().map(|one| format!("{} {}\n", one.signal, one.message)).collect();
    let lines = bytes(folder.path(), "log");

    let always = [&NEVER[..], &BY_DESIGN].concat();
    for (what, text) in [
        ("the service's log", &log),
        ("the page for Prometheus", &metrics),
        ("statsd's datagrams", &pushed),
        ("the history", &history),
        ("a report", &reports),
        ("the screen", &screen),
    ] {
        without(what, text, &always);
    }
    for (what, text) in
        [("the log of transactions", &lines), ("what OTLP sent", &received), ("the socket", &state)]
    {
        without(what, text, &NEVER);
    }
    // That it can be found where it is, and that there was something to find.
    for text in [&lines, &received] {
        assert!(BY_DESIGN.iter().all(|word| text.contains(word)));
    }
    for word in ["INSERT INTO people VALUES (?)", "session:{", "POST /sent/{id}"] {
        assert!(received.contains(word), "no `{word}`");
    }
    assert!(reports.contains("ValueError") && history.contains("people"), "{reports}");
    assert!(asked > 3 && log.contains("TRACE"), "the log is not at its most verbose");
}
