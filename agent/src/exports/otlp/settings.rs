//! Where to send and how: the configuration first, then the standard environment (OpenTelemetry specification, "OTLP
//! Exporter Configuration"), then its defaults.

use crate::config::Otlp;
use crate::outputs::otlp::Keep;
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::time::Duration;

/// What is decided before the first request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub endpoint: http::Uri,
    pub protocol: Protocol,
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    pub timeout: Duration,
    pub ca: Option<PathBuf>,
    pub signals: Signals,
    pub metrics_interval: Duration,
    pub keep: Keep,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub attributes: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signals {
    pub traces: bool,
    pub metrics: bool,
    pub logs: bool,
    pub profiles: bool,
}

impl Settings {
    /// `None` when there is no receiver.
    ///
    /// # Errors
    /// When the environment says what cannot be.
    pub(super) fn new(
        section: &Otlp,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let exporter = |name: &str| variable(&format!("OTEL_EXPORTER_OTLP_{name}"));
        let Some(endpoint) = section.endpoint.clone().or_else(|| exporter("ENDPOINT")) else {
            return Ok(None);
        };
        let endpoint: http::Uri =
            endpoint.trim().parse().with_context(|| format!("`{endpoint}` is no endpoint"))?;
        if !matches!(endpoint.scheme_str(), Some("http" | "https")) || endpoint.authority().is_none() {
            bail!("the OTLP endpoint `{endpoint}` is not like `http://127.0.0.1:4317`");
        }
        let protocol = section.protocol.clone().or_else(|| exporter("PROTOCOL"));
        let protocol = match protocol.as_deref() {
            None | Some("grpc") => Protocol::Grpc,
            Some("http/protobuf") => Protocol::Http,
            Some(other) => bail!("the OTLP protocol `{other}` is not spoken; `grpc` and `http/protobuf` are"),
        };
        let mut headers = pairs(&exporter("HEADERS").unwrap_or_default());
        headers.retain(|(name, _)| !section.headers.contains_key(name));
        headers.extend(section.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let compression = section.compression.clone().or_else(|| exporter("COMPRESSION"));
        let milliseconds = |name: &str| variable(name)?.trim().parse().ok().map(Duration::from_millis);
        let seconds = |value: Option<f64>| value.map(Duration::from_secs_f64);
        let has = |signal: &str| section.signals.iter().any(|known| known == signal);
        Ok(Some(Self {
            endpoint,
            protocol,
            headers,
            gzip: compression.as_deref() == Some("gzip"),
            timeout: seconds(section.timeout_seconds)
                .or_else(|| milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT"))
                .unwrap_or(Duration::from_secs(10)),
            ca: section.ca_file.clone().or_else(|| exporter("CERTIFICATE").map(PathBuf::from)),
            signals: Signals {
                traces: has("traces"),
                metrics: has("metrics"),
                logs: has("logs"),
                profiles: has("profiles"),
            },
            metrics_interval: seconds(section.metrics_interval_seconds)
                .or_else(|| milliseconds("OTEL_METRIC_EXPORT_INTERVAL"))
                .unwrap_or(Duration::from_secs(60)),
            keep: Keep {
                slow_ns: section.slow_milliseconds.saturating_mul(1_000_000),
                per_second: section.ordinary_per_second,
                most_per_second: section.special_per_second,
            },
            attributes: pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()),
        }))
    }
}

/// `key=value,key=value`, values percent-encoded (W3C Baggage, as the specification wants).
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), decoded(value.trim())))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', digits @ ..] => {
                digits.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { rest.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_without_an_endpoint() {
        assert_eq!(Settings::new(&Otlp::default(), |_| None).unwrap(), None);
    }

    #[test]
    fn the_environment_stands_in_for_what_is_not_configured() {
        let environment = |name: &str| {
            let value = match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => "https://collector:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL" => "http/protobuf",
                "OTEL_EXPORTER_OTLP_HEADERS" => "api-key=se%20cret, other=1",
                "OTEL_EXPORTER_OTLP_COMPRESSION" => "gzip",
                "OTEL_EXPORTER_OTLP_TIMEOUT" => "2500",
                "OTEL_RESOURCE_ATTRIBUTES" => "deployment.environment.name=prod",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let section = Otlp { headers: [("other".to_owned(), "2".to_owned())].into(), ..Otlp::default() };
        let settings = Settings::new(&section, environment).unwrap().unwrap();
        assert_eq!((settings.protocol, settings.gzip), (Protocol::Http, true));
        assert_eq!(settings.headers, [("api-key".into(), "se cret".into()), ("other".into(), "2".into())]);
        assert_eq!(settings.timeout, Duration::from_millis(2500));
        assert_eq!(settings.attributes.len(), 1);
        let own =
            Otlp { endpoint: Some("http://127.0.0.1:4317".into()), protocol: Some("grpc".into()), ..section };
        let settings = Settings::new(&own, environment).unwrap().unwrap();
        assert_eq!((settings.endpoint.port_u16(), settings.protocol), (Some(4317), Protocol::Grpc));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for endpoint in ["collector:4317", "ftp://x", "http://", "not a uri"] {
            let section = Otlp { endpoint: Some(endpoint.into()), ..Otlp::default() };
            assert!(Settings::new(&section, |_| None).is_err(), "{endpoint}");
        }
    }
}
