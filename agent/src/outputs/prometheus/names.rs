//! From OpenTelemetry names and units to Prometheus names.

use pyapm_model::metric::{Family, Kind};

/// Name of a family: dots become underscores, the unit and, for counters, `total` go to the end.
#[must_use]
pub fn family(family: &Family) -> String {
    let mut name = identifier(&family.name);
    let unit = match family.unit.as_ref() {
        "s" => "seconds",
        "By" => "bytes",
        // `1` is a ratio only for gauges; annotations such as `{request}` are no units.
        "1" if family.kind == Kind::Gauge => "ratio",
        _ => "",
    };
    if !unit.is_empty() && !name.ends_with(&format!("_{unit}")) {
        name.push('_');
        name.push_str(unit);
    }
    // Only histograms and summaries may have it, says `promtool check metrics`: `process.thread.count` is `process_threads`.
    if family.kind == Kind::Gauge
        && let Some(stem) = name.strip_suffix("_count")
    {
        name = format!("{stem}s");
    }
    if family.kind == Kind::Counter && !name.ends_with("_total") {
        name.push_str("_total");
    }
    name
}

/// Name of a label or metric: what is not allowed in one becomes an underscore.
#[must_use]
pub fn identifier(name: &str) -> String {
    let mut identifier = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        if index == 0 && byte.is_ascii_digit() {
            identifier.push('_');
        }
        identifier.push(if byte.is_ascii_alphanumeric() { char::from(byte) } else { '_' });
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, unit, kind, expected) in [
            ("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds"),
            ("process.cpu.time", "s", Kind::Counter, "process_cpu_time_seconds_total"),
            ("process.memory.usage", "By", Kind::Gauge, "process_memory_usage_bytes"),
            ("http.server.active_requests", "{request}", Kind::Gauge, "http_server_active_requests"),
            ("pyapm.ring.utilization", "1", Kind::Gauge, "pyapm_ring_utilization_ratio"),
            ("process.thread.count", "{thread}", Kind::Gauge, "process_threads"),
        ] {
            assert_eq!(family(&Family::new(name, unit, kind, "")), expected);
        }
        assert_eq!(identifier("9x-y"), "_9x_y");
    }
}
