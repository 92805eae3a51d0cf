//! Traces: those of callers, by their headers; those of two applications that are both watched, by their connection; and
//! ids that are the same wherever they are told.

use harness::framework::{Agent, Framework, Served};
use harness::load::{Plan, Request, drive};
use harness::place::Python;
use harness::prometheus::{free_port, page};
use harness::pyapm::{Pyapm, Report};
use harness::receiver::{Receiver, spans};
use harness::service::Service;
use harness::wait;
use pyapm_model::line::{Line, Span, TraceSource, Transaction};
use pyapm_model::report::Report as Past;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

/// Requests of each kind.
const EACH: usize = 60;

fn own_path(transaction: &Transaction) -> &str {
    transaction.path.as_deref().unwrap_or_default()
}

fn is_id(id: &str, digits: usize) -> bool {
    id.len() == digits
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && id.bytes().any(|byte| byte != b'0')
}

/// Three applications, each behind the other, every request with its number in every path on its way.
#[test]
fn applications_of_one_host_are_joined_by_their_connections() {
    let python = Python::first().unwrap();
    let last = Served::chained(&python, "last", None).unwrap();
    let middle = Served::chained(&python, "middle", Some(&last)).unwrap();
    let first = Served::chained(&python, "first", Some(&middle)).unwrap();
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let requests: Vec<Request> = (0..EACH)
        .flat_map(|number| {
            [
                format!("/ask/leaf/{number}-direct"),
                format!("/ask/ask/leaf/{number}-through"),
                format!("/twice/{number}-twice"),
                format!("/ask/twice/{number}-deep"),
                format!("/ask/leaf/{number}-header?header={header}"),
            ]
        })
        .map(|path| Request::get(&path))
        .collect();
    // Connections between them that are older than the attach.
    let warm = Plan { requests: requests[..10].to_vec(), total: 40, clients: 4 };
    drive(&first.address, &warm).without_failures().unwrap();
    let [middle_pid, last_pid] = [middle.pid(), last.pid()].map(|pid| pid.to_string());
    let more = ["--pid", &middle_pid, "--pid", &last_pid, "--ring-bytes", "33554432"];
    let mut attach = Pyapm::attach(first.pid(), &more).unwrap();
    attach
        .wait_for("all three to be attached", |lines| {
            lines.iter().filter(|line| matches!(line, Line::Attached(_))).count() == 3
        })
        .unwrap();
    let total = requests.len() as u64;
    drive(&first.address, &Plan { requests, total, clients: 6 }).without_failures().unwrap();
    // Two applications for three kinds, three for the two that go through, one of them twice at its end.
    let expected = EACH * (2 + 3 + 3 + 4 + 2);
    attach.wait_for_transactions(expected).unwrap();
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), expected, "{:?}", report.summary);
    check_chain(&report, header);
}

fn check_chain(report: &Report, header: &str) {
    let mut spans: HashMap<&str, (&Transaction, &Span)> = HashMap::new();
    let mut ids = HashSet::new();
    for transaction in &report.transactions {
        assert!(is_id(&transaction.trace_id, 32) && is_id(&transaction.span_id, 16), "{transaction:?}");
        assert!(ids.insert(transaction.span_id.as_str()));
        for span in &transaction.spans {
            assert!(is_id(&span.span_id, 16) && ids.insert(span.span_id.as_str()), "{span:?}");
            assert_eq!(span.parent_span_id, transaction.span_id);
            spans.insert(&span.span_id, (transaction, span));
        }
    }
    let (mut wrong, mut missing, mut by_header) = (Vec::new(), Vec::new(), 0);
    for transaction in &report.transactions {
        let path = own_path(transaction);
        if transaction.application == "first" {
            assert_eq!((&transaction.parent_span_id, transaction.trace_source), (&None, None), "{path}");
            continue;
        }
        if path.ends_with("-header") {
            // The connection would tell, too: the header counts for more.
            let told = (transaction.trace_id.as_str(), transaction.parent_span_id.as_deref());
            assert_eq!(told, (&header[3..35], Some(&header[36..52])));
            assert_eq!(transaction.trace_source, Some(TraceSource::Traceparent));
            by_header += 1;
            continue;
        }
        let Some(parent) = &transaction.parent_span_id else {
            missing.push(path);
            continue;
        };
        let asked = spans.get(parent.as_str());
        let right = asked.is_some_and(|(caller, span)| {
            span.path.as_deref() == Some(path)
                && caller.trace_id == transaction.trace_id
                && caller.application != transaction.application
        });
        if !right || transaction.trace_source != Some(TraceSource::Connection) {
            wrong.push((path, asked));
        }
    }
    eprintln!(
        "{} transactions, {} wrong, {} without a parent",
        report.transactions.len(),
        wrong.len(),
        missing.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(missing.is_empty(), "{missing:?} of {}: {:?}", report.transactions.len(), report.summary);
    assert_eq!(by_header, EACH);
    // A trace has exactly what one request of the first application led to.
    let mut traces: HashMap<&str, Vec<&str>> = HashMap::new();
    for transaction in &report.transactions {
        traces.entry(&transaction.trace_id).or_default().push(own_path(transaction));
    }
    for (trace, paths) in traces.iter().filter(|(trace, _)| **trace != &header[3..35]) {
        let number =
            |path: &str| path.rsplit('/').next().unwrap_or_default().split("-a").next().unwrap().to_owned();
        let numbers: HashSet<String> =
            paths.iter().map(|path| number(path).trim_end_matches("-b").to_owned()).collect();
        assert_eq!(numbers.len(), 1, "{trace}: {paths:?}");
    }
}

#[test]
fn agents_that_run_inside_are_named() {
    for (agent, name) in [
        (Agent::None, None),
        (Agent::OpenTelemetry, Some("OpenTelemetry")),
        (Agent::Elastic, Some("Elastic APM")),
        (Agent::Datadog, Some("Datadog")),
        (Agent::NewRelic, Some("New Relic")),
    ] {
        let served = Served::with_agent(agent).unwrap();
        let attach = Pyapm::attach(served.pid(), &[]).unwrap();
        let report = attach.stop().unwrap();
        assert_eq!(report.attached.agents, name.into_iter().collect::<Vec<_>>(), "{agent:?}");
        let told = |text: &str| match name {
            Some(name) => text.contains(&format!("{name} runs inside")),
            None => !text.contains("runs inside"),
        };
        assert!(told(&report.stderr), "{agent:?}: {}", report.stderr);
        if agent == Agent::Elastic {
            let doctor = harness::pyapm::run(&["doctor", "--pid", &served.pid().to_string()]).unwrap();
            let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
            assert!(told(&doctor), "{doctor}");
        }
    }
}

#[test]
fn the_headers_of_a_caller_continue_its_trace() {
    let served = Served::start(Framework::Flask, &Python::first().unwrap()).unwrap();
    let attach = Pyapm::attach(served.pid(), &[]).unwrap();
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let w3c = format!("00-{trace}-{span}-01");
    /// Path, headers, and what they tell: by which header, whether recorded, the state.
    type Case =
        (&'static str, Vec<(&'static str, String)>, Option<TraceSource>, Option<bool>, Option<&'static str>);
    let cases: [Case; 6] = [
        (
            "/users/1",
            vec![
                ("traceparent", w3c.clone()),
                ("tracestate", "a=1,b=2".into()),
                ("TraceState", "c=3".into()),
            ],
            Some(TraceSource::Traceparent),
            Some(true),
            Some("a=1,b=2,c=3"),
        ),
        ("/users/2", vec![("b3", format!("{trace}-{span}-0"))], Some(TraceSource::B3), Some(false), None),
        (
            "/users/3",
            vec![("X-B3-TraceId", trace.into()), ("X-B3-SpanId", span.into())],
            Some(TraceSource::B3),
            None,
            None,
        ),
        (
            "/users/4",
            vec![("Elastic-Apm-Traceparent", w3c.clone())],
            Some(TraceSource::ElasticApmTraceparent),
            Some(true),
            None,
        ),
        (
            "/users/5",
            vec![("traceparent", format!("{w3c}-more")), ("tracestate", "a=1".into())],
            None,
            None,
            None,
        ),
        ("/users/6", vec![], None, None, None),
    ];
    for (path, headers, ..) in &cases {
        ask_with(&served, path, headers);
    }
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), cases.len());
    for (path, _, source, sampled, state) in cases {
        let found = report.transactions.iter().find(|found| own_path(found) == path).unwrap();
        assert_eq!((found.trace_source, found.trace_sampled), (source, sampled), "{path}");
        assert_eq!(found.trace_state.as_deref(), state, "{path}");
        let continues = (found.trace_id.as_str(), found.parent_span_id.as_deref()) == (trace, Some(span));
        assert_eq!(continues, source.is_some(), "{path}");
        assert!(is_id(&found.trace_id, 32) && is_id(&found.span_id, 16));
        assert_eq!(found.parent_span_id.is_some(), source.is_some(), "{path}");
    }
}

fn ask_with(served: &Served, path: &str, headers: &[(&str, String)]) {
    use std::io::{Read as _, Write as _};
    let harness::load::Address::Tcp(address) = &served.address else { panic!("no TCP address") };
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Base64 of an id, as JSON has bytes, in hexadecimal digits.
fn hex(base64: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut text) = (0u32, 0, String::new());
    for letter in base64.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            text.push_str(&format!("{:02x}", bits >> count & 0xff));
        }
    }
    text
}

/// Whole transactions of the last hour; none before there is a history.
fn kept_in(history: &Path) -> Vec<Transaction> {
    let file = history.to_str().unwrap();
    let report = ["report", "--history", file, "--format", "json", "--last", "1h", "--rows", "1000"];
    let output = harness::pyapm::run(&report).unwrap();
    let report: Past = serde_json::from_slice(&output.stdout).unwrap_or_default();
    report.applications.into_iter().flat_map(|one| one.slowest).collect()
}

#[test]
fn ids_are_the_same_in_every_output() {
    const REQUESTS: usize = 40;
    let served = Served::start(Framework::Flask, &Python::first().unwrap()).unwrap();
    let harness::load::Address::Tcp(address) = &served.address else { panic!("no TCP address") };
    let receiver = Receiver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let page_port = free_port().unwrap();
    let history = folder.path().join("history.db");
    let config = format!(
        "[prometheus]\nlisten = '127.0.0.1:{page_port}'\n[log]\nfile = '{}/log'\nslow_milliseconds = 0\n\
         [history]\nfile = '{}'\nslowest_per_minute = {REQUESTS}\n[otlp]\nendpoint = 'http://127.0.0.1:{}'\nprotocol = 'grpc'\nslow_milliseconds = 0\n\
         [[discovery.include]]\nname = 'told'\nport = [{}]\n",
        folder.path().display(),
        history.display(),
        receiver.grpc,
        address.port()
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "told")).unwrap();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for number in 0..REQUESTS {
        let header = format!("00-{trace}-{:016x}-01", number + 1);
        let headers = if number % 2 == 0 { vec![] } else { vec![("traceparent", header)] };
        ask_with(&served, &format!("/users/{number}"), &headers);
    }
    type Ids = BTreeSet<(String, String)>;
    let logged = || -> Ids {
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let id = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
        lines.map(|line| (id(&line, "trace_id"), id(&line, "span_id"))).collect()
    };
    wait::until("every line", || Ok((logged().len() >= REQUESTS).then_some(()))).unwrap();
    let logged = logged();
    let sent = wait::until("every span", || {
        let spans = spans(&receiver.received()?);
        let id = |span: &serde_json::Value, key: &str| hex(span[key].as_str().unwrap_or_default());
        let sent: Ids = spans.iter().map(|(_, span)| (id(span, "traceId"), id(span, "spanId"))).collect();
        Ok((sent.len() >= REQUESTS).then_some(sent))
    })
    .unwrap();
    assert_eq!(logged.len(), REQUESTS);
    assert!(logged.iter().all(|(trace, span)| is_id(trace, 32) && is_id(span, 16)), "{logged:?}");
    assert_eq!(logged, sent, "OTLP and the log");
    assert_eq!(logged.iter().filter(|(own, _)| own == trace).count(), REQUESTS / 2);
    let kept = wait::until("every transaction in the history", || {
        let kept: Ids = kept_in(&history).into_iter().map(|one| (one.trace_id, one.span_id)).collect();
        Ok((kept.len() >= REQUESTS).then_some(kept))
    })
    .unwrap();
    assert_eq!(logged, kept, "the history and the log");
    // The page is made anew about once in a second.
    let text = wait::until("exemplars on the page", || {
        let (_, text) = page(page_port, "/metrics", "Accept: application/openmetrics-text\r\n")?;
        Ok(text.contains("# {trace_id=\"").then_some(text))
    })
    .unwrap();
    for rest in text.split("# {trace_id=\"").skip(1) {
        let (trace, rest) = rest.split_once('"').unwrap();
        let span = rest.split_once("span_id=\"").unwrap().1.split('"').next().unwrap();
        assert!(logged.contains(&(trace.to_owned(), span.to_owned())), "{trace} {span}");
    }
}
