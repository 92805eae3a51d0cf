//! The page that Prometheus scrapes: every application's totals, and the service's own.

use super::http::{Asked, Door};
use super::{Live, Overviews};
use crate::config::Prometheus;
use crate::outputs::prometheus::{negotiate, render};
use pyapm_model::metric::{Family, Kind, Metrics};
use pyapm_model::service::{Health, Overview};
use std::net::SocketAddr;

/// Serves until it is dropped.
///
/// # Errors
/// When the address cannot be listened on, or a file of the section cannot be used.
pub async fn run(settings: &Prometheus, overviews: Overviews) -> anyhow::Result<()> {
    let Ok(listen) = settings.listen.parse::<SocketAddr>() else { return std::future::pending().await };
    let door = Door::new(
        settings.token_file.as_deref(),
        settings.tls_certificate.as_deref(),
        settings.tls_key.as_deref(),
    )?;
    // A scrape takes what is there: it must not be older than a second.
    let _live: Live = overviews.live();
    let workers = settings.worker_label;
    let page = move |asked: &Asked<'_>| {
        let overview = overviews.newest();
        match asked.path {
            "/metrics" => {
                let form = negotiate(asked.accept);
                let metrics = everything(&overview, workers);
                Some((form.content_type(), render(form, &metrics).ok()?))
            }
            "/" => Some(("text/plain; charset=utf-8", b"pyapm: see /metrics\n".to_vec())),
            _ => None,
        }
    };
    match door.serve(listen, page).await? {}
}

/// Applications of one name are one: a name is what its owner sees. Their series are told apart by the order in which
/// they were found.
fn everything(overview: &Overview, workers: bool) -> Vec<Metrics> {
    let mut all: Vec<Metrics> = Vec::new();
    for state in &overview.applications {
        let mut metrics = (*state.metrics).clone();
        metrics.application = state.info.name.clone();
        if overview
            .applications
            .iter()
            .any(|other| other.info.name == state.info.name && other.info.id < state.info.id)
        {
            metrics.application = format!("{}#{}", state.info.name, state.info.id);
        }
        if workers {
            metrics.families.extend(by_worker(&state.snapshot.workers));
        }
        all.push(metrics);
    }
    all.push(Metrics { families: own(&overview.health), ..Metrics::default() });
    all
}

fn by_worker(workers: &[pyapm_model::snapshot::Worker]) -> [Family; 2] {
    let mut transactions =
        Family::new("pyapm.worker.transactions", "{transaction}", Kind::Counter, "Transactions of a worker.");
    let mut memory =
        Family::new("pyapm.worker.memory.usage", "By", Kind::Gauge, "Resident memory of a worker.");
    for worker in workers {
        let pid = worker.pid.to_string();
        let attributes = [("process.pid", pid.as_str())];
        transactions = transactions.with(&attributes, worker.transactions as f64);
        if let Some(bytes) = worker.rss_bytes {
            memory = memory.with(&attributes, bytes as f64);
        }
    }
    [transactions, memory]
}

/// How the service itself fares.
fn own(health: &Health) -> Vec<Family> {
    let gauge = |name: &'static str, unit, help: &'static str, value: Option<f64>| {
        let family = Family::new(name, unit, Kind::Gauge, help);
        value.map(|value| family.with(&[], value))
    };
    let mut families: Vec<Family> = [
        gauge("pyapm.cpu.utilization", "1", "CPU of the daemon, 1 is one core.", health.cpu_cores),
        gauge(
            "pyapm.memory.usage",
            "By",
            "Resident memory of the daemon.",
            health.rss_bytes.map(|b| b as f64),
        ),
        gauge("pyapm.ring.size", "By", "Size of the ring buffer.", Some(health.ring_bytes as f64)),
        gauge(
            "pyapm.ring.peak",
            "By",
            "Most that waited in the ring buffer.",
            Some(health.ring_peak_bytes as f64),
        ),
        gauge(
            "pyapm.sampling.rate",
            "Hz",
            "Samples per second and CPU.",
            Some(f64::from(health.sampling_hz)),
        ),
        gauge(
            "pyapm.budget.exceeded",
            "",
            "1 while sampling is slowed down.",
            Some(f64::from(u8::from(health.is_over_budget))),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let counter = |name: &'static str, unit, help: &'static str| Family::new(name, unit, Kind::Counter, help);
    let mut dropped = counter(
        "pyapm.export.dropped",
        "{line}",
        "Lines that an export was too slow for, or could not deliver.",
    );
    let mut waiting =
        Family::new("pyapm.export.waiting", "{line}", Kind::Gauge, "Lines that wait for an export.");
    for (name, subscriber) in &health.subscribers {
        dropped = dropped.with(&[("export", name)], subscriber.dropped as f64);
        waiting = waiting.with(&[("export", name)], subscriber.waiting as f64);
    }
    let mut hits = counter("pyapm.probe.hits", "{hit}", "How often a program ran.");
    let mut cost = counter("pyapm.probe.time", "s", "How long a program ran.");
    for (name, probe) in &health.probes {
        hits = hits.with(&[("program", name)], probe.hits as f64);
        cost = cost.with(&[("program", name)], probe.total_ns as f64 / 1e9);
    }
    families.extend([dropped, waiting, hits, cost].into_iter().filter(|family| !family.points.is_empty()));
    families.push(
        counter("pyapm.applications.overflow", "{application}", "Applications that were left out.")
            .with(&[], health.applications_overflow as f64),
    );
    families.push(
        counter("pyapm.reloads.failed", "{reload}", "Reloads of the configuration that were refused.")
            .with(&[], health.reloads_failed as f64),
    );
    families
}
