//! The service's socket: bad clients harm nobody, and the view shows through it what the service sees.

use harness::load::{Connection, Plan, Request, Stream};
use harness::place::{self, Python};
use harness::pyapm;
use harness::service::Service;
use harness::tmux::Terminal;
use harness::wait;
use harness::wsgi::Site;
use pyapm_model::dump::{Dump, Thread};
use pyapm_model::service::{ApplicationState, Response};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

/// Watches none of the servers of this machine.
const NOTHING: &str = "[discovery]\nevery_server = false\n";

#[test]
fn bad_clients_harm_nobody() {
    let service = Service::start(&format!("socket_clients = 4\n{NOTHING}")).unwrap();
    let mode = std::fs::metadata(service.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let open = || {
        let stream = UnixStream::connect(service.socket()).unwrap();
        stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        stream
    };
    let answer = |mut stream: UnixStream| {
        let mut text = String::new();
        // A client that is cut off reads an error or nothing.
        let _cut_off = stream.read_to_string(&mut text);
        text
    };
    for garbage in [&b"\n"[..], b"{}\n", b"\xff\xfe\x00\n", b"{\"type\":\"watch\",\"x\":1}\n", b"[1,2\n"] {
        let mut stream = open();
        stream.write_all(garbage).unwrap();
        let text = answer(stream);
        assert!(matches!(serde_json::from_str(&text), Ok(Response::Error { .. })), "{garbage:?}: {text}");
    }
    // A request without an end: it is left after some kilobytes.
    let mut stream = open();
    let endless = vec![b'a'; 1 << 16];
    let mut sent = 0_usize;
    while sent < 64 << 20 && stream.write_all(&endless).is_ok() {
        sent += endless.len();
    }
    assert!(sent < 64 << 20, "everything was taken");
    // Clients that say nothing, or ask and never read: as many as there is room for, and one more.
    let mut silent: Vec<UnixStream> = (0..3).map(|_| open()).collect();
    let mut greedy = open();
    greedy.write_all(b"{\"type\":\"health\"}\n").unwrap();
    silent.push(greedy);
    assert_eq!(answer(open()), "", "one too many was served");
    drop(silent);
    wait::until("room for a good client", || Ok(service.health().ok())).unwrap();
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_second_service_does_not_take_the_socket_and_a_dead_one_does_not_keep_it() {
    let service = Service::start(NOTHING).unwrap();
    let config = service.folder().join("pyapm.toml");
    let second = pyapm::run(&["run", "--config", config.to_str().unwrap()]).unwrap();
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr.contains("another service listens there"), "{stderr}");
    assert!(service.health().is_ok());
    let socket = service.socket();
    let (_, _) = service.stop().unwrap();
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn the_view_shows_what_the_service_sees() {
    let site = Site::new("viewed", Python::first().unwrap()).unwrap();
    let rules = format!("[[discovery.include]]\ncommand = '{}'\n", site.pattern());
    let mut service = Service::start(&rules).unwrap();
    let wsgi = site.serve(&[]).unwrap();
    service
        .wait_for("the application", |all| all.iter().any(|one| one.state == ApplicationState::Running))
        .unwrap();
    let plan = Plan { requests: vec![Request::get("/shown")], total: 0, clients: 2 };
    let load = Stream::start(&wsgi.address, &plan, None);
    let socket = service.socket();
    let socket = socket.to_str().unwrap();
    let listed = pyapm::run(&["top", "--list", "--socket", socket]).unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(text.contains(&site.name) && text.contains("gunicorn") && text.contains("running"), "{text}");

    let terminal = Terminal::open(120, 40).unwrap();
    let binary = place::binary().unwrap();
    terminal
        .type_line(&format!("{} top --pid {} --socket {socket}", binary.display(), wsgi.master()))
        .unwrap();
    let screen = terminal.wait_for("GET /shown").unwrap();
    assert!(screen.contains(&site.name), "{screen}");
    terminal.press("q").unwrap();
    terminal.wait_until("the shell", |screen| screen.trim_end().ends_with("prompt>")).unwrap();
    load.stop().without_failures().unwrap();

    // What a thread is in, for who asks while it is.
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = format!(
        "GET /held HTTP/1.1\r\nHost: x.test\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\nConnection: close\r\n\r\n"
    );
    let address = wsgi.address.clone();
    let asking = std::thread::spawn(move || {
        let mut connection = Connection::open(&address)?;
        connection.send(request.as_bytes())?;
        connection.answer(&Request::get("/held").close())
    });
    let master = wsgi.master().to_string();
    wait::until("the request to be told of", || {
        let dumped = pyapm::run(&["dump", "--json", "--application", "--pid", &master, "--socket", socket])?;
        let dump: Dump = serde_json::from_slice(&dumped.stdout)?;
        assert_eq!(dump.notes, Vec::<String>::new());
        let threads: Vec<&Thread> = dump.processes.iter().flat_map(|process| &process.threads).collect();
        assert!(threads.iter().all(|thread| thread.transactions.is_some()), "{dump:#?}");
        let mut told =
            threads.iter().filter(|thread| thread.transactions.as_ref().is_some_and(|all| !all.is_empty()));
        let Some(thread) = told.next() else { return Ok(None) };
        let transactions = thread.transactions.as_deref().unwrap_or_default();
        assert!(told.next().is_none() && transactions.len() == 1, "{dump:#?}");
        assert!(thread.frames.iter().any(|frame| frame.frame.function == "app"), "{thread:#?}");
        assert_eq!(transactions[0].name, "GET /held");
        assert_eq!(transactions[0].trace_id.as_deref(), Some(trace));
        assert!(transactions[0].elapsed_ns > 0);
        Ok(Some(()))
    })
    .unwrap();
    let text = pyapm::run(&["dump", "--application", "--pid", &master, "--socket", socket]).unwrap();
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(
        text.contains("    in GET /held for ") && text.contains(&format!(" s, trace {trace}\n")),
        "{text}"
    );
    site.release().unwrap();
    asking.join().unwrap().unwrap();
    // Without a service all is as it was.
    let alone = pyapm::run(&["dump", "--json", "--pid", &master, "--socket", "/nonexistent"]).unwrap();
    let dump: Dump = serde_json::from_slice(&alone.stdout).unwrap();
    assert!(dump.notes.is_empty() && dump.processes[0].threads[0].transactions.is_none(), "{dump:#?}");

    let unknown = pyapm::run(&["top", "--application", "nobody", "--socket", socket]).unwrap();
    let stderr = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr.contains("no such application") && stderr.contains(&site.name), "{stderr}");
    let nobody = pyapm::run(&["top", "--socket", "/nonexistent/pyapm.sock"]).unwrap();
    let stderr = String::from_utf8_lossy(&nobody.stderr);
    assert!(stderr.contains("cannot reach the service") && stderr.contains("hint:"), "{stderr}");
}
