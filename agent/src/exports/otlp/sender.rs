//! One request on its way. What comes back is one of three: taken (maybe in part), to be tried again, or refused for good
//! (OTLP specification 1.10, "Failures").

use super::batch::{Message, Outgoing};
use super::settings::{Destination, Protocol, Way};
use super::signal::Signal;
use anyhow::{Context, ensure};
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
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
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
    Http { client: reqwest::Client, addresses: BTreeMap<Signal, http::Uri>, gzip: bool },
}

impl Sender {
    /// # Errors
    /// When headers or certificates cannot be used.
    pub(super) fn new(destination: &Destination) -> anyhow::Result<Self> {
        let credentials = Credentials::read(&destination.way)?;
        match destination.way.protocol {
            Protocol::Grpc => grpc(&destination.way, credentials),
            Protocol::Http => http(destination, credentials),
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
            Self::Http { client, addresses, gzip } => {
                match post(client, addresses, *gzip, &outgoing.message).await {
                    Ok(outcome) => outcome,
                    // It never arrived, or its answer did not.
                    Err(error) => Outcome::Again { pause: None, why: format!("{error:#}") },
                }
            }
        }
    }
}

/// What the files of certificates hold, in PEM.
struct Credentials {
    ca: Option<Vec<u8>>,
    /// Certificate and key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Credentials {
    fn read(way: &Way) -> anyhow::Result<Self> {
        let ca = way.ca.as_deref().map(certificates).transpose()?;
        let identity = match &way.identity {
            Some((certificate, key)) => Some((certificates(certificate)?, file(key)?)),
            None => None,
        };
        Ok(Self { ca, identity })
    }
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = file(path)?;
    let has_one = CertificateDer::pem_slice_iter(&pem).next().is_some_and(|one| one.is_ok());
    ensure!(has_one, "`{}` holds no certificate", path.display());
    Ok(pem)
}

fn grpc(way: &Way, credentials: Credentials) -> anyhow::Result<Sender> {
    let mut endpoint = Endpoint::from(way.receiver.clone())
        .connect_timeout(way.timeout)
        .user_agent(concat!("pyapm/", env!("CARGO_PKG_VERSION")))
        .context("cannot make a user agent")?;
    if way.receiver.scheme_str() == Some("https") {
        let mut tls = match credentials.ca {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = credentials.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint = endpoint.tls_config(tls).context("cannot set TLS up for the OTLP receiver")?;
    }
    let mut metadata = MetadataMap::new();
    for (name, value) in &way.headers {
        let key = MetadataKey::<Ascii>::from_str(&name.to_lowercase())
            .with_context(|| format!("`{name}` is no name of a header"))?;
        let mut value = MetadataValue::from_str(value)
            .with_context(|| format!("the value of the header `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        metadata.insert(key, value);
    }
    Ok(Sender::Grpc { channel: endpoint.connect_lazy(), metadata, gzip: way.gzip, timeout: way.timeout })
}

fn http(destination: &Destination, credentials: Credentials) -> anyhow::Result<Sender> {
    let way = &destination.way;
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in &way.headers {
        let key = reqwest::header::HeaderName::from_str(name)
            .with_context(|| format!("`{name}` is no name of a header"))?;
        let mut value = reqwest::header::HeaderValue::from_str(value)
            .with_context(|| format!("the value of the header `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let mut builder = reqwest::Client::builder()
        .timeout(way.timeout)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("pyapm/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = credentials.ca {
        builder = builder.tls_built_in_root_certs(false);
        let all = reqwest::Certificate::from_pem_bundle(&pem).context("a certificate cannot be used")?;
        for certificate in all {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some((certificate, key)) = credentials.identity {
        let both = [certificate, b"\n".to_vec(), key].concat();
        let identity = reqwest::Identity::from_pem(&both).context("the client's key cannot be used")?;
        builder = builder.identity(identity);
    }
    let client = builder.build().context("cannot set HTTP up for the OTLP receiver")?;
    Ok(Sender::Http { client, addresses: destination.signals.clone(), gzip: way.gzip })
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
    let why = reasons(format!("{:?}: {}", status.code(), status.message()), status.source());
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

/// A text with the causes below it, down to why a certificate was not believed.
fn reasons(mut text: String, mut cause: Option<&(dyn Error + 'static)>) -> String {
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

async fn post(
    client: &reqwest::Client,
    addresses: &BTreeMap<Signal, http::Uri>,
    gzip: bool,
    message: &Message,
) -> anyhow::Result<Outcome> {
    let bytes = match message {
        Message::Traces(message) => message.encode_to_vec(),
        Message::Metrics(message) => message.encode_to_vec(),
        Message::Logs(message) => message.encode_to_vec(),
        Message::Profiles(message) => message.encode_to_vec(),
    };
    let address = addresses.get(&message.signal()).context("the signal has no address")?;
    let mut request =
        client.post(address.to_string()).header(reqwest::header::CONTENT_TYPE, "application/x-protobuf");
    let body = if gzip {
        request = request.header(reqwest::header::CONTENT_ENCODING, "gzip");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes)?;
        encoder.finish()?
    } else {
        bytes
    };
    // The address may hold a secret.
    let response = request.body(body).send().await.map_err(reqwest::Error::without_url)?;
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
