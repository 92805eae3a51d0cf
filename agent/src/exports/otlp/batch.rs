//! Lines and overviews become requests. Transactions are judged one by one as they come, so that only those that are
//! kept wait here.

use super::settings::Destination;
use super::signal::Signal;
use crate::exports::Published;
use crate::outputs::otlp::{About, Keeper, logs, metrics, profiles, traces};
use crate::store::is_error;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use pyapm_model::line::{Line, Transaction};
use pyapm_model::service::{ApplicationInfo, Overview};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Transactions in one request, at most.
pub(super) const MOST: usize = 512;

/// One request, and what is lost with it.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub message: Message,
    /// Transactions in it; 0 for metrics, which the next request repeats.
    pub lines: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
    Profiles(ExportProfilesServiceRequest),
}

impl Message {
    pub(super) fn signal(&self) -> Signal {
        match self {
            Self::Traces(_) => Signal::Traces,
            Self::Metrics(_) => Signal::Metrics,
            Self::Logs(_) => Signal::Logs,
            Self::Profiles(_) => Signal::Profiles,
        }
    }
}

/// What is kept of one application until the next request.
#[derive(Debug)]
struct Waiting {
    application: Arc<ApplicationInfo>,
    keeper: Keeper,
    /// The lines hold the transactions: nothing is copied.
    kept: Vec<(Arc<Published>, f64)>,
}

#[derive(Debug)]
pub(super) struct Batches {
    destination: Destination,
    host: Option<String>,
    applications: BTreeMap<u32, Waiting>,
}

impl Batches {
    pub(super) fn new(destination: Destination) -> Self {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self { destination, host, applications: BTreeMap::new() }
    }

    /// Takes a line; requests that are full by it.
    pub(super) fn take(&mut self, published: &Arc<Published>) -> Vec<Outgoing> {
        let Line::Transaction(transaction) = &published.line else { return Vec::new() };
        let keep = self.destination.keep;
        let waiting = self.applications.entry(published.application.id).or_insert_with(|| Waiting {
            application: Arc::clone(&published.application),
            keeper: Keeper::new(keep),
            kept: Vec::new(),
        });
        waiting.application = Arc::clone(&published.application);
        if let Some(weight) = waiting.keeper.judge(transaction) {
            waiting.kept.push((Arc::clone(published), weight));
        }
        if waiting.kept.len() < MOST {
            return Vec::new();
        }
        let about = about(&self.destination, self.host.as_deref(), &published.application);
        requests(waiting, &about, &self.destination)
    }

    /// Everything that waits.
    pub(super) fn flush(&mut self) -> Vec<Outgoing> {
        let mut all = Vec::new();
        for waiting in self.applications.values_mut().filter(|waiting| !waiting.kept.is_empty()) {
            let about = about(&self.destination, self.host.as_deref(), &waiting.application);
            all.extend(requests(waiting, &about, &self.destination));
        }
        all
    }

    /// The totals of every application.
    pub(super) fn metrics(&self, overview: &Overview) -> Vec<Outgoing> {
        if !self.destination.sends(Signal::Metrics) {
            return Vec::new();
        }
        let states = overview.applications.iter().filter(|state| !state.metrics.families.is_empty());
        states
            .map(|state| {
                let about = about(&self.destination, self.host.as_deref(), &state.info);
                Outgoing { message: Message::Metrics(metrics(&state.metrics, &about)), lines: 0 }
            })
            .collect()
    }
}

fn about(destination: &Destination, host: Option<&str>, application: &ApplicationInfo) -> About {
    About {
        host: host.map(str::to_owned),
        python: application.python.clone(),
        container: application.container.clone(),
        pod: application.pod.clone(),
        attributes: destination.attributes.clone(),
    }
}

fn requests(waiting: &mut Waiting, about: &About, destination: &Destination) -> Vec<Outgoing> {
    let kept = std::mem::take(&mut waiting.kept);
    let transactions: Vec<(&Transaction, f64)> = kept
        .iter()
        .filter_map(|(published, weight)| match &published.line {
            Line::Transaction(transaction) => Some((transaction.as_ref(), *weight)),
            _ => None,
        })
        .collect();
    let plain: Vec<&Transaction> = transactions.iter().map(|(transaction, _)| *transaction).collect();
    let name = waiting.application.name.as_str();
    let lines = transactions.len() as u64;
    let mut all = Vec::new();
    if destination.sends(Signal::Traces) {
        all.push(Outgoing { message: Message::Traces(traces(name, about, &transactions)), lines });
    }
    if destination.sends(Signal::Logs) {
        all.extend(logs(name, about, &plain).map(|logs| Outgoing {
            lines: plain.iter().filter(|one| is_error(one) || one.error.is_some()).count() as u64,
            message: Message::Logs(logs),
        }));
    }
    if destination.sends(Signal::Profiles) {
        // Samples are counted, not timed: their period is what they stand for at the default rate.
        all.extend(profiles(name, about, &plain, 99).map(|profiles| Outgoing {
            lines: plain.iter().filter(|transaction| !transaction.samples.is_empty()).count() as u64,
            message: Message::Profiles(profiles),
        }));
    }
    all
}
