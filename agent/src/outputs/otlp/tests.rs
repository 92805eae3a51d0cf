//! One transaction in every signal; a real collector receives them in the privileged tests.

use super::{About, Keep, Keeper, logs, metrics, profiles, traces};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use pyapm_model::line::{Error, Frame, SampleState, Samples, Span, SpanKind, Transaction};
use pyapm_model::metric::{self, Family, Histogram, Kind, Metrics};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";

fn frame(function: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: "/srv/shop/views.py".into(), line: Some(line) }
}

fn transaction() -> Transaction {
    let span = Span {
        name: "SELECT users".into(),
        db_system: Some("mysql".into()),
        db_query: Some("SELECT ?".into()),
        span_id: "00f067aa0ba902b7".into(),
        parent_span_id: ROOT.into(),
        stack: vec![frame("user_detail", 12)].into(),
        reply_seen: true,
        ..Span::default()
    };
    let samples = Samples {
        count: 3,
        state: SampleState::Cpu,
        stack: vec![frame("inner", 5), frame("outer", 9)].into(),
    };
    Transaction {
        name: "GET /users/{id}".into(),
        method: Some("GET".into()),
        status: Some(500),
        start_ns: 1_000_000_000,
        duration_ns: 5_000_000,
        trace_id: TRACE.into(),
        span_id: ROOT.into(),
        spans: vec![span],
        samples: vec![samples],
        error: Some(Error {
            kind: "ZeroDivisionError".into(),
            message: Some("division by zero".into()),
            handled: Some(false),
            stack: vec![frame("divide", 3), frame("user_detail", 12)].into(),
            ..Error::default()
        }),
        ..Transaction::default()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}

#[test]
fn spans() {
    let transaction = transaction();
    let request = traces("shop", &About::default(), &[(&transaction, 4.0)]);
    let resource = &request.resource_spans[0];
    assert_eq!(
        text(&resource.resource.as_ref().unwrap().attributes, "service.name").as_deref(),
        Some("shop")
    );
    let [root, call] = resource.scope_spans[0].spans.as_slice() else { panic!() };
    assert_eq!((root.trace_id.len(), root.span_id.len(), root.kind), (16, 8, 2));
    assert_eq!(root.parent_span_id, Vec::<u8>::new());
    assert_eq!(text(&root.attributes, "error.type").as_deref(), Some("ZeroDivisionError"));
    assert_eq!(text(&root.attributes, "pyapm.sampling.weight").as_deref(), Some("4"));
    assert_eq!(root.end_time_unix_nano - root.start_time_unix_nano, 5_000_000);
    assert_eq!(root.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!((&call.trace_id, &call.parent_span_id, call.kind), (&root.trace_id, &root.span_id, 3));
    assert_eq!(text(&call.attributes, "code.function.name").as_deref(), Some("user_detail"));
    assert_eq!(text(&call.attributes, "code.line.number").as_deref(), Some("12"));
    assert_eq!(call.status, None);
}

/// The parts of an outgoing HTTP call, and of a statement what only some have.
#[test]
fn calls_with_their_parts() {
    let mut transaction = transaction();
    let database = Span { checkout_ns: Some(9), returned_rows: Some(3), ..transaction.spans[0].clone() };
    let http = Span {
        kind: SpanKind::Http,
        name: "GET /users/{id}".into(),
        method: Some("GET".into()),
        path: Some("/users/7".into()),
        host: Some("api.test".into()),
        status: Some(503),
        error_type: Some("503".into()),
        request_bytes: Some(0),
        response_bytes: Some(5000),
        dns_ns: Some(11),
        connect_ns: Some(12),
        first_byte_ns: Some(13),
        span_id: "00f067aa0ba902b8".into(),
        ..transaction.spans[0].clone()
    };
    transaction.spans = vec![database, http, transaction.spans[0].clone()];
    let request = traces("shop", &About::default(), &[(&transaction, 1.0)]);
    let [_, database, http, bare] = request.resource_spans[0].scope_spans[0].spans.as_slice() else {
        panic!()
    };
    let told = |span: &opentelemetry_proto::tonic::trace::v1::Span, expected: &[(&str, &str)]| {
        for (key, value) in expected {
            assert_eq!(text(&span.attributes, key).as_deref(), Some(*value), "{key}");
        }
    };
    told(database, &[("pyapm.checkout_ns", "9"), ("db.response.returned_rows", "3")]);
    told(
        http,
        &[
            ("http.request.method", "GET"),
            ("url.path", "/users/7"),
            ("url.domain", "api.test"),
            ("http.response.status_code", "503"),
            ("http.request.body.size", "0"),
            ("http.response.body.size", "5000"),
            ("pyapm.dns_ns", "11"),
            ("pyapm.connect_ns", "12"),
            ("pyapm.first_byte_ns", "13"),
            ("error.type", "503"),
        ],
    );
    assert_eq!(http.status.as_ref().map(|status| status.code), Some(2));
    // What is not known is not told.
    for key in ["pyapm.checkout_ns", "pyapm.dns_ns", "pyapm.connect_ns", "pyapm.first_byte_ns"] {
        assert_eq!(text(&bare.attributes, key), None);
    }
}

#[test]
fn errors() {
    let transaction = transaction();
    let request = logs("shop", &About::default(), &[&transaction]).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    let traceback = "Traceback (most recent call last):\n  File \"/srv/shop/views.py\", line 12, in user_detail\n  \
                     File \"/srv/shop/views.py\", line 3, in divide\nZeroDivisionError: division by zero";
    assert_eq!(text(&record.attributes, "exception.stacktrace").as_deref(), Some(traceback));
    assert_eq!(record.span_id.len(), 8);
    assert_eq!(logs("shop", &About::default(), &[&Transaction::default()]), None);
}

#[test]
fn samples_are_linked_to_their_transaction() {
    let transaction = transaction();
    let request = profiles("shop", &About::default(), &[&transaction], 100).unwrap();
    let dictionary = request.dictionary.unwrap();
    let profile = &request.resource_profiles[0].scope_profiles[0].profiles[0];
    let sample = &profile.samples[0];
    let link = &dictionary.link_table[usize::try_from(sample.link_index).unwrap()];
    assert_eq!((link.trace_id.len(), link.span_id.len(), sample.values.as_slice()), (16, 8, &[3][..]));
    let stack = &dictionary.stack_table[usize::try_from(sample.stack_index).unwrap()];
    let names: Vec<&str> = stack
        .location_indices
        .iter()
        .map(|location| {
            let line = dictionary.location_table[usize::try_from(*location).unwrap()].lines[0];
            let function = dictionary.function_table[usize::try_from(line.function_index).unwrap()];
            dictionary.string_table[usize::try_from(function.name_strindex).unwrap()].as_str()
        })
        .collect();
    assert_eq!(names, ["inner", "outer"]);
    assert_eq!(dictionary.string_table[0], "");
    assert_eq!(profiles("shop", &About::default(), &[&Transaction::default()], 100), None);
}

#[test]
fn histograms_are_exponential_and_cumulative() {
    let mut histogram = Histogram::default();
    for duration_ns in [0, 1_000_000, 1_000_000, 3_000_000] {
        histogram.record(duration_ns, None);
    }
    let mut family = Family::new("http.server.request.duration", "s", Kind::Histogram, "");
    family.push(&[("http.response.status_code", "200")], metric::Value::Histogram(Box::new(histogram)));
    let all = Metrics { started_ns: 1, taken_ns: 2, families: vec![family], ..Metrics::default() };
    let request = metrics(&all, &About::default());
    let data = request.resource_metrics[0].scope_metrics[0].metrics[0].data.as_ref();
    let Some(Data::ExponentialHistogram(histogram)) = data else { panic!("{data:?}") };
    let point = &histogram.data_points[0];
    let buckets = point.positive.as_ref().unwrap();
    assert_eq!((point.count, point.zero_count, buckets.bucket_counts.iter().sum::<u64>()), (4, 1, 3));
    assert_eq!((buckets.bucket_counts.first(), buckets.bucket_counts.last()), (Some(&2), Some(&1)));
    assert_eq!(
        (point.start_time_unix_nano, point.time_unix_nano, histogram.aggregation_temporality),
        (1, 2, 2)
    );
    let status = point.attributes[0].value.as_ref().and_then(|value| value.value.as_ref());
    assert_eq!(status, Some(&Value::IntValue(200)));
}

/// Errors and slow ones are all kept; what is kept of the rest stands for the rest.
#[test]
fn what_is_kept() {
    let mut keeper = Keeper::new(Keep { slow_ns: 1_000_000_000, per_second: 50.0, most_per_second: 10 });
    let (mut stood_for, mut kept_errors) = (0.0, 0);
    for second in 0..20u64 {
        for number in 0..1_000u64 {
            let mixed = (second * 1_000 + number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let error = number % 250 == 0;
            let transaction = Transaction {
                start_ns: second * 1_000_000_000 + number,
                status: Some(if error { 500 } else { 200 }),
                trace_id: format!("{:016x}{:016x}", 7, mixed),
                ..Transaction::default()
            };
            let weight = keeper.judge(&transaction);
            if error {
                kept_errors += u64::from(weight.is_some());
            } else if second > 0 {
                stood_for += weight.unwrap_or(0.0);
            }
        }
    }
    assert_eq!(kept_errors, 80);
    let counts = keeper.counts();
    assert_eq!(counts.kept + counts.ordinary_left + counts.special_left, 20_000);
    // 19 seconds of 996 ordinary ones at a share of about 5 %: four standard deviations.
    let all: f64 = 19.0 * 996.0;
    let deviation = (all * (996.0 / 50.0 - 1.0)).sqrt();
    assert!((stood_for - all).abs() < 4.0 * deviation, "{stood_for} of {all}, deviation {deviation}");
}
