//! OTLP, received by OpenTelemetry's own classes: what arrives, and what happens while nobody takes it.

use super::exports_prometheus::{REQUESTS, expect_requests, only, plan, recycling_shop, scrape, sum};
use harness::load::{Plan, Request, drive};
use harness::prometheus::free_port;
use harness::receiver::{Received, Receiver, attributes, last_metrics, records, spans};
use harness::service::Service;
use harness::wait;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const SERVER: &str = "SPAN_KIND_SERVER";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn roots(received: &[Received]) -> Vec<Value> {
    spans(received).into_iter().map(|(_, span)| span).filter(|span| text(span, "kind") == SERVER).collect()
}

fn trace_ids(spans: &[Value]) -> BTreeSet<String> {
    spans.iter().map(|span| text(span, "traceId").to_owned()).collect()
}

/// 16 or 8 bytes, not all zero, in base64.
fn is_id(id: &str, length: usize) -> bool {
    id.len() == length && id.trim_end_matches('=').chars().any(|letter| letter != 'A')
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no number: {value}"))
}

/// Count over all series of a histogram in the last metrics.
fn histogram_count(received: &[Received], name: &str) -> u64 {
    let all = last_metrics(received);
    let of = all.iter().filter(|(_, metric)| text(metric, "name") == name);
    let points = of.flat_map(|(_, metric)| {
        metric["exponentialHistogram"]["dataPoints"].as_array().cloned().unwrap_or_default()
    });
    points.map(|point| number(&point["count"])).sum()
}

fn check_transport(protocol: &str, transport: &str) {
    let receiver = Receiver::start().unwrap();
    let shop = recycling_shop();
    let port = if protocol == "grpc" { receiver.grpc } else { receiver.http };
    let config = format!(
        "[prometheus]\nlisten = ''\n[otlp]\nendpoint = 'http://127.0.0.1:{port}'\nprotocol = '{protocol}'\ncompression = 'gzip'\n\
         slow_milliseconds = 250\nordinary_per_second = 0.0\nmetrics_interval_seconds = 1.0\nheaders = {{ x-token = 'abc' }}\n{}",
        only(&shop, "sent")
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "sent")).unwrap();
    let mut plan = plan(240);
    plan.requests.extend([Request::get("/slow-sql/300"), Request::get("/sqlerror")]);
    let counts = drive(&shop.address, &plan).without_failures().unwrap().by_path_and_status();
    let sent =
        |path: &str| counts.iter().filter(|((key, _), _)| key == path).map(|(_, count)| count).sum::<u64>();
    let of_path = |roots: &[Value], path: &str| {
        roots.iter().filter(|span| attributes(span).get("url.path") == Some(&path.into())).count() as u64
    };
    let failures = sent("/error") + sent("/sqlerror");
    wait::until("all errors, slow ones and totals", || {
        let received = receiver.received()?;
        let roots = roots(&received);
        let paths = ["/error", "/sqlerror", "/slow-sql/300"];
        let whole = paths.iter().all(|path| of_path(&roots, path) >= sent(path));
        let is_counted = histogram_count(&received, "http.server.request.duration") >= 240;
        Ok((whole && is_counted && records(&received).len() as u64 >= failures).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", service.log()));
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");

    let received = receiver.received().unwrap();
    for one in &received {
        assert_eq!(one.transport, transport);
        assert_eq!(one.headers.get("x-token").map(String::as_str), Some("abc"), "{:?}", one.headers);
    }
    let roots = roots(&received);
    for path in ["/error", "/sqlerror", "/slow-sql/300"] {
        assert_eq!(of_path(&roots, path), sent(path), "{path}");
    }
    assert_eq!(trace_ids(&roots).len(), roots.len(), "a transaction arrived twice");
    let failed = roots.iter().filter(|span| span["status"]["code"] == "STATUS_CODE_ERROR").count() as u64;
    assert_eq!(failed, failures);
    for root in &roots {
        let is_slow = number(&root["endTimeUnixNano"]) - number(&root["startTimeUnixNano"]) >= 250_000_000;
        assert!(is_slow || root["status"]["code"] == "STATUS_CODE_ERROR", "an ordinary one: {root}");
    }
    check_family(&spans(&received), &roots);

    assert_eq!(histogram_count(&received, "http.server.request.duration"), 240);
    let names: BTreeSet<String> =
        last_metrics(&received).iter().map(|(_, metric)| text(metric, "name").to_owned()).collect();
    for name in
        ["process.cpu.time", "process.memory.usage", "db.client.operation.duration", "pyapm.worker.count"]
    {
        assert!(names.contains(name), "`{name}` is missing in {names:?}");
    }

    assert_eq!(records(&received).len() as u64, failures);
    let raised: Vec<Value> = records(&received)
        .into_iter()
        .map(|(_, record)| record)
        .filter(|record| attributes(record).get("exception.type") == Some(&"ZeroDivisionError".into()))
        .collect();
    assert!(
        raised.len() as u64 <= sent("/error") && raised.len() as u64 > sent("/error") / 2,
        "{}",
        raised.len()
    );
    let traces = trace_ids(&roots);
    for record in &raised {
        assert!(traces.contains(text(record, "traceId")));
        let attributes = attributes(record);
        let traceback = attributes["exception.stacktrace"].as_str().unwrap();
        assert!(traceback.contains("in inner") && traceback.contains("faults.py"), "{traceback}");
    }
}

/// Ids are valid, parents are there, children lie within them, and statements say where they were made.
fn check_family(all: &[(BTreeMap<String, Value>, Value)], roots: &[Value]) {
    let by_trace: BTreeMap<&str, &Value> = roots.iter().map(|root| (text(root, "traceId"), root)).collect();
    let ids: BTreeSet<(&str, &str)> =
        all.iter().map(|(_, span)| (text(span, "traceId"), text(span, "spanId"))).collect();
    assert_eq!(ids.len(), all.len(), "a span's id is used twice");
    let mut statements = 0;
    for (about, span) in all {
        assert_eq!(about.get("service.name"), Some(&"sent".into()));
        let (trace, id, parent) = (text(span, "traceId"), text(span, "spanId"), text(span, "parentSpanId"));
        assert!(is_id(trace, 24) && is_id(id, 12), "{span}");
        let root = by_trace.get(trace).unwrap_or_else(|| panic!("no root: {span}"));
        assert!(number(&span["startTimeUnixNano"]) >= number(&root["startTimeUnixNano"]), "{span}");
        assert!(number(&span["endTimeUnixNano"]) <= number(&root["endTimeUnixNano"]), "{span}");
        if text(span, "kind") == SERVER {
            assert_eq!(parent, "", "nobody called with a trace of its own");
            continue;
        }
        assert!(ids.contains(&(trace, parent)), "no parent: {span}");
        let attributes = attributes(span);
        statements += 1;
        assert_eq!(attributes.get("db.system.name").and_then(Value::as_str), Some("mysql"), "{span}");
        for key in ["code.function.name", "code.file.path", "code.line.number"] {
            assert!(attributes.contains_key(key), "`{key}` is missing: {span}");
        }
    }
    assert!(statements > 0);
}

#[test]
fn every_error_and_slow_one_arrives_once_by_grpc() {
    check_transport("grpc", "grpc");
}

#[test]
fn every_error_and_slow_one_arrives_once_by_http() {
    check_transport("http/protobuf", "http");
}

#[test]
fn a_receiver_that_is_away_slow_or_refuses_blocks_nothing() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut receiver = Receiver::start().unwrap();
        receiver.behave("unavailable").unwrap();
        let shop = recycling_shop();
        let (port, page) =
            (if protocol == "grpc" { receiver.grpc } else { receiver.http }, free_port().unwrap());
        let config = format!(
            "[prometheus]\nlisten = '127.0.0.1:{page}'\n[otlp]\nendpoint = 'http://127.0.0.1:{port}'\nprotocol = '{protocol}'\n\
             timeout_seconds = 1.0\nordinary_per_second = 0.0\nslow_milliseconds = 60000\nsignals = ['traces', 'logs']\n{}",
            only(&shop, "sent")
        );
        let mut service = Service::start(&config).unwrap();
        service.wait_for("the application", |all| all.iter().any(|one| one.name == "sent")).unwrap();
        let errors =
            Plan { requests: vec![Request::get("/error"), Request::get("/")], total: 100, clients: 2 };
        let mut total = 0;
        let mut ask = || {
            drive(&shop.address, &errors).without_failures().unwrap();
            total += 100;
            // Who scrapes is not held up, and nothing is missing.
            expect_requests(page, total);
        };
        let refusals = |more: usize| {
            wait::until("it to be refused", || Ok((receiver.refused() >= more).then_some(()))).unwrap();
        };
        ask();
        refusals(1);
        receiver.behave("exhausted").unwrap();
        ask();
        refusals(2);
        receiver.behave("slow").unwrap();
        ask();
        receiver.go_away();
        ask();
        receiver.behave("ok").unwrap();
        receiver.come_back().unwrap();
        ask();
        let expected = usize::try_from(total / 2).unwrap();
        let traces = |received: &[Received]| trace_ids(&roots(received)).len();
        wait::until("everything to arrive", || Ok((traces(&receiver.received()?) >= expected).then_some(())))
            .unwrap_or_else(|error| panic!("{protocol}: {error:#}\n{}", service.log()));
        assert_eq!(traces(&receiver.received().unwrap()), expected, "{protocol}");
        let last = scrape(page);
        assert_eq!(sum(&last, REQUESTS), total as f64);
        let lost = last.get("pyapm_export_dropped_total{export=\"otlp\"}");
        assert_eq!(lost, Some(&0.0), "{protocol}: {}", service.log());
    }
}
