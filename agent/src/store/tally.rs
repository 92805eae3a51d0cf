//! Sums over transactions and statements: of one second, and of the window.

use super::durations::Durations;
use pyapm_model::line::{Frame, Outcome, Span, SpanKind, Transaction};
use pyapm_model::task::State;

/// Of one route.
#[derive(Clone, Debug, Default)]
pub struct RouteTally {
    pub count: u64,
    pub errors: u64,
    pub max_ns: u64,
    pub total_ns: u64,
    pub db_ns: u64,
    pub db_calls: u64,
    pub status_classes: [u64; 5],
    pub durations: Durations,
}

impl RouteTally {
    pub fn record(&mut self, transaction: &Transaction) {
        self.count += 1;
        self.errors += u64::from(is_error(transaction));
        self.max_ns = self.max_ns.max(transaction.duration_ns);
        self.total_ns = self.total_ns.saturating_add(transaction.duration_ns);
        for span in transaction.spans.iter().filter(|span| span.kind == SpanKind::Db) {
            self.db_calls += 1;
            self.db_ns = self.db_ns.saturating_add(span.duration_ns);
        }
        let class = transaction.status.map(|status| usize::from(status / 100));
        if let Some(count) = class.and_then(|class| self.status_classes.get_mut(class.checked_sub(1)?)) {
            *count += 1;
        }
        self.durations.record(transaction.duration_ns);
    }

    /// Adds the sums of another second; durations are merged elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.db_ns = self.db_ns.saturating_add(other.db_ns);
        self.db_calls += other.db_calls;
        for (mine, theirs) in self.status_classes.iter_mut().zip(other.status_classes) {
            *mine += theirs;
        }
    }
}

/// Status 500 to 599, a task that failed, the worker's end, or an exception that nothing handled.
#[must_use]
pub fn is_error(transaction: &Transaction) -> bool {
    transaction.status.is_some_and(|status| (500..=599).contains(&status))
        || transaction.outcome == Outcome::WorkerExited
        || transaction.task.as_ref().is_some_and(|task| task.state == Some(State::Failure))
        || transaction.error.as_ref().is_some_and(|error| error.handled == Some(false))
}

/// Of one normalised statement.
#[derive(Clone, Debug, Default)]
pub struct StatementTally {
    pub count: u64,
    pub errors: u64,
    pub max_ns: u64,
    pub total_ns: u64,
    /// Of the first call in the second.
    pub call_site: Option<Frame>,
}

impl StatementTally {
    pub fn record(&mut self, span: &Span) {
        self.count += 1;
        self.errors += u64::from(span.error_type.is_some());
        self.max_ns = self.max_ns.max(span.duration_ns);
        self.total_ns = self.total_ns.saturating_add(span.duration_ns);
        if self.call_site.is_none() {
            self.call_site = span.stack.first().cloned();
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        if self.call_site.is_none() {
            self.call_site.clone_from(&other.call_site);
        }
    }
}
