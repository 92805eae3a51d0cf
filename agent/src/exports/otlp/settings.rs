//! Where to send and how: the configuration first, then the standard environment (OpenTelemetry specification,
//! "OpenTelemetry Protocol Exporter"), then its defaults. Signals that go the same way share a destination.

use super::environment::{Environment, Read, pairs};
use super::signal::Signal;
use crate::config::Otlp;
use crate::outputs::otlp::Keep;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One receiver, and what it is sent: decided before the first request.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// What is sent, and where to: over HTTP each has a path.
    pub(super) signals: BTreeMap<Signal, http::Uri>,
    pub(super) way: Way,
    pub(super) metrics_interval: Duration,
    pub(super) keep: Keep,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) attributes: Vec<(String, String)>,
    /// Requests that wait, at most.
    pub(super) queue: usize,
    /// What of the environment is ignored, as sentences.
    pub(super) ignored: Vec<String>,
}

/// All that signals must have in common to share connections.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Way {
    /// Scheme and authority.
    pub receiver: http::Uri,
    pub protocol: Protocol,
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    pub timeout: Duration,
    pub ca: Option<PathBuf>,
    /// Certificate and key that we show.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

impl Destination {
    /// `otlp`, if everything goes there; else with the signals.
    pub(super) fn label(&self, is_only: bool) -> String {
        let names: Vec<&str> = self.signals.keys().map(|signal| signal.name()).collect();
        if is_only { "otlp".to_owned() } else { format!("otlp_{}", names.join("_")) }
    }

    pub(super) fn sends(&self, signal: Signal) -> bool {
        self.signals.contains_key(&signal)
    }
}

/// None when there is no receiver.
///
/// # Errors
/// When the section or the environment says what cannot be.
pub(super) fn destinations(section: &Otlp, read: Read<'_>) -> anyhow::Result<Vec<Destination>> {
    let mut environment = Environment::new(read);
    let interval = environment.variable("OTEL_METRIC_EXPORT_INTERVAL");
    let interval = environment.milliseconds(interval, "OTEL_METRIC_EXPORT_INTERVAL");
    let attributes = pairs(&environment.variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    let mut all: Vec<Destination> = Vec::new();
    for signal in Signal::ALL {
        let is_configured = section.signals.iter().any(|known| known == signal.name());
        if !(is_configured && environment.wants(signal)) {
            continue;
        }
        let Some((address, way)) = way(section, signal, &mut environment)? else { continue };
        match all.iter_mut().find(|known| known.way == way) {
            Some(known) => drop(known.signals.insert(signal, address)),
            None => all.push(Destination {
                signals: [(signal, address)].into(),
                way,
                metrics_interval: seconds(section.metrics_interval_seconds)
                    .or(interval)
                    .unwrap_or(Duration::from_secs(60)),
                keep: Keep {
                    slow_ns: section.slow_milliseconds.saturating_mul(1_000_000),
                    per_second: section.ordinary_per_second,
                    most_per_second: section.special_per_second,
                },
                attributes: attributes.clone(),
                queue: section.queue_requests as usize,
                ignored: Vec::new(),
            }),
        }
    }
    if let Some(first) = all.first_mut() {
        first.ignored = environment.ignored;
    }
    Ok(all)
}

fn seconds(value: Option<f64>) -> Option<Duration> {
    value.map(Duration::from_secs_f64)
}

/// Of one signal: its address, and the way there. `None` when nobody has said where to.
fn way(
    section: &Otlp,
    signal: Signal,
    environment: &mut Environment<'_>,
) -> anyhow::Result<Option<(http::Uri, Way)>> {
    let text = |environment: &Environment<'_>, own: &Option<String>, name: &str| {
        own.clone().or_else(|| environment.exporter(signal, name).map(|value| value.text))
    };
    let file = |environment: &Environment<'_>, own: &Option<PathBuf>, name: &str| {
        own.clone().or_else(|| environment.exporter(signal, name).map(|value| value.text.into()))
    };
    let protocol = match text(environment, &section.protocol, "PROTOCOL").as_deref() {
        None | Some("grpc") => Protocol::Grpc,
        Some("http/protobuf") => Protocol::Http,
        Some(other) => bail!("the OTLP protocol `{other}` is not spoken; `grpc` and `http/protobuf` are"),
    };
    // A signal's own address is taken as it is; to the one for all its path is added.
    let (endpoint, is_own) = match &section.endpoint {
        Some(endpoint) => (endpoint.clone(), false),
        None => match environment.exporter(signal, "ENDPOINT") {
            Some(value) => (value.text, value.is_own),
            None => return Ok(None),
        },
    };
    let insecure = environment.exporter(signal, "INSECURE").map(|value| value.text);
    let endpoint = address(&endpoint, protocol, insecure.as_deref())?;
    let mut headers = pairs(&text(environment, &None, "HEADERS").unwrap_or_default());
    headers.retain(|(name, _)| !section.headers.keys().any(|own| own.eq_ignore_ascii_case(name)));
    headers.extend(section.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    let compression = text(environment, &section.compression, "COMPRESSION");
    if compression.as_deref().is_some_and(|name| !["gzip", "none"].contains(&name)) {
        environment.ignore("OTEL_EXPORTER_OTLP_COMPRESSION", "is neither `gzip` nor `none`");
    }
    let timeout = environment.exporter(signal, "TIMEOUT").map(|value| value.text);
    let timeout = environment.milliseconds(timeout, "OTEL_EXPORTER_OTLP_TIMEOUT");
    let identity = match (
        file(environment, &section.client_certificate_file, "CLIENT_CERTIFICATE"),
        file(environment, &section.client_key_file, "CLIENT_KEY"),
    ) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("for OTLP a client's certificate and its key go together, and one is missing"),
    };
    let way = Way {
        receiver: with_path(&endpoint, "/")?,
        protocol,
        headers,
        gzip: compression.as_deref() == Some("gzip"),
        timeout: seconds(section.timeout_seconds).or(timeout).unwrap_or(Duration::from_secs(10)),
        ca: file(environment, &section.ca_file, "CERTIFICATE"),
        identity,
    };
    let whole = match protocol {
        Protocol::Http if !is_own => {
            with_path(&endpoint, &format!("{}{}", endpoint.path().trim_end_matches('/'), signal.path()))?
        }
        Protocol::Http | Protocol::Grpc => endpoint,
    };
    Ok(Some((whole, way)))
}

/// An address may hold a name and a password, or a key: errors do not repeat it.
fn address(text: &str, protocol: Protocol, insecure: Option<&str>) -> anyhow::Result<http::Uri> {
    let uri: http::Uri = text.trim().parse().context("the OTLP endpoint is no address")?;
    let host = uri.host().unwrap_or_default().to_owned();
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if has_user && protocol == Protocol::Grpc {
        bail!("the OTLP endpoint at `{host}` has a user, whom gRPC cannot name; try `otlp.headers`");
    }
    match (uri.scheme_str(), protocol) {
        (Some("http" | "https"), _) if !host.is_empty() => Ok(uri),
        // What gRPC's own libraries take, too: `collector:4317`.
        (None, Protocol::Grpc) if uri.port().is_some() => {
            let is_plain = insecure.is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let scheme = if is_plain { "http" } else { "https" };
            format!("{scheme}://{}", text.trim()).parse().context("the OTLP endpoint is no address")
        }
        _ => bail!("the OTLP endpoint at `{host}` is not like `http://127.0.0.1:4317`"),
    }
}

fn with_path(uri: &http::Uri, path: &str) -> anyhow::Result<http::Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().context("the OTLP endpoint has no proper path")?);
    http::Uri::from_parts(parts).context("the OTLP endpoint is no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(section: &Otlp, variables: &[(&str, &str)]) -> anyhow::Result<Vec<Destination>> {
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        destinations(section, &read)
    }

    fn addresses(all: &[Destination]) -> Vec<(String, Vec<String>)> {
        let one = |one: &Destination| {
            (one.label(all.len() == 1), one.signals.values().map(ToString::to_string).collect())
        };
        all.iter().map(one).collect()
    }

    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn nothing_is_sent_without_an_endpoint() {
        assert_eq!(of(&Otlp::default(), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap(), []);
    }

    #[test]
    fn the_environment_stands_in_for_what_is_not_configured() {
        let variables = [
            (ENDPOINT, "https://collector:4318/base/"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=se%20cret, Other=1"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod"),
        ];
        let section = Otlp { headers: [("other".to_owned(), "2".to_owned())].into(), ..Otlp::default() };
        let all = of(&section, &variables).unwrap();
        let [one] = &all[..] else { panic!("{all:?}") };
        let way = &one.way;
        assert_eq!((way.protocol, way.gzip), (Protocol::Http, true));
        assert_eq!(way.headers, [("api-key".into(), "se cret".into()), ("other".into(), "2".into())]);
        assert_eq!(way.timeout, Duration::from_millis(2500));
        assert_eq!(way.ca.as_deref(), Some("/ca.pem".as_ref()));
        assert_eq!(way.identity, Some(("/c.pem".into(), "/k.pem".into())));
        assert_eq!((one.metrics_interval, one.attributes.len()), (Duration::from_secs(5), 1));
        let base = "https://collector:4318/base/v1";
        let expected = ["traces", "metrics", "logs"].map(|signal| format!("{base}/{signal}"));
        assert_eq!(addresses(&all), [("otlp".to_owned(), expected.to_vec())]);
        // The configuration goes first, in each key by itself.
        let own = Otlp {
            endpoint: Some("http://127.0.0.1:4317".into()),
            protocol: Some("grpc".into()),
            compression: Some("none".into()),
            timeout_seconds: Some(1.0),
            ..section
        };
        let all = of(&own, &variables).unwrap();
        let way = &all[0].way;
        assert_eq!((way.receiver.port_u16(), way.protocol), (Some(4317), Protocol::Grpc));
        assert_eq!((way.gzip, way.timeout), (false, Duration::from_secs(1)));
    }

    #[test]
    fn a_signal_may_have_a_receiver_of_its_own() {
        let variables = [
            (ENDPOINT, "http://all:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:1/as-it-is"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "logs:4317"),
        ];
        let all = of(&Otlp::default(), &variables).unwrap();
        let expected = [
            ("otlp_traces", "https://traces:1/as-it-is"),
            ("otlp_metrics", "http://all:4318/v1/metrics"),
            ("otlp_logs", "https://logs:4317/"),
        ];
        assert_eq!(
            addresses(&all),
            expected.map(|(label, address)| (label.to_owned(), vec![address.to_owned()]))
        );
        assert_eq!(all[0].way.headers, [("a".into(), "b".into())]);
        assert!(all[1].way.headers.is_empty());
        // Without an endpoint for all, only that which has one is sent.
        let alone = of(&Otlp::default(), &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://x:1")]).unwrap();
        assert_eq!(addresses(&alone), [("otlp".to_owned(), vec!["http://x:1/".to_owned()])]);
    }

    #[test]
    fn a_signal_that_another_exporter_has_is_not_sent() {
        let variables = [
            (ENDPOINT, "http://all:4317"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_LOGS_EXPORTER", "console, otlp"),
        ];
        let all = of(&Otlp::default(), &variables).unwrap();
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!(one.signals.keys().collect::<Vec<_>>(), [&Signal::Logs]);
    }

    #[test]
    fn what_cannot_be_is_told_and_secrets_are_not() {
        for (endpoint, protocol) in [
            ("collector", "grpc"),
            ("collector:4318", "http/protobuf"),
            ("ftp://key:secret@x", "http/protobuf"),
            ("http://key:secret@x:4317", "grpc"),
            ("http://", "grpc"),
            ("not a uri with a secret", "grpc"),
        ] {
            let section =
                Otlp { endpoint: Some(endpoint.into()), protocol: Some(protocol.into()), ..Otlp::default() };
            let error = of(&section, &[]).expect_err(endpoint);
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
        assert!(
            of(&Otlp::default(), &[(ENDPOINT, "http://x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")])
                .is_err()
        );
        assert!(
            of(&Otlp::default(), &[(ENDPOINT, "http://x"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k")]).is_err()
        );
        let ignored = [
            (ENDPOINT, "x:1"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "TRUE"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ];
        let all = of(&Otlp::default(), &ignored).unwrap();
        assert_eq!(all[0].ignored.len(), 2, "{:?}", all[0].ignored);
        assert_eq!(all[0].way.receiver.to_string(), "http://x:1/");
        assert_eq!((all[0].way.gzip, all[0].way.timeout), (false, Duration::from_secs(10)));
    }
}
