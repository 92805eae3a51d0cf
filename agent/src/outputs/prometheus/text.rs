//! The text formats: Prometheus 0.0.4 and OpenMetrics 1.0.0, which differ in the names of counters, in exemplars
//! and in the end mark. (`prometheus-client` keeps its own registry of metrics and writes OpenMetrics alone.)

use super::names;
use pyapm_model::metric::{BOUNDS, Exemplar, Family, Histogram, Kind, Metrics, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Memory could not be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot format the metrics")]
pub struct TextError(#[from] std::fmt::Error);

pub(super) fn render(applications: &[Metrics], open_metrics: bool) -> Result<Vec<u8>, TextError> {
    let mut text = String::new();
    for (name, parts) in by_name(applications) {
        let Some((_, first)) = parts.first() else { continue };
        let kind = match first.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics names a counter without its suffix, and has it on the sample alone.
        let title = match name.strip_suffix("_total") {
            Some(stem) if open_metrics && first.kind == Kind::Counter => stem,
            _ => name.as_str(),
        };
        writeln!(text, "# HELP {title} {}", escaped(&first.help, false))?;
        writeln!(text, "# TYPE {title} {kind}")?;
        for (application, family) in &parts {
            for point in &family.points {
                let labels = labels(application, &point.attributes);
                match &point.value {
                    Value::Number(number) => writeln!(text, "{name}{{{labels}}} {}", Number(*number))?,
                    Value::Histogram(histogram) => {
                        write_histogram(&mut text, &name, &labels, histogram, open_metrics)?;
                    }
                }
            }
        }
    }
    if open_metrics {
        text.push_str("# EOF\n");
    }
    Ok(text.into_bytes())
}

/// Families of one name together, whichever applications they are of; in order of their names.
pub(super) fn by_name(applications: &[Metrics]) -> BTreeMap<String, Vec<(&str, &Family)>> {
    let mut families: BTreeMap<String, Vec<(&str, &Family)>> = BTreeMap::new();
    for metrics in applications {
        for family in &metrics.families {
            let known = families.entry(names::family(family)).or_default();
            // One name has one type.
            if known.first().is_none_or(|(_, first)| first.kind == family.kind) {
                known.push((&metrics.application, family));
            }
        }
    }
    families
}

fn labels(application: &str, attributes: &[(std::borrow::Cow<'static, str>, String)]) -> String {
    let mut labels = String::new();
    if !application.is_empty() {
        labels = format!("service_name=\"{}\"", escaped(application, true));
    }
    for (name, value) in attributes {
        let comma = if labels.is_empty() { "" } else { "," };
        // Writing to memory does not fail.
        let _infallible = write!(labels, "{comma}{}=\"{}\"", names::identifier(name), escaped(value, true));
    }
    labels
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    histogram: &Histogram,
    exemplars: bool,
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    for (index, count) in histogram.buckets.iter().enumerate() {
        below += count;
        let bound = BOUNDS.get(index).map_or_else(|| "+Inf".to_owned(), |bound| Number(*bound).to_string());
        write!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}")?;
        if let (true, Some(Some(exemplar))) = (exemplars, histogram.exemplars.get(index)) {
            write_exemplar(text, exemplar)?;
        }
        text.push('\n');
    }
    writeln!(text, "{name}_sum{{{labels}}} {}", Number(histogram.sum_ns as f64 / 1e9))?;
    writeln!(text, "{name}_count{{{labels}}} {}", histogram.count)
}

fn write_exemplar(text: &mut String, exemplar: &Exemplar) -> std::fmt::Result {
    let seconds = Number(exemplar.duration_ns as f64 / 1e9);
    let (trace, span) = (escaped(&exemplar.trace_id, true), escaped(&exemplar.span_id, true));
    let (whole, milli) = (exemplar.at_ns / 1_000_000_000, exemplar.at_ns / 1_000_000 % 1_000);
    write!(text, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {seconds} {whole}.{milli:03}")
}

/// Backslash and line feed are escaped everywhere, the quotation mark in label values.
fn escaped(text: &str, quoted: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quoted => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A float as both formats have it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => formatter.write_str("NaN"),
            f64::INFINITY => formatter.write_str("+Inf"),
            f64::NEG_INFINITY => formatter.write_str("-Inf"),
            // `1.0`, not `1`: OpenMetrics wants canonical bounds.
            value => write!(formatter, "{value:?}"),
        }
    }
}
