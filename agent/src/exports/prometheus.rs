//! The page that Prometheus scrapes: every application's totals, and the service's own.

use super::http::{Asked, Door};
use super::{Live, Overviews};
use crate::config::Prometheus;
use crate::outputs::prometheus::{negotiate, render};
use pyapm_model::definition::{self, Definition};
use pyapm_model::metric::{Family, Metrics};
use pyapm_model::service::{Health, Overview};
use std::collections::BTreeMap;
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

fn by_worker(workers: &[pyapm_model::snapshot::Worker]) -> [Family; 3] {
    let mut transactions = definition::WORKER_TRANSACTIONS.family();
    let (mut memory, mut cpu) = (definition::WORKER_MEMORY.family(), definition::WORKER_CPU.family());
    for worker in workers {
        let pid = worker.pid.to_string();
        let attributes = [("process.pid", pid.as_str())];
        transactions = transactions.with(&attributes, worker.transactions as f64);
        if let Some(bytes) = worker.rss_bytes {
            memory = memory.with(&attributes, bytes as f64);
        }
        if let Some(cores) = worker.cpu_cores {
            cpu = cpu.with(&attributes, cores);
        }
    }
    [transactions, memory, cpu]
}

/// How the service itself fares. What is not known has no point, and no family.
fn own(health: &Health) -> Vec<Family> {
    let one = |definition: Definition, value: Option<f64>| {
        let family = definition.family();
        value.map_or_else(|| family.clone(), |value| family.clone().with(&[], value))
    };
    let by = |definition: Definition, label: &'static str, values: &mut dyn Iterator<Item = (&str, f64)>| {
        values.fold(definition.family(), |family, (name, value)| family.with(&[(label, name)], value))
    };
    let losses = health.losses.as_ref();
    let reasons = |counts: Option<&'_ BTreeMap<String, u64>>| -> Vec<(String, f64)> {
        counts.into_iter().flatten().map(|(name, count)| (name.clone(), *count as f64)).collect()
    };
    let (dropped, incomplete) =
        (reasons(losses.map(|losses| &losses.dropped)), reasons(losses.map(|losses| &losses.incomplete)));
    let mut families = vec![
        one(definition::OWN_CPU, health.cpu_cores),
        one(definition::OWN_MEMORY, health.rss_bytes.map(|bytes| bytes as f64)),
        one(definition::RING_SIZE, Some(health.ring_bytes as f64)),
        one(definition::RING_PEAK, Some(health.ring_peak_bytes as f64)),
        one(definition::SAMPLING_RATE, Some(f64::from(health.sampling_hz))),
        one(definition::WATCHING, Some(f64::from(u8::from(losses.is_some())))),
        one(definition::BUDGET_EXCEEDED, Some(f64::from(u8::from(health.is_over_budget)))),
        one(definition::RECORDS_SEEN, losses.map(|losses| losses.seen as f64)),
        one(definition::RECORDS_DELIVERED, losses.map(|losses| losses.delivered as f64)),
    ];
    for (definition, counts) in
        [(definition::RECORDS_DROPPED, &dropped), (definition::RECORDS_INCOMPLETE, &incomplete)]
    {
        let mut counts = counts.iter().map(|(name, count)| (name.as_str(), *count));
        families.push(by(definition, "reason", &mut counts));
    }
    let subscribers = &health.subscribers;
    families.extend([
        by(
            definition::EXPORT_DROPPED,
            "export",
            &mut subscribers.iter().map(|(name, one)| (name.as_str(), one.dropped as f64)),
        ),
        by(
            definition::EXPORT_WAITING,
            "export",
            &mut subscribers.iter().map(|(name, one)| (name.as_str(), one.waiting as f64)),
        ),
        by(
            definition::PROBE_HITS,
            "program",
            &mut health.probes.iter().map(|(name, probe)| (name.as_str(), probe.hits as f64)),
        ),
        by(
            definition::PROBE_TIME,
            "program",
            &mut health.probes.iter().map(|(name, probe)| (name.as_str(), probe.total_ns as f64 / 1e9)),
        ),
        one(definition::APPLICATIONS_OVERFLOW, Some(health.applications_overflow as f64)),
        one(definition::RELOADS_FAILED, Some(health.reloads_failed as f64)),
    ]);
    families.retain(|family| !family.points.is_empty());
    families
}
