//! The page for Prometheus: the whole application's figures at any scrape, whichever workers come and go; read by a real
//! Prometheus; unharmed by bad clients.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Address, Counts, Plan, Request, Stream, drive};
use harness::place::Python;
use harness::prometheus::{Prometheus, Target, checked, free_port, page, samples};
use harness::service::Service;
use harness::wait;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// Three workers that end after some forty requests.
pub(super) fn recycling_shop() -> Gunicorn {
    let mut options = Options::new(Python::first().unwrap());
    options.workers = 3;
    options.arguments = ["--max-requests=40", "--max-requests-jitter=10"].map(str::to_owned).to_vec();
    Gunicorn::start(&options).unwrap()
}

/// This shop alone, under this name. The ring has room for all that these tests cause, also in a build without optimisation on
/// a busy machine: what becomes of a full one is the subject of other tests.
pub(super) fn only(shop: &Gunicorn, name: &str) -> String {
    let Address::Tcp(address) = &shop.address else { panic!("{:?}", shop.address) };
    format!(
        "[collection]\nring_bytes = 134217728\nsampling_hz = 19\n[[discovery.include]]\nname = '{name}'\nport = [{}]\n",
        address.port()
    )
}

pub(super) fn plan(total: u64) -> Plan {
    let requests = ["/", "/products/2", "/error", "/sleep/5", "/nplus1", "/status/404"].map(Request::get);
    Plan { requests: requests.to_vec(), total, clients: 4 }
}

/// Sum of all samples of this name.
pub(super) fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let of = |key: &str| key.split('{').next() == Some(name);
    samples.iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
}

pub(super) fn scrape(port: u16) -> BTreeMap<String, f64> {
    let (status, text) = page(port, "/metrics", "").unwrap();
    assert_eq!(status, 200, "{text}");
    samples(&text).unwrap()
}

pub(super) const REQUESTS: &str = "http_server_request_duration_seconds_count";

/// Waits for the last requests to come through, then holds the exact number.
pub(super) fn expect_requests(port: u16, expected: u64) -> BTreeMap<String, f64> {
    let reached = |samples: &BTreeMap<String, f64>| sum(samples, REQUESTS) >= expected as f64;
    let last = wait::until("the last request", || Ok(Some(scrape(port)).filter(reached))).unwrap();
    assert_eq!(sum(&last, REQUESTS), expected as f64);
    last
}

fn of_status(samples: &BTreeMap<String, f64>, status: u16) -> f64 {
    let label = format!("http_response_status_code=\"{status}\"");
    samples
        .iter()
        .filter(|(key, _)| key.starts_with(REQUESTS) && key.contains(&label))
        .map(|(_, value)| value)
        .sum()
}

/// CPU of the master and its workers, with what those left behind that have ended, in ticks of the kernel.
fn ticks(shop: &Gunicorn) -> u64 {
    let of = |pid: u32, with_children: bool| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .into_iter()
            .flat_map(str::split_whitespace)
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        let times = if with_children { 11..15 } else { 11..13 };
        fields.get(times).map_or(0, |times| times.iter().sum())
    };
    of(shop.master(), true) + shop.workers().unwrap().into_iter().map(|pid| of(pid, false)).sum::<u64>()
}

fn only_grows(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    for (name, value) in before {
        let family = name.split('{').next().unwrap_or_default();
        if ["_total", "_bucket", "_count", "_sum"].iter().any(|end| family.ends_with(end)) {
            let now = after.get(name).unwrap_or_else(|| panic!("`{name}` is gone"));
            assert!(now >= value, "`{name}` went from {value} to {now}");
        }
    }
}

fn count_of(counts: &Counts, status: u16) -> f64 {
    counts.answers.iter().filter(|answer| answer.status == status).count() as f64
}

#[test]
fn any_page_has_the_whole_application_and_nothing_goes_backwards() {
    let shop = recycling_shop();
    let port = free_port().unwrap();
    let before_ticks = ticks(&shop);
    let config = format!("[prometheus]\nlisten = '127.0.0.1:{port}'\n{}", only(&shop, "paged"));
    let _service = Service::start(&config).unwrap();
    let mut last = wait::until("the application's page", || {
        Ok(Some(scrape(port)).filter(|page| sum(page, "process_threads") >= 4.0))
    })
    .unwrap();
    let watched_ticks = ticks(&shop);
    let first_workers = shop.workers().unwrap();
    let load = Stream::start(&shop.address, &plan(1_200), Some(1_200));
    let mut scrapes = 0;
    while !load.is_finished() {
        let page = scrape(port);
        only_grows(&last, &page);
        last = page;
        scrapes += 1;
    }
    let counts = load.finish().without_failures().unwrap();
    assert!(scrapes > 2 && first_workers.is_disjoint(&shop.workers().unwrap()), "no worker was replaced");
    let page = expect_requests(port, 1_200);
    only_grows(&last, &page);
    for status in [200, 404, 500] {
        assert_eq!(of_status(&page, status), count_of(&counts, status), "{status}");
    }
    assert_eq!(sum(&page, "http_server_active_requests"), 0.0);
    assert_eq!(sum(&page, "pyapm_records_dropped_total"), 0.0);
    wait::until("what was seen to be delivered", || {
        let page = scrape(port);
        let is_all = sum(&page, "pyapm_records_seen_total") == sum(&page, "pyapm_records_delivered_total");
        Ok(is_all.then_some(()))
    })
    .unwrap();
    // Each error once, by its exception; by its status where the exception was not seen.
    let errors = |kind: &str| {
        page.get(&format!("pyapm_transaction_errors_total{{service_name=\"paged\",error_type=\"{kind}\"}}"))
            .copied()
            .unwrap_or(0.0)
    };
    assert_eq!(errors("ZeroDivisionError") + errors("500"), count_of(&counts, 500));
    assert!(errors("ZeroDivisionError") > errors("500"));

    // CPU of all workers, the ended ones to their last tick.
    let used = |page: &BTreeMap<String, f64>| sum(page, "process_cpu_time_seconds_total") * 100.0;
    let least = (ticks(&shop) - watched_ticks) as f64;
    let page = wait::until("the CPU time of all workers", || {
        Ok(Some(scrape(port)).filter(|page| used(page) >= least - 0.5))
    })
    .unwrap();
    let most = (ticks(&shop) - before_ticks) as f64;
    assert!(used(&page) <= most + 0.5, "{} ticks of {most}", used(&page));
    wait::until("three idle workers", || {
        let page = scrape(port);
        let idle = page.get("pyapm_workers{service_name=\"paged\",state=\"idle\"}") == Some(&3.0);
        Ok((idle && sum(&page, "process_threads") == 4.0).then_some(()))
    })
    .unwrap();
    assert!(sum(&page, "process_memory_usage_bytes") > 40e6);
    assert!(sum(&page, "process_open_file_descriptors") > 12.0);
    assert!(sum(&page, "cpython_gc_collections_total") > 0.0);

    let (_, text) = page_text(port);
    assert_eq!(checked(&text).unwrap(), "", "`promtool check metrics` is not content");
    documented(&text);
}

fn page_text(port: u16) -> (u16, String) {
    page(port, "/metrics", "").unwrap()
}

/// Every family of the page is in the documentation.
fn documented(page: &str) {
    let file = harness::place::root().join("docs/metrics.md");
    let documentation = std::fs::read_to_string(file).unwrap();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(documentation.contains(&format!("`{name}`")), "`{name}` is not documented");
    }
}

#[test]
fn bad_clients_harm_nothing() {
    let shop = recycling_shop();
    let port = free_port().unwrap();
    let config =
        format!("[prometheus]\nlisten = '127.0.0.1:{port}'\nworker_label = true\n{}", only(&shop, "harmed"));
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "harmed")).unwrap();
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    // More than are let in at one time, and none of them ever says what it wants.
    let silent: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /metrics HT").unwrap();
            stream
        })
        .collect();
    let load = Stream::start(&shop.address, &plan(200), Some(200));
    for garbage in [&b"\x16\x03\x01\x02\x00garbage"[..], &[0; 4096], b"GET\r\n\r\n", b"\r\n\r\n\r\n"] {
        connect().write_all(garbage).unwrap();
    }
    let huge = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'a'; 2_000_000]].concat();
    // It is cut off somewhere within.
    let _refused = connect().write_all(&huge);
    load.finish().without_failures().unwrap();
    let page = expect_requests(port, 200);
    assert!(page.keys().any(|key| key.starts_with("pyapm_worker_memory_usage_bytes{")));
    drop(silent);
    for (path, expected) in [("/nothing", 404), ("/", 200), ("/metrics", 200)] {
        assert_eq!(harness::prometheus::page(port, path, "").unwrap().0, expected, "{path}");
    }
    let (status, _) =
        harness::prometheus::page(port, "/metrics", "Accept: application/openmetrics-text\r\n").unwrap();
    assert_eq!(status, 200);
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn certificate(folder: &Path) {
    let done = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_real_prometheus_reads_it_over_tls_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("token"), "open sesame\n").unwrap();
    let shop = recycling_shop();
    let port = free_port().unwrap();
    let config = format!(
        "[prometheus]\nlisten = '127.0.0.1:{port}'\ntoken_file = '{0}/token'\ntls_certificate = '{0}/cert.pem'\n\
         tls_key = '{0}/key.pem'\n[log]\nfile = '{0}/log'\nslow_milliseconds = 0\n{1}",
        folder.path().display(),
        only(&shop, "scraped")
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "scraped")).unwrap();
    let curl = |token: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
            .arg(file("cert.pem"))
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .arg(format!("https://127.0.0.1:{port}/metrics"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(
        (curl("open sesame").as_str(), curl("open").as_str(), curl("").as_str()),
        ("200", "401", "401")
    );
    assert!(page(port, "/metrics", "").is_err(), "HTTPS alone is spoken");

    let (ca, token) = (file("cert.pem"), file("token"));
    let target = Target { port, ca: Some(&ca), token: Some(&token) };
    let classic = Prometheus::start(&target, &["exemplar-storage"]).unwrap();
    let native = Prometheus::start(&target, &["native-histograms"]).unwrap();
    let counts = drive(&shop.address, &plan(600)).without_failures().unwrap();
    assert_eq!(counts.answers.len(), 600);
    let total = |prometheus: &Prometheus, expression: &str| {
        wait::until("all requests in Prometheus", || {
            let found = prometheus.query(expression)?;
            let value = found.first().map_or(0.0, |(_, value)| *value);
            Ok((value >= 600.0).then_some(value))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", prometheus.log()))
    };
    let of = "service_name=\"scraped\"";
    assert_eq!(total(&classic, &format!("sum({REQUESTS}{{{of}}})")), 600.0);
    let name = REQUESTS.trim_end_matches("_count");
    assert_eq!(total(&native, &format!("sum(histogram_count({name}{{{of}}}))")), 600.0);
    for prometheus in [&classic, &native] {
        let value = |expression: &str| prometheus.query(expression).unwrap()[0].1;
        assert_eq!(value("up"), 1.0);
        assert_eq!(value(&format!("sum(resets(process_cpu_time_seconds_total{{{of}}}[5m]))")), 0.0);
        assert_eq!(value(&format!("sum(resets(pyapm_transaction_errors_total{{{of}}}[5m]))")), 0.0);
    }
    let five = |prometheus: &Prometheus, expression: &str| prometheus.query(expression).unwrap();
    let route =
        five(&classic, &format!("sum by (http_route) ({REQUESTS}{{{of},http_route=~\"/products.*\"}})"));
    assert_eq!(route.len(), 1, "{route:?}");
    assert_eq!(route[0].1, 100.0);

    // Exemplars carry ids of transactions that there were.
    let log = std::fs::read_to_string(file("log")).unwrap();
    let traces: BTreeSet<String> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["trace_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(traces.len(), 600);
    let found = wait::until("exemplars", || {
        let answer = classic.api(&format!("query_exemplars?query={name}_bucket&start=1&end=9999999999"))?;
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        let all: Vec<String> = series
            .iter()
            .flat_map(|one| one["exemplars"].as_array().cloned().unwrap_or_default())
            .filter_map(|one| Some(one["labels"]["trace_id"].as_str()?.to_owned()))
            .collect();
        Ok((all.len() > 3).then_some(all))
    })
    .unwrap();
    for trace in &found {
        assert!(trace.len() == 32 && traces.contains(trace), "`{trace}` is no transaction's");
    }
}
