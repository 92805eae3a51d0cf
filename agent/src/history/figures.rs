//! Many rows of one thing put together.

use crate::store::{Durations, histogram};
use hdrhistogram::Histogram;
use pyapm_model::report::Figures;

/// Rows of one route or statement, so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) count: u64,
    pub(super) errors: u64,
    pub(super) total_ns: u64,
    pub(super) max_ns: u64,
    /// `None` before the first row, or when the library refuses its bounds.
    durations: Option<Histogram<u64>>,
}

impl Gathered {
    pub(super) fn add(&mut self, count: u64, errors: u64, total_ns: u64, max_ns: u64, durations: &[u8]) {
        self.count = self.count.saturating_add(count);
        self.errors = self.errors.saturating_add(errors);
        self.total_ns = self.total_ns.saturating_add(total_ns);
        self.max_ns = self.max_ns.max(max_ns);
        if self.durations.is_none() {
            self.durations = histogram();
        }
        if let (Some(sum), Some(durations)) = (&mut self.durations, Durations::decode(durations)) {
            durations.add_to(sum);
        }
    }

    /// Adds all that another has.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        if self.durations.is_none() {
            self.durations = histogram();
        }
        if let (Some(sum), Some(durations)) = (&mut self.durations, &other.durations) {
            // Bounds and precision are the same, so nothing can be refused.
            let added = sum.add(durations);
            debug_assert!(added.is_ok());
        }
    }

    pub(super) fn quantile(&self, quantile: f64) -> u64 {
        // A bucket's middle may lie above the longest duration that fell into it.
        let found = self.durations.as_ref().map_or(0, |durations| durations.value_at_quantile(quantile));
        found.min(self.max_ns)
    }

    /// `recorded_ns` is what rates go by.
    pub(super) fn figures(&self, recorded_ns: u64) -> Figures {
        let per_second = if recorded_ns == 0 { 0.0 } else { self.count as f64 * 1e9 / recorded_ns as f64 };
        Figures {
            count: self.count,
            per_second,
            errors: self.errors,
            total_ns: self.total_ns,
            mean_ns: self.total_ns / self.count.max(1),
            p50_ns: self.quantile(0.5),
            p95_ns: self.quantile(0.95),
            p99_ns: self.quantile(0.99),
            max_ns: self.max_ns,
        }
    }
}
