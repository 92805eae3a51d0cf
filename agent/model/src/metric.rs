//! Metrics as families of series, under their OpenTelemetry names. Counters and histograms are totals since
//! the start and never go backwards; what is not known has no point at all.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Upper bounds of the classic histogram's buckets, seconds: those that the OpenTelemetry conventions advise for
/// `http.server.request.duration`, and two more at the low end for databases. Above the last is everything else.
pub const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Resolution of the exponential histogram: bucket bounds grow by `2^(1/2^SCALE)`, about 9 %
/// (`schema` of Prometheus native histograms, `scale` of OTLP).
pub const SCALE: i32 = 3;

/// One metric with all its series.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Family {
    /// OpenTelemetry name: `http.server.request.duration`.
    pub name: Cow<'static, str>,
    /// UCUM unit: `s`, `By`, `1`, `{request}`.
    pub unit: Cow<'static, str>,
    pub help: Cow<'static, str>,
    pub kind: Kind,
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only grows.
    Counter,
    Gauge,
    Histogram,
}

/// One series: its attributes and its value.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Point {
    /// OpenTelemetry attribute names and their values, in a fixed order.
    pub attributes: Vec<(Cow<'static, str>, String)>,
    pub value: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    Histogram(Box<Histogram>),
}

/// Durations in both forms that metrics systems take.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Histogram {
    pub count: u64,
    /// Nanoseconds.
    pub sum_ns: u64,
    /// By bucket of [`BOUNDS`], and above them; not cumulative.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Exponential buckets of [`SCALE`]: index `i` holds `(base^i, base^(i+1)]` seconds, as OTLP has it.
    pub exponential: BTreeMap<i32, u64>,
    /// Durations of 0 ns.
    pub zeros: u64,
    /// The latest of each classic bucket that has a trace.
    pub exemplars: [Option<Exemplar>; BOUNDS.len() + 1],
}

/// A transaction that stands for a bucket.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Exemplar {
    pub trace_id: String,
    pub span_id: String,
    pub duration_ns: u64,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub at_ns: u64,
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, duration_ns: u64, exemplar: Option<Exemplar>) {
        let seconds = duration_ns as f64 / 1e9;
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(duration_ns);
        let bucket = BOUNDS.iter().take_while(|bound| seconds > **bound).count();
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        if let (Some(slot), Some(_)) = (self.exemplars.get_mut(bucket), &exemplar) {
            *slot = exemplar;
        }
        if duration_ns == 0 {
            self.zeros += 1;
        } else {
            *self.exponential.entry(exponential_index(seconds)).or_insert(0) += 1;
        }
    }
}

/// The OTLP bucket of a positive value: `ceil(log2(value) * 2^SCALE) - 1`.
#[must_use]
pub fn exponential_index(value: f64) -> i32 {
    let scaled = value.log2() * f64::from(1 << SCALE);
    scaled.ceil() as i32 - 1
}

impl Family {
    #[must_use]
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        unit: &'static str,
        kind: Kind,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { name: name.into(), unit: unit.into(), help: help.into(), kind, points: Vec::new() }
    }

    /// Adds a series with a number.
    #[must_use]
    pub fn with(mut self, attributes: &[(&'static str, &str)], value: f64) -> Self {
        self.push(attributes, Value::Number(value));
        self
    }

    pub fn push(&mut self, attributes: &[(&'static str, &str)], value: Value) {
        let attributes =
            attributes.iter().map(|(name, value)| (Cow::Borrowed(*name), (*value).to_owned())).collect();
        self.points.push(Point { attributes, value });
    }
}

/// Everything that is measured of one application.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Metrics {
    /// `service.name`.
    pub application: String,
    /// When counting began; wall clock, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    pub taken_ns: u64,
    pub families: Vec<Family>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_one_bucket_of_each_form() {
        let mut histogram = Histogram::default();
        for duration_ns in [0, 1, 500_000, 500_001, 1_000_000_000, 10_000_000_000, 10_000_000_001, u64::MAX] {
            histogram.record(duration_ns, None);
        }
        assert_eq!(histogram.count, 8);
        assert_eq!(histogram.buckets.iter().sum::<u64>(), 8);
        assert_eq!(histogram.exponential.values().sum::<u64>() + histogram.zeros, 8);
        // Bounds belong to the bucket below them (`le`).
        assert_eq!((histogram.buckets[0], histogram.buckets[1]), (3, 1));
        assert_eq!((histogram.buckets[11], histogram.buckets[15], histogram.buckets[16]), (1, 1, 2));
    }

    #[test]
    fn exponential_bounds() {
        // One second is the upper bound of bucket -1: (base^-1, base^0].
        assert_eq!(exponential_index(1.0), -1);
        assert_eq!(exponential_index(1.0001), 0);
        assert_eq!(exponential_index(2.0), 7);
        assert_eq!(exponential_index(0.5), -9);
    }

    #[test]
    fn the_latest_exemplar_stands_for_its_bucket() {
        let exemplar = |trace: &str| {
            Some(Exemplar { trace_id: trace.into(), span_id: String::new(), duration_ns: 1, at_ns: 2 })
        };
        let mut histogram = Histogram::default();
        histogram.record(1, exemplar("a"));
        histogram.record(2, exemplar("b"));
        histogram.record(3, None);
        assert_eq!(histogram.exemplars[0].as_ref().map(|e| e.trace_id.as_str()), Some("b"));
    }
}
