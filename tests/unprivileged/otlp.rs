//! OTLP over TLS, received by OpenTelemetry's own classes: with an authority and a client's certificate of one's own, refused
//! where they do not fit. What is sent is made up here; `tests/privileged/exports_otlp.rs` sends what was seen.

use harness::certificate::Certificate;
use harness::receiver::{Received, Receiver, attributes, records, spans};
use harness::wait;
use pyapm::config::Otlp;
use pyapm::exports::{Publisher, otlp};
use pyapm_model::line::{Frame, Line, SampleState, Samples, Transaction};
use pyapm_model::service::ApplicationInfo;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Something to send: it failed, and was met on the CPU.
fn transaction(number: u64) -> Transaction {
    let frame =
        |function: &str| Frame { function: function.into(), file: "/srv/shop.py".into(), line: Some(7) };
    Transaction {
        name: "GET /{id}".to_owned(),
        status: Some(500),
        trace_id: format!("{:032x}", number + 1),
        span_id: format!("{:016x}", number + 1),
        start_ns: 1_700_000_000_000_000_000,
        duration_ns: 1_000_000,
        samples: vec![Samples {
            count: 3,
            state: SampleState::Cpu,
            stack: vec![frame("inner"), frame("outer")].into(),
        }],
        ..Transaction::default()
    }
}

/// What is logged, for whoever holds a clone.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The export as the service runs it, on a thread of its own, until `condition` holds; then its end, as at the service's.
fn export(section: &Otlp, mut condition: impl FnMut(&Publisher, &Log) -> bool) -> Log {
    let (publisher, log) = (Publisher::default(), Log::default());
    let all = otlp::destinations(section).unwrap();
    let subscribed: Vec<_> = all.into_iter().map(|(name, one)| (one, publisher.subscribe(&name))).collect();
    let writer = log.clone();
    let exporter = std::thread::spawn(move || {
        // Everything at the most verbose level: what a secret must not be in.
        let logging = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(Mutex::new(writer))
            .finish();
        let _while_it_runs = tracing::subscriber::set_default(logging);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(otlp::run(subscribed)).unwrap();
    });
    let shop = Arc::new(ApplicationInfo { name: "shop".to_owned(), ..ApplicationInfo::default() });
    let mut number = 0;
    wait::until("the export", || {
        // Nothing is sent for nothing: there is always something more.
        publisher.publish(&shop, Line::Transaction(Box::new(transaction(number))));
        number += 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
        Ok(condition(&publisher, &log).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", log.text()));
    drop(publisher);
    exporter.join().unwrap();
    log
}

/// `queue`: how many requests wait.
fn section(protocol: &str, receiver: &Receiver, ca: &Path, client: Option<&Certificate>, queue: u32) -> Otlp {
    // gRPC has no way to send a name and a password of an address.
    let receiver = match protocol {
        "grpc" => format!("localhost:{}", receiver.grpc),
        _ => format!("user:mark-password@localhost:{}", receiver.http),
    };
    Otlp {
        endpoint: Some(format!("https://{receiver}")),
        protocol: Some(protocol.to_owned()),
        compression: Some("gzip".to_owned()),
        headers: [("x-token".to_owned(), "mark-header".to_owned())].into(),
        ca_file: Some(ca.to_path_buf()),
        client_certificate_file: client.map(|client| client.certificate.clone()),
        client_key_file: client.map(|client| client.key.clone()),
        signals: ["traces", "logs", "profiles"].map(str::to_owned).to_vec(),
        queue_requests: queue,
        ..Otlp::default()
    }
}

fn has(received: &[Received], signal: &str) -> bool {
    received.iter().any(|one| one.signal == signal)
}

/// Names of the functions of the first sample, innermost first, and the trace that it is linked to, in base64.
fn first_sample(received: &[Received]) -> (Vec<String>, String) {
    let message = &received.iter().find(|one| one.signal == "profiles").unwrap().message;
    let dictionary = &message["dictionary"];
    let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap();
    let sample = &message["resourceProfiles"][0]["scopeProfiles"][0]["profiles"][0]["samples"][0];
    let stack = &dictionary["stackTable"][number(&sample["stackIndex"])];
    let names = stack["locationIndices"].as_array().unwrap().iter().map(|location| {
        let line = &dictionary["locationTable"][number(location)]["lines"][0];
        let function = &dictionary["functionTable"][number(&line["functionIndex"])];
        dictionary["stringTable"][number(&function["nameStrindex"])].as_str().unwrap().to_owned()
    });
    let link = &dictionary["linkTable"][number(&sample["linkIndex"])];
    (names.collect(), link["traceId"].as_str().unwrap().to_owned())
}

#[test]
fn over_tls_everything_arrives_where_certificates_fit_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Certificate::authority(folder.path(), "ca").unwrap();
    let stranger = Certificate::authority(folder.path(), "stranger").unwrap();
    let server = ca.sign(folder.path(), "server").unwrap();
    let client = ca.sign(folder.path(), "client").unwrap();
    let receiver = Receiver::start_with_tls(&server, &ca.certificate).unwrap();
    let mut so_far = 0;
    for (protocol, transport) in [("grpc", "grpc"), ("http/protobuf", "http")] {
        let lost = |publisher: &Publisher| publisher.health()["otlp"].dropped > 0;
        // Its certificate is of an authority that we do not know.
        let log = export(
            &section(protocol, &receiver, &stranger.certificate, Some(&client), 1),
            |publisher, log| lost(publisher) && log.text().contains("the OTLP receiver cannot be reached"),
        );
        let log = log.text();
        assert!(log.contains("invalid peer certificate: UnknownIssuer"), "{protocol}: {log}");
        assert!(log.contains("did not take everything before the end"), "{protocol}: {log}");
        assert!(!log.contains("mark-"), "{protocol}: a secret is in the log: {log}");
        // It does not know us.
        export(&section(protocol, &receiver, &ca.certificate, None, 1), |publisher, _| lost(publisher));
        assert_eq!(receiver.received().unwrap().len(), so_far, "{protocol}: something has arrived");

        let log = export(&section(protocol, &receiver, &ca.certificate, Some(&client), 128), |_, _| {
            let received = receiver.received().unwrap();
            let new = &received[so_far..];
            ["traces", "logs", "profiles"].iter().all(|signal| has(new, signal))
        });
        assert!(!log.text().contains("mark-"), "{protocol}: a secret is in the log: {}", log.text());
        let all = receiver.received().unwrap();
        let received = &all[so_far..];
        for one in received {
            assert_eq!(one.transport, transport);
            assert_eq!(one.headers.get("x-token").map(String::as_str), Some("mark-header"));
            let encoding = one.headers.get("content-encoding").map(String::as_str);
            // What gRPC does with bytes is not told to who receives messages.
            assert!(transport == "grpc" || encoding == Some("gzip"), "{:?}", one.headers);
        }
        let (about, first) = spans(received).into_iter().next().unwrap();
        assert_eq!(about["service.name"], "shop");
        assert_eq!(attributes(&first)["http.response.status_code"], "500");
        assert_eq!(spans(received).len(), records(received).len(), "each is an error");
        let (functions, trace) = first_sample(received);
        assert_eq!(functions, ["inner", "outer"]);
        assert!(spans(received).iter().any(|(_, span)| span["traceId"] == trace.as_str()), "{trace}");
        so_far = all.len();
    }
}

#[test]
fn files_that_are_no_certificates_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (ca, said) in [(empty, "holds no certificate"), (folder.path().join("none"), "cannot read")] {
        let section = Otlp {
            endpoint: Some("https://127.0.0.1:1".to_owned()),
            ca_file: Some(ca.clone()),
            ..Otlp::default()
        };
        let publisher = Publisher::default();
        let all = otlp::destinations(&section).unwrap();
        let subscribed = all.into_iter().map(|(name, one)| (one, publisher.subscribe(&name))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = format!("{:#}", runtime.block_on(otlp::run(subscribed)).unwrap_err());
        assert!(error.contains(said) && error.contains(ca.to_str().unwrap()), "{error}");
    }
}
