//! Servers whose requests have a thread, or a process, of their own: each as people run it, every request counted and
//! every statement in the request that asked for it.

use harness::load::{Plan, Request, drive};
use harness::mariadb::MariaDb;
use harness::place;
use harness::pyapm::{Pyapm, Report};
use harness::server::{Server, Setting};
use pyapm_model::line::{Outcome, Span};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

fn reported(report: &Report) -> BTreeMap<(String, u16), u64> {
    let mut counts = BTreeMap::new();
    for transaction in &report.transactions {
        assert_eq!(transaction.outcome, Outcome::Complete, "{transaction:?}");
        let path = transaction.path.clone().expect("a path");
        *counts.entry((path, transaction.status.expect("a status"))).or_default() += 1;
    }
    counts
}

/// Each request's number is in the text of its statement, as a name: only its own may be there.
fn assert_own_statements(report: &Report) {
    for transaction in &report.transactions {
        let path = transaction.path.as_deref().unwrap();
        let number = path.strip_prefix("/db/").or(path.strip_prefix("/fault/"));
        let names: Vec<&Span> = transaction
            .spans
            .iter()
            .filter(|span| span.db_query.as_deref().is_some_and(|text| text.contains("_")))
            .filter(|span| !span.db_query.as_deref().unwrap_or_default().contains("autocommit"))
            .collect();
        match (number, &names[..]) {
            (None, []) => {}
            (Some(number), [span]) => {
                let text = span.db_query.as_deref().unwrap();
                assert!(text.ends_with(&format!("_{number}")), "{path}: {text}");
                assert_eq!(span.parent_span_id, transaction.span_id);
                assert!(span.reply_seen, "{span:?}");
                assert_eq!(span.error_type.as_deref(), path.starts_with("/fault").then_some("1146"));
            }
            _ => panic!("{path}: {:#?}", transaction.spans),
        }
    }
}

/// Drives a server that closes each connection after its answer, or is told to.
fn check(name: &str, server: &Server, clients: usize) -> Report {
    eprintln!("{name}");
    let numbers = 0..25;
    let requests: Vec<Request> = numbers
        .flat_map(|n| {
            [
                format!("/a/{n}"),
                format!("/db/{n}"),
                format!("/missing/{n}"),
                format!("/fault/{n}"),
                format!("/bytes/{}", n * 5000),
            ]
        })
        .map(|path| Request::get(&path).close())
        .collect();
    // Every thread has its connection to the database before.
    let plan = |total| Plan { requests: requests.clone(), total, clients };
    drive(&server.address(), &plan(250)).without_failures().unwrap();
    let attach = Pyapm::attach(server.pid(), &[]).unwrap();
    let counts = drive(&server.address(), &plan(500)).without_failures().unwrap();
    let report = attach.stop().unwrap();
    assert_eq!(reported(&report), counts.by_path_and_status());
    assert_own_statements(&report);
    assert_eq!(report.summary.seen, report.summary.delivered, "{:?}", report.summary);
    report
}

fn with_database(mut command: Command, database: &MariaDb) -> Command {
    command.env("DB_PORT", database.port().to_string());
    command
}

fn uwsgi(setting: &Setting<'_>, way: &[&str]) -> Command {
    let mut command = setting.program("uwsgi");
    let environment = setting.python.program("python");
    let home = environment.parent().and_then(std::path::Path::parent).unwrap();
    command.args(["--master", "--need-app", "--die-on-term", "--module=app:application"]);
    command.arg("--virtualenv").arg(home).args(way);
    command
}

#[test]
fn gunicorn_waitress_and_django() {
    let database = MariaDb::start().unwrap();
    let server = Server::start(|setting| {
        let mut command = setting.program("gunicorn");
        command.args(["app:application", "--no-control-socket", "--worker-class=gthread", "--threads=8"]);
        command.args(["--bind", &setting.address()]);
        with_database(command, &database)
    });
    check("gunicorn gthread", &server.unwrap(), 8);
    let server = Server::start(|setting| {
        let mut command = setting.program("gunicorn");
        command.args(["app:application", "--no-control-socket", "--workers=2", "--bind", &setting.address()]);
        with_database(command, &database)
    });
    check("gunicorn sync", &server.unwrap(), 4);
    let server = Server::start(|setting| {
        let mut command = setting.program("waitress-serve");
        command.args(["--threads=6", "--listen", &setting.address(), "app:application"]);
        with_database(command, &database)
    });
    // One thread reads for all, and more requests wait than there are threads.
    check("waitress", &server.unwrap(), 16);
    let server = Server::start(|setting| {
        let mut command = setting.program("python");
        command.args(["manage.py", "runserver", &setting.address()]);
        with_database(command, &database)
    });
    check("runserver", &server.unwrap(), 4);
}

#[test]
fn uwsgi_speaking_http() {
    let database = MariaDb::start().unwrap();
    for workers in [["--processes=2", "--threads=1"], ["--processes=1", "--threads=4"]] {
        let server = Server::start(|setting| {
            let address = format!("--http-socket={}", setting.address());
            with_database(uwsgi(setting, &[workers[0], workers[1], &address]), &database)
        });
        check(&format!("uwsgi http-socket {workers:?}"), &server.unwrap(), 4);
        // Its router is a process of the same application: each request passes it, and is still one.
        let server = Server::start(|setting| {
            let address = format!("--http={}", setting.address());
            with_database(uwsgi(setting, &[workers[0], workers[1], &address]), &database)
        });
        let report = check(&format!("uwsgi http {workers:?}"), &server.unwrap(), 4);
        assert_eq!(report.summary.incomplete.get("passed_on"), Some(&500), "{:?}", report.summary);
    }
}

/// nginx with one worker in front of uWSGI, which it speaks the uwsgi protocol to.
fn behind_nginx(setting: &Setting<'_>, upstream: &str) -> Command {
    let folder = setting.folder.display();
    let text = format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {folder}/t1; uwsgi_temp_path {folder}/t2;\n\
         proxy_temp_path {folder}/t3; fastcgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n\
         server {{ listen {address}; location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass {upstream};\n\
         uwsgi_param HTTP_X_REQUEST_START \"t=$msec\"; }} }} }}\n",
        address = setting.address()
    );
    let file: PathBuf = setting.folder.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(place::system_program("nginx").unwrap());
    command.arg("-c").arg(file);
    command
}

#[test]
fn uwsgi_behind_nginx() {
    let database = MariaDb::start().unwrap();
    for unix in [false, true] {
        for workers in [["--processes=2", "--threads=1"], ["--processes=1", "--threads=4"]] {
            let place = |setting: &Setting<'_>| {
                if unix {
                    setting.folder.join("uwsgi.sock").display().to_string()
                } else {
                    // Above the port range that connections are given.
                    format!("127.0.0.1:{}", 61_000 + setting.port % 4_000)
                }
            };
            let server = Server::start_behind(
                |setting| {
                    let socket = format!("--socket={}", place(setting));
                    let options = [workers[0], workers[1], &socket, "--chmod-socket=666"];
                    with_database(uwsgi(setting, &options), &database)
                },
                |setting| {
                    let upstream = if unix { format!("unix:{}", place(setting)) } else { place(setting) };
                    Ok(Some(behind_nginx(setting, &upstream)))
                },
            );
            let report = check(&format!("uwsgi behind nginx {workers:?}, unix: {unix}"), &server.unwrap(), 4);
            assert!(
                report.transactions.iter().all(|one| one.queue_ns.is_some()),
                "nginx wrote when it began"
            );
        }
    }
}

#[test]
fn the_server_of_the_standard_library() {
    let server = Server::start(|setting| {
        std::fs::create_dir(setting.folder.join("files")).unwrap();
        for number in 0..10_usize {
            let file = setting.folder.join(format!("files/{number}.txt"));
            std::fs::write(file, vec![b'x'; number * 10_000]).unwrap();
        }
        let mut command = setting.program("python");
        command.args(["-m", "http.server", "--bind=127.0.0.1", &setting.port.to_string()]);
        command.arg("--directory").arg(setting.folder.join("files"));
        command
    })
    .unwrap();
    let attach = Pyapm::attach(server.pid(), &[]).unwrap();
    let requests = (0..12).map(|n| Request::get(&format!("/{n}.txt")).close()).collect();
    let counts = drive(&server.address(), &Plan { requests, total: 240, clients: 4 });
    let report = attach.stop().unwrap();
    assert_eq!(reported(&report), counts.without_failures().unwrap().by_path_and_status());
    assert_eq!(report.summary.seen, report.summary.delivered, "{:?}", report.summary);
}
