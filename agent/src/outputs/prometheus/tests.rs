//! One application in each form; a real scraper reads them in the privileged tests.

use super::messages::MetricFamily;
use super::{Form, render};
use prost::Message as _;
use pyapm_model::metric::{Exemplar, Family, Histogram, Kind, Metrics, Value};

fn shop(application: &str) -> Metrics {
    let mut histogram = Histogram::default();
    let exemplar = Exemplar {
        trace_id: "ab".into(),
        span_id: "cd".into(),
        duration_ns: 3_000_000,
        at_ns: 1_700_000_000_123_000_000,
    };
    histogram.record(3_000_000, Some(exemplar));
    histogram.record(20_000_000_000, None);
    let mut requests = Family::new("http.server.request.duration", "s", Kind::Histogram, "Requests.");
    let attributes = [("http.request.method", "GET"), ("http.route", "/say/\"{word}\"\n")];
    requests.push(&attributes, Value::Histogram(Box::new(histogram)));
    let cpu = Family::new("process.cpu.time", "s", Kind::Counter, "CPU.").with(&[], 1.5);
    Metrics { application: application.into(), families: vec![requests, cpu], ..Metrics::default() }
}

#[test]
fn text() {
    let document = render(Form::Text, &[shop("shop"), shop("other")]).unwrap();
    insta::assert_snapshot!("text", String::from_utf8(document).unwrap());
}

#[test]
fn open_metrics() {
    let document = render(Form::OpenMetrics, &[shop("shop")]).unwrap();
    insta::assert_snapshot!("open_metrics", String::from_utf8(document).unwrap());
}

#[test]
fn protobuf() {
    let document = render(Form::Protobuf, &[shop("shop"), shop("other")]).unwrap();
    let mut rest = document.as_slice();
    let requests = MetricFamily::decode_length_delimited(&mut rest).unwrap();
    let cpu = MetricFamily::decode_length_delimited(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!((requests.name.as_str(), requests.metric.len()), ("http_server_request_duration_seconds", 2));
    assert_eq!((cpu.name.as_str(), cpu.r#type), ("process_cpu_time_seconds_total", 0));
    assert_eq!(cpu.metric[0].counter.map(|counter| counter.value), Some(1.5));
    let histogram = requests.metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.sample_sum), (2, 20.003));
    assert_eq!(histogram.bucket.last().map(|bucket| bucket.cumulative_count), Some(2));
    // 3 ms is in (2^(-68/8), 2^(-67/8)] and 20 s in (2^(34/8), 2^(35/8)] seconds.
    let spans: Vec<_> = histogram.positive_span.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!(spans, [(-67, 1), (101, 1)]);
    assert_eq!(histogram.positive_delta, [1, 0]);
    assert_eq!(histogram.bucket[2].exemplar.as_ref().unwrap().label[0].value, "ab");
}
