//! What is pushed and written: statsd to real sockets, and transactions as lines of JSON in real files.

use super::exports_prometheus::{only, plan, recycling_shop};
use harness::load::{Stream, drive};
use harness::service::Service;
use harness::wait;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// Adds datagrams up: counters by name, and how many durations each timer stands for.
#[derive(Debug, Default)]
struct Statsd {
    counters: BTreeMap<String, f64>,
    timers: BTreeMap<String, f64>,
}

impl Statsd {
    fn take(&mut self, datagram: &[u8]) {
        for line in std::str::from_utf8(datagram).unwrap().lines() {
            let (name, rest) = line.split_once(':').unwrap();
            let fields: Vec<&str> = rest.split('|').collect();
            let value: f64 = fields[0].parse().unwrap();
            let rate = fields
                .iter()
                .find_map(|field| field.strip_prefix('@'))
                .map_or(1.0, |rate| rate.parse().unwrap());
            let tags = fields.iter().find_map(|field| field.strip_prefix('#')).unwrap_or_default();
            let key = if tags.is_empty() { name.to_owned() } else { format!("{name} {tags}") };
            match fields[1] {
                "c" => *self.counters.entry(key).or_default() += value,
                "ms" => *self.timers.entry(key).or_default() += 1.0 / rate,
                other => panic!("no kind of metric: {other}"),
            }
        }
    }

    fn sum(counts: &BTreeMap<String, f64>, part: &str) -> f64 {
        let sum: f64 = counts.iter().filter(|(key, _)| key.contains(part)).map(|(_, value)| value).sum();
        sum.round()
    }
}

#[test]
fn statsd_over_udp_and_a_unix_socket_adds_up() {
    let shop = recycling_shop();
    let folder = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixDatagram::bind(folder.path().join("statsd")).unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    unix.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let rules = only(&shop, "pushed");
    let by_udp = format!(
        "[prometheus]\nlisten = ''\n[statsd]\naddress = '{}'\ninterval_seconds = 0.5\n{rules}",
        udp.local_addr().unwrap()
    );
    let by_unix = format!(
        "[prometheus]\nlisten = ''\n[statsd]\naddress = 'unix:{}/statsd'\ntags = 'dogstatsd'\nprefix = 'apm'\n\
         interval_seconds = 0.5\n{rules}",
        folder.path().display()
    );
    for (config, receive, transactions, db, other, name) in [
        (
            by_udp,
            &(|buffer: &mut [u8]| udp.recv(buffer)) as &dyn Fn(&mut [u8]) -> std::io::Result<usize>,
            ".transaction.",
            "pyapm.pushed.db.mysql.SELECT.count",
            "pyapm.pushed.db.mysql.SET.count",
            "pyapm.pushed.transaction.GET__products__product_id.count",
        ),
        (
            by_unix,
            &|buffer: &mut [u8]| unix.recv(buffer),
            "apm.transaction.",
            "apm.db.count service:pushed,system:mysql,operation:SELECT",
            "apm.db.count service:pushed,system:mysql,operation:SET",
            "apm.transaction.count service:pushed,transaction:GET /products/{product_id}",
        ),
    ] {
        let log = format!("log-{}", transactions.trim_matches('.'));
        let written = format!("[log]\nfile = '{}/{log}'\nslow_milliseconds = 0\n", folder.path().display());
        let mut service = Service::start(&format!("{written}{config}")).unwrap();
        service.wait_for("the application", |all| all.iter().any(|one| one.name == "pushed")).unwrap();
        let mut statsd = Statsd::default();
        let mut buffer = vec![0; 65_536];
        // A server reads all the time: the kernel keeps little for it.
        let load = Stream::start(&shop.address, &plan(300), Some(300));
        while !load.is_finished() {
            if let Ok(bytes) = receive(&mut buffer) {
                statsd.take(&buffer[..bytes]);
            }
        }
        let counts = load.finish().without_failures().unwrap();
        let failed = counts.answers.iter().filter(|answer| answer.status == 500).count() as f64;
        wait::until("everything to be pushed", || {
            while let Ok(bytes) = receive(&mut buffer) {
                statsd.take(&buffer[..bytes]);
            }
            let timers = statsd.timers.iter().filter(|(key, _)| key.contains(transactions));
            Ok((timers.map(|(_, value)| value).sum::<f64>().round() >= 300.0).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {statsd:?}\n{}", service.log()));
        let of = |end: &str| {
            let keys = statsd.counters.iter().filter(|(key, _)| {
                key.contains(transactions) && key.split(' ').next().is_some_and(|name| name.ends_with(end))
            });
            keys.map(|(_, value)| value).sum::<f64>()
        };
        assert_eq!((of(".count"), of(".errors")), (300.0, failed), "{statsd:?}");
        assert_eq!(Statsd::sum(&statsd.timers, transactions), 300.0);
        assert_eq!(statsd.counters.get(name), Some(&50.0), "{statsd:?}");
        // As many calls as the same transactions have in the log.
        let statements = Statsd::sum(&statsd.counters, db);
        let all: u64 = lines(folder.path(), &log).iter().map(|line| line["db.calls"].as_u64().unwrap()).sum();
        let others = Statsd::sum(&statsd.counters, other);
        assert!(statements > 1_000.0, "{statsd:?}");
        assert_eq!(statements + others, all as f64, "{statsd:?}");
    }
}

/// Lines of the file and of all that were put aside.
fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with(name) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    all
}

#[test]
fn failed_and_slow_transactions_are_lines_of_json_over_rotations() {
    let shop = recycling_shop();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[prometheus]\nlisten = ''\n[log]\nfile = '{}/log'\nslow_milliseconds = 60000\nrotate_bytes = 8192\nkeep_files = 100\n{}",
        folder.path().display(),
        only(&shop, "written")
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "written")).unwrap();
    let counts = drive(&shop.address, &plan(300)).without_failures().unwrap();
    let failed = counts.answers.iter().filter(|answer| answer.status == 500).count();
    wait::until("every error to be written", || {
        Ok((lines(folder.path(), "log").len() >= failed).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", service.log()));
    let written = lines(folder.path(), "log");
    assert_eq!(written.len(), failed);
    let traces: BTreeSet<&str> = written.iter().map(|line| line["trace_id"].as_str().unwrap()).collect();
    assert_eq!(traces.len(), failed);
    let mut known = 0;
    for line in &written {
        assert_eq!((&line["level"], &line["service.name"]), (&"error".into(), &"written".into()));
        assert_eq!((&line["url.path"], &line["http.response.status_code"]), (&"/error".into(), &500.into()));
        let exception = line.get("exception.type").and_then(Value::as_str);
        known += usize::from(exception == Some("ZeroDivisionError"));
        assert!(exception.is_none_or(|name| name == "ZeroDivisionError"), "{line}");
    }
    assert!(known > failed / 2, "{known} exceptions of {failed}");
    let files = std::fs::read_dir(folder.path()).unwrap().flatten();
    let sizes: Vec<u64> = files.map(|file| file.metadata().unwrap().len()).collect();
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size <= 8192), "{sizes:?}");

    // On stdout, and everything: systemd's journal takes it from there.
    let config = format!(
        "[prometheus]\nlisten = ''\n[log]\nfile = '-'\nslow_milliseconds = 0\n{}",
        only(&shop, "written")
    );
    drop(service);
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "written")).unwrap();
    drive(&shop.address, &plan(60)).without_failures().unwrap();
    let on_stdout = |log: &str| log.lines().filter(|line| line.starts_with('{')).count();
    wait::until("every transaction on stdout", || Ok((on_stdout(&service.log()) >= 60).then_some(())))
        .unwrap();
    assert_eq!(on_stdout(&service.log()), 60);
    assert_eq!(lines(folder.path(), "log").len(), failed, "the file is left alone");
}
