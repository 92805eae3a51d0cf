//! One request on its way. What comes back is one of three: taken (maybe in part), to be tried again, or refused for good
//! (OTLP specification 1.7, "Failures").

use super::batch::{Message, Outgoing};
use super::settings::{Protocol, Settings};
use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceResponse;
use opentelemetry_proto::tonic::collector::profiles::v1development::profiles_service_client::ProfilesServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use std::io::Write as _;
use std::str::FromStr as _;
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Spans, records or points that the receiver refused of it.
    Taken {
        rejected: u64,
    },
    /// Later: after this pause if it said one.
    Again {
        pause: Option<Duration>,
        why: String,
    },
    Refused {
        why: String,
    },
}

/// Made once; connections are made when they are needed, and again when they break.
#[derive(Clone, Debug)]
pub(super) enum Sender {
    Grpc { channel: Channel, metadata: MetadataMap, gzip: bool, timeout: Duration },
    Http { client: reqwest::Client, base: String, gzip: bool },
}

impl Sender {
    /// # Errors
    /// When headers or certificates cannot be used.
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let ca = match &settings.ca {
            Some(path) => {
                Some(std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?)
            }
            None => None,
        };
        match settings.protocol {
            Protocol::Grpc => grpc(settings, ca),
            Protocol::Http => http(settings, ca),
        }
    }

    pub(super) async fn send(&self, outgoing: &Outgoing) -> Outcome {
        match self {
            Self::Grpc { channel, metadata, gzip, timeout } => {
                let call = call(channel.clone(), metadata, *gzip, &outgoing.message);
                match tokio::time::timeout(*timeout, call).await {
                    Ok(Ok(rejected)) => Outcome::Taken { rejected },
                    Ok(Err(status)) => judged(&status),
                    Err(_) => Outcome::Again { pause: None, why: "no answer in time".to_owned() },
                }
            }
            Self::Http { client, base, gzip } => {
                match post(client, base, *gzip, &outgoing.message).await {
                    Ok(outcome) => outcome,
                    // It never arrived, or its answer did not.
                    Err(error) => Outcome::Again { pause: None, why: format!("{error:#}") },
                }
            }
        }
    }
}

fn grpc(settings: &Settings, ca: Option<Vec<u8>>) -> anyhow::Result<Sender> {
    let mut endpoint = Endpoint::from(settings.endpoint.clone())
        .connect_timeout(settings.timeout)
        .user_agent(concat!("pyapm/", env!("CARGO_PKG_VERSION")))
        .context("cannot make a user agent")?;
    if settings.endpoint.scheme_str() == Some("https") {
        let tls = match ca {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).context("cannot set TLS up for the OTLP receiver")?;
    }
    let mut metadata = MetadataMap::new();
    for (name, value) in &settings.headers {
        let key = MetadataKey::<Ascii>::from_str(&name.to_lowercase())
            .with_context(|| format!("`{name}` is no name of a header"))?;
        let value = MetadataValue::from_str(value)
            .with_context(|| format!("the value of the header `{name}` cannot be sent"))?;
        metadata.insert(key, value);
    }
    Ok(Sender::Grpc {
        channel: endpoint.connect_lazy(),
        metadata,
        gzip: settings.gzip,
        timeout: settings.timeout,
    })
}

fn http(settings: &Settings, ca: Option<Vec<u8>>) -> anyhow::Result<Sender> {
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in &settings.headers {
        let key = reqwest::header::HeaderName::from_str(name)
            .with_context(|| format!("`{name}` is no name of a header"))?;
        let value = reqwest::header::HeaderValue::from_str(value)
            .with_context(|| format!("the value of the header `{name}` cannot be sent"))?;
        headers.insert(key, value);
    }
    let mut builder = reqwest::Client::builder()
        .timeout(settings.timeout)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("pyapm/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca {
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).context("the file of certificates holds none")?;
        builder = builder.tls_built_in_root_certs(false);
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    let base = settings.endpoint.to_string().trim_end_matches('/').to_owned();
    Ok(Sender::Http { client: builder.build().context("cannot set HTTP up")?, base, gzip: settings.gzip })
}

/// One call; how many items the receiver refused of what it took.
async fn call(
    channel: Channel,
    metadata: &MetadataMap,
    gzip: bool,
    message: &Message,
) -> Result<u64, tonic::Status> {
    fn with<T>(metadata: &MetadataMap, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = metadata.clone();
        request
    }
    macro_rules! export {
        ($client:ident, $message:expr, $rejected:ident) => {{
            let mut client = $client::new(channel);
            if gzip {
                client = client.send_compressed(CompressionEncoding::Gzip);
            }
            let response = client.export(with(metadata, $message.clone())).await?.into_inner();
            response.partial_success.map_or(0, |partial| partial.$rejected)
        }};
    }
    let rejected: i64 = match message {
        Message::Traces(message) => export!(TraceServiceClient, message, rejected_spans),
        Message::Metrics(message) => export!(MetricsServiceClient, message, rejected_data_points),
        Message::Logs(message) => export!(LogsServiceClient, message, rejected_log_records),
        Message::Profiles(message) => export!(ProfilesServiceClient, message, rejected_profiles),
    };
    Ok(u64::try_from(rejected).unwrap_or(0))
}

/// The codes after which a client is to try again, by the specification. (`ResourceExhausted` is one only if the receiver
/// says when; most receivers do not say it and mean it all the same.)
fn judged(status: &tonic::Status) -> Outcome {
    let why = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::ResourceExhausted
        // What tonic calls a connection that broke or was never made.
        | Code::Unknown => Outcome::Again { pause: None, why },
        _ => Outcome::Refused { why },
    }
}

async fn post(
    client: &reqwest::Client,
    base: &str,
    gzip: bool,
    message: &Message,
) -> anyhow::Result<Outcome> {
    let (path, bytes) = match message {
        Message::Traces(message) => ("/v1/traces", message.encode_to_vec()),
        Message::Metrics(message) => ("/v1/metrics", message.encode_to_vec()),
        Message::Logs(message) => ("/v1/logs", message.encode_to_vec()),
        Message::Profiles(message) => ("/v1development/profiles", message.encode_to_vec()),
    };
    let mut request =
        client.post(format!("{base}{path}")).header(reqwest::header::CONTENT_TYPE, "application/x-protobuf");
    let body = if gzip {
        request = request.header(reqwest::header::CONTENT_ENCODING, "gzip");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes)?;
        encoder.finish()?
    } else {
        bytes
    };
    let response = request.body(body).send().await?;
    let status = response.status();
    let why = format!("the receiver answered {status}");
    Ok(match status.as_u16() {
        200..=299 => Outcome::Taken { rejected: rejected(message, response).await },
        429 | 502 | 503 | 504 => {
            let pause = response.headers().get(reqwest::header::RETRY_AFTER);
            let seconds = pause.and_then(|value| value.to_str().ok()?.parse().ok());
            Outcome::Again { pause: seconds.map(Duration::from_secs), why }
        }
        _ => Outcome::Refused { why },
    })
}

/// Largest answer that is read.
const MOST_ANSWER: usize = 64 * 1024;

/// How many items the receiver refused of what it took; nothing, when its answer does not tell.
async fn rejected(message: &Message, mut response: reqwest::Response) -> u64 {
    let mut bytes = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        if bytes.len() + part.len() > MOST_ANSWER {
            return 0;
        }
        bytes.extend_from_slice(&part);
    }
    macro_rules! decoded {
        ($response:ident, $rejected:ident) => {
            $response::decode(bytes.as_slice())
                .ok()
                .and_then(|answer| Some(answer.partial_success?.$rejected))
        };
    }
    let rejected = match message {
        Message::Traces(_) => decoded!(ExportTraceServiceResponse, rejected_spans),
        Message::Metrics(_) => decoded!(ExportMetricsServiceResponse, rejected_data_points),
        Message::Logs(_) => decoded!(ExportLogsServiceResponse, rejected_log_records),
        Message::Profiles(_) => decoded!(ExportProfilesServiceResponse, rejected_profiles),
    };
    rejected.and_then(|rejected| u64::try_from(rejected).ok()).unwrap_or(0)
}
