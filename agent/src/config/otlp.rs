//! `[otlp]`: where OpenTelemetry data is sent.

use super::section::{Checked, Wrong, section};
use std::collections::BTreeMap;
use std::path::PathBuf;

section! {
    /// OpenTelemetry data, sent by OTLP. What is not set here is taken from the standard environment of the service
    /// (`OTEL_EXPORTER_OTLP_ENDPOINT`, `_PROTOCOL`, `_HEADERS`, `_COMPRESSION`, `_TIMEOUT`, `_CERTIFICATE`,
    /// `_CLIENT_CERTIFICATE`, `_CLIENT_KEY`, `_INSECURE`, each also for one signal, as `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`;
    /// `OTEL_TRACES_EXPORTER` and its kin, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_RESOURCE_ATTRIBUTES`). Files of certificates
    /// are read at the start and at a reload that changes this section.
    pub struct Otlp {
        /// Of the receiver. Without it, and without the environment's, nothing is sent.
        endpoint: Option<String> = None => "\"http://127.0.0.1:4317\"",
        /// `grpc` or `http/protobuf`.
        protocol: Option<String> = None => "\"grpc\"",
        /// Sent with each request.
        headers: BTreeMap<String, String> = BTreeMap::new(),
        /// `gzip` or `none`.
        compression: Option<String> = None => "\"gzip\"",
        /// Of one request, in seconds.
        timeout_seconds: Option<f64> = None => "10.0",
        /// Certificates, in PEM, that the receiver's must come from; else those of the system.
        ca_file: Option<PathBuf> = None => "\"/etc/pyapm/ca.pem\"",
        /// The certificate that pyapm shows to a receiver that asks for one, with its chain, in PEM.
        client_certificate_file: Option<PathBuf> = None => "\"/etc/pyapm/client.pem\"",
        /// The key of `client_certificate_file`, in PEM.
        client_key_file: Option<PathBuf> = None => "\"/etc/pyapm/client-key.pem\"",
        /// What is sent: `traces`, `metrics`, `logs` (errors), `profiles` (samples; not all receivers take them).
        signals: Vec<String> = vec!["traces".into(), "metrics".into(), "logs".into()],
        /// Seconds between two requests with metrics.
        metrics_interval_seconds: Option<f64> = None => "60.0",
        /// All transactions with errors are sent, and all that last so long, in milliseconds.
        slow_milliseconds: u64 = 1000,
        /// Of the rest, so many a second and application, on average, chosen at random; each says for how many it stands.
        ordinary_per_second: f64 = 20.0,
        /// Errors and slow ones a second and application, at most.
        special_per_second: u64 = 1000,
        /// Requests that wait for the receiver, at most; the oldest go first, and their transactions are counted as lost.
        queue_requests: u32 = 128,
    }
}

impl Checked for Otlp {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut one_of = |key: &str, value: Option<&str>, allowed: &[&str]| {
            if value.is_some_and(|value| !allowed.contains(&value)) {
                wrong.push(Wrong::key(key, format!("not one of `{}`", allowed.join("`, `"))));
            }
        };
        one_of("protocol", self.protocol.as_deref(), &["grpc", "http/protobuf"]);
        one_of("compression", self.compression.as_deref(), &["gzip", "none"]);
        for signal in &self.signals {
            one_of("signals", Some(signal), &["traces", "metrics", "logs", "profiles"]);
        }
        for (key, value) in [
            ("timeout_seconds", self.timeout_seconds),
            ("metrics_interval_seconds", self.metrics_interval_seconds),
        ] {
            if value.is_some_and(|value| !(0.1..=86_400.0).contains(&value)) {
                wrong.push(Wrong::key(key, "not from 0.1 to 86400"));
            }
        }
        if self.client_certificate_file.is_some() != self.client_key_file.is_some() {
            let both = "`client_certificate_file` and `client_key_file` go together";
            wrong.push(Wrong::key("client_certificate_file", both));
        }
        if !(1..=100_000).contains(&self.queue_requests) {
            wrong.push(Wrong::key("queue_requests", "not from 1 to 100000"));
        }
        if !(self.ordinary_per_second.is_finite() && self.ordinary_per_second >= 0.0) {
            wrong.push(Wrong::key("ordinary_per_second", "not a number from 0 on"));
        }
        wrong
    }
}
