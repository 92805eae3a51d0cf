//! Families of metrics: counters and histograms cumulative since the start, durations in exponential buckets.

use super::attributes::{Attributes, SPAN, TRACE, id};
use super::resource::{About, SCHEMA, resource, scope};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, number_data_point,
};
use pyapm_model::metric::{Family, Histogram, Kind, Metrics, Point, SCALE, Value};
use std::collections::BTreeMap;

/// One request for everything that is measured of one application.
#[must_use]
pub fn metrics(metrics: &Metrics, about: &About) -> ExportMetricsServiceRequest {
    let families = metrics.families.iter().filter(|family| !family.points.is_empty());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(&metrics.application, about)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: families.map(|family| metric(metrics, family)).collect(),
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

fn metric(metrics: &Metrics, family: &Family) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.kind {
        Kind::Counter => Data::Sum(Sum {
            data_points: numbers(metrics, family),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers(metrics, family) }),
        Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: family.points.iter().filter_map(|point| histogram(metrics, point)).collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: family.name.clone().into_owned(),
        description: family.help.clone().into_owned(),
        unit: family.unit.clone().into_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn numbers(metrics: &Metrics, family: &Family) -> Vec<NumberDataPoint> {
    let numbers = family.points.iter().filter_map(|point| match point.value {
        Value::Number(value) => Some((point, value)),
        Value::Histogram(_) => None,
    });
    numbers
        .map(|(point, value)| NumberDataPoint {
            attributes: attributes(point),
            start_time_unix_nano: metrics.started_ns,
            time_unix_nano: metrics.taken_ns,
            value: Some(number_data_point::Value::AsDouble(value)),
            ..NumberDataPoint::default()
        })
        .collect()
}

fn histogram(metrics: &Metrics, point: &Point) -> Option<ExponentialHistogramDataPoint> {
    let Value::Histogram(histogram) = &point.value else { return None };
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: metrics.started_ns,
        time_unix_nano: metrics.taken_ns,
        count: histogram.count,
        sum: Some(histogram.sum_ns as f64 / 1e9),
        scale: SCALE,
        zero_count: histogram.zeros,
        positive: buckets(&histogram.exponential),
        exemplars: exemplars(histogram),
        ..ExponentialHistogramDataPoint::default()
    })
}

/// Counts from the first bucket that holds something to the last, those between that hold nothing included.
fn buckets(counts: &BTreeMap<i32, u64>) -> Option<Buckets> {
    let (first, last) = (*counts.first_key_value()?.0, *counts.last_key_value()?.0);
    let bucket_counts = (first..=last).map(|index| counts.get(&index).copied().unwrap_or(0)).collect();
    Some(Buckets { offset: first, bucket_counts })
}

fn exemplars(histogram: &Histogram) -> Vec<Exemplar> {
    let known = histogram.exemplars.iter().flatten();
    known
        .map(|known| Exemplar {
            filtered_attributes: Vec::new(),
            time_unix_nano: known.at_ns,
            span_id: id(&known.span_id, SPAN),
            trace_id: id(&known.trace_id, TRACE),
            value: Some(exemplar::Value::AsDouble(known.duration_ns as f64 / 1e9)),
        })
        .collect()
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    for (name, value) in &point.attributes {
        // The conventions have these as integers.
        match (name.as_ref(), value.parse::<i64>()) {
            ("http.response.status_code" | "server.port", Ok(number)) => {
                attributes.number(name, Some(number));
            }
            _ => attributes.text(name, Some(value)),
        }
    }
    attributes.0
}
