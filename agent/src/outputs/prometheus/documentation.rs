//! `docs/metrics.md`: every metric under its OpenTelemetry name and under the one that Prometheus sees, from the list that
//! the code itself goes by.

use super::names;
use pyapm_model::definition::{ALL, Definition, Of};
use pyapm_model::metric::{BOUNDS, Kind, SCALE};

const INTRODUCTION: &str = "\
# Metrics

This page is written by the code (`agent/src/outputs/prometheus/documentation.rs`); a test holds it to that.

The same figures are on the page for Prometheus (`[prometheus]`, by default `http://127.0.0.1:9464/metrics`) and are sent by OTLP
(`[otlp]`). They are of a whole application: all its workers, those that have ended included. Counters and histograms count since the
application is watched and never go backwards while it is, whichever workers come and go. What is not known has no series: absent
is not zero.

On the page for Prometheus each series of an application has the label `service_name`; over OTLP that is the resource's attribute
`service.name`. Names follow the OpenTelemetry semantic conventions 1.37, where they have one. A gauge whose name ends in `count`
becomes a plural, because `promtool check metrics` leaves that ending to histograms.
";

/// The whole page.
#[must_use]
pub fn documentation() -> String {
    let mut text = INTRODUCTION.to_owned();
    let bounds: Vec<String> = BOUNDS.iter().map(f64::to_string).collect();
    text += &format!(
        "\nHistograms of durations have the classic buckets {} s. To a Prometheus that scrapes protobuf (native histograms), and over OTLP,\n\
         they go as exponential histograms of scale {SCALE}, whose buckets grow by {:.1} %. Exemplars (trace and span id) stand at the\n\
         buckets of transactions, in OpenMetrics, protobuf and OTLP.\n",
        bounds.join(", "),
        (2_f64.powf(1.0 / f64::from(1 << SCALE)) - 1.0) * 100.0
    );
    for (of, title, about) in [
        (Of::Application, "Of an application", ""),
        (
            Of::Worker,
            "Of each worker",
            "On the page for Prometheus alone, with `prometheus.worker_label = true`.",
        ),
        (Of::Service, "Of the service itself", "On the page for Prometheus alone, without `service_name`."),
    ] {
        text += &format!("\n## {title}\n\n");
        if !about.is_empty() {
            text += &format!("{about}\n\n");
        }
        text += "| OpenTelemetry | Prometheus | kind | unit | attributes | what it is |\n|---|---|---|---|---|---|\n";
        for definition in ALL.iter().filter(|definition| definition.of == of) {
            text += &row(definition);
        }
    }
    text + LIMITS
}

const LIMITS: &str = "
## Bounds

- An application has 2,000 series of histograms at most; what comes later is recorded in one series whose attributes are `{other}`, and counted
  in `pyapm.series.overflow`.
- Errors have 2,000 types at most; the rest share `{other}`.

## Over statsd

With `[statsd]`, and for the same transactions: `PREFIX.APPLICATION.transaction.NAME.count`, `.errors` (counters) and `.duration` (timer), and
`PREFIX.APPLICATION.db.SYSTEM.OPERATION.count`, `.errors` and `.duration`. With `tags = \"dogstatsd\"` they are `PREFIX.transaction.*` with the tags
`service` and `transaction`, and `PREFIX.db.*` with `service`, `system` and `operation`. One line of a timer stands for all durations of the
interval that are within 9 % of each other, by the sample rate of the protocol.
";

fn row(definition: &Definition) -> String {
    let kind = match definition.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let attributes: Vec<String> = definition.attributes.iter().map(|name| format!("`{name}`")).collect();
    let unit = if definition.unit.is_empty() { String::new() } else { format!("`{}`", definition.unit) };
    let page = names::family(&definition.family());
    format!(
        "| `{}` | `{page}` | {kind} | {unit} | {} | {} |\n",
        definition.name,
        attributes.join(", "),
        definition.help
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PYAPM_WRITE_DOCS=1 cargo test -p pyapm documentation` writes it anew.
    #[test]
    fn the_committed_page_is_what_the_code_says() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var_os("PYAPM_WRITE_DOCS").is_some() {
            std::fs::write(&file, documentation()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), documentation());
    }
}
