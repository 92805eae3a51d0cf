//! The delimited protobuf form: each family behind its length. Histograms carry both kinds of buckets; the
//! scraper takes the native ones if it is configured to.

use super::messages::{
    Bucket, BucketSpan, Exemplar, Histogram, LabelPair, Metric, MetricFamily, Number, Timestamp,
};
use super::names;
use super::text::by_name;
use prost::Message as _;
use pyapm_model::metric::{self, BOUNDS, Kind, Point, SCALE, Value};
use std::collections::BTreeMap;

pub(super) fn render(applications: &[metric::Metrics]) -> Vec<u8> {
    let mut document = Vec::new();
    for (name, parts) in by_name(applications) {
        let Some((_, first)) = parts.first() else { continue };
        let r#type = match first.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        };
        let help = first.help.clone().into_owned();
        let points = parts.iter().flat_map(|(application, family)| {
            family.points.iter().map(move |point| metric(application, family.kind, point))
        });
        let family = MetricFamily { name, help, r#type, metric: points.collect() };
        document.extend(family.encode_length_delimited_to_vec());
    }
    document
}

fn metric(application: &str, kind: Kind, point: &Point) -> Metric {
    let own = (!application.is_empty()).then(|| pair("service_name", application));
    let others = point.attributes.iter().map(|(name, value)| pair(&names::identifier(name), value));
    let mut metric = Metric { label: own.into_iter().chain(others).collect(), ..Metric::default() };
    match &point.value {
        Value::Number(value) if kind == Kind::Counter => metric.counter = Some(Number { value: *value }),
        Value::Number(value) => metric.gauge = Some(Number { value: *value }),
        Value::Histogram(value) => metric.histogram = Some(histogram(value)),
    }
    metric
}

fn histogram(histogram: &metric::Histogram) -> Histogram {
    let mut below = 0;
    let bucket = histogram.buckets.iter().enumerate().map(|(index, count)| {
        below += count;
        Bucket {
            cumulative_count: below,
            upper_bound: BOUNDS.get(index).copied().unwrap_or(f64::INFINITY),
            exemplar: histogram.exemplars.get(index).and_then(Option::as_ref).map(exemplar),
        }
    });
    let bucket = bucket.collect();
    let (positive_span, positive_delta) = native(&histogram.exponential);
    Histogram {
        sample_count: histogram.count,
        sample_sum: histogram.sum_ns as f64 / 1e9,
        bucket,
        schema: SCALE,
        // A nanosecond: what is shorter is a zero. A threshold of 0 without spans would mean "no native buckets".
        zero_threshold: 1e-9,
        zero_count: histogram.zeros,
        positive_span,
        positive_delta,
    }
}

/// Runs of neighbouring buckets, and each count as the difference from the one before.
fn native(buckets: &BTreeMap<i32, u64>) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in buckets {
        // Prometheus counts a bucket by its upper bound, OTLP by its lower one.
        let index = index.saturating_add(1);
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index - next, length: 1 }),
        }
        next = index.saturating_add(1);
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count.saturating_sub(before));
        before = count;
    }
    (spans, deltas)
}

fn exemplar(exemplar: &metric::Exemplar) -> Exemplar {
    let seconds = i64::try_from(exemplar.at_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(exemplar.at_ns % 1_000_000_000).unwrap_or(0);
    Exemplar {
        label: vec![pair("trace_id", &exemplar.trace_id), pair("span_id", &exemplar.span_id)],
        value: exemplar.duration_ns as f64 / 1e9,
        timestamp: Some(Timestamp { seconds, nanos }),
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    LabelPair { name: name.to_owned(), value: value.to_owned() }
}
