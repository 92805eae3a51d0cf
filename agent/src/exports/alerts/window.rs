//! The last seconds of what one rule is about: how many transactions, how they ended, how long they took. Pure.

use crate::store::{Durations, histogram, is_error};
use pyapm_model::line::Transaction;
use std::collections::VecDeque;

/// One second.
#[derive(Debug, Default)]
struct Second {
    second: u64,
    count: u64,
    errors: u64,
    satisfied: u64,
    tolerated: u64,
    durations: Durations,
}

#[derive(Debug)]
pub(super) struct Window {
    seconds: u64,
    /// In order; those without a transaction are left out.
    known: VecDeque<Second>,
    /// What apdex takes for satisfying.
    satisfying_ns: u64,
}

/// Of the seconds in the window.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) count: u64,
    pub(super) errors: u64,
    /// 0 to 1.
    pub(super) apdex: f64,
    pub(super) p50_ns: u64,
    pub(super) p95_ns: u64,
    pub(super) p99_ns: u64,
}

impl Window {
    pub(super) fn new(seconds: u64, satisfying_ns: u64) -> Self {
        Self { seconds: seconds.max(1), known: VecDeque::new(), satisfying_ns }
    }

    /// Counts one that was told of in this second; seconds only ever grow.
    pub(super) fn record(&mut self, second: u64, transaction: &Transaction) {
        if self.known.back().is_none_or(|last| last.second < second) {
            self.forget(second);
            self.known.push_back(Second { second, ..Second::default() });
        }
        let Some(sum) = self.known.back_mut() else { return };
        let failed = is_error(transaction);
        sum.count += 1;
        sum.errors += u64::from(failed);
        // What failed satisfies nobody, however quick it was.
        sum.satisfied += u64::from(!failed && transaction.duration_ns <= self.satisfying_ns);
        let tolerable = self.satisfying_ns.saturating_mul(4);
        sum.tolerated += u64::from(
            !failed && transaction.duration_ns > self.satisfying_ns && transaction.duration_ns <= tolerable,
        );
        sum.durations.record(transaction.duration_ns);
    }

    /// Of the seconds before this one, which has not ended.
    pub(super) fn sums(&mut self, second: u64) -> Sums {
        self.forget(second);
        let mut sums = Sums::default();
        let (mut satisfied, mut tolerated) = (0, 0);
        let mut durations = histogram();
        for known in self.known.iter().filter(|known| known.second < second) {
            sums.count += known.count;
            sums.errors += known.errors;
            satisfied += known.satisfied;
            tolerated += known.tolerated;
            if let Some(durations) = &mut durations {
                known.durations.add_to(durations);
            }
        }
        if sums.count > 0 {
            sums.apdex = (satisfied as f64 + tolerated as f64 / 2.0) / sums.count as f64;
        }
        if let Some(durations) = durations {
            sums.p50_ns = durations.value_at_quantile(0.5);
            sums.p95_ns = durations.value_at_quantile(0.95);
            sums.p99_ns = durations.value_at_quantile(0.99);
        }
        sums
    }

    fn forget(&mut self, second: u64) {
        while self.known.front().is_some_and(|first| first.second.saturating_add(self.seconds) < second) {
            self.known.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: u64, status: u16) -> Transaction {
        Transaction { duration_ns: milliseconds * 1_000_000, status: Some(status), ..Transaction::default() }
    }

    #[test]
    fn only_the_last_seconds_count() {
        let mut window = Window::new(10, 100_000_000);
        window.record(100, &of(50, 200));
        window.record(105, &of(300, 200));
        window.record(105, &of(50, 500));
        window.record(105, &of(5_000, 200));
        let sums = window.sums(106);
        assert_eq!((sums.count, sums.errors), (4, 1));
        assert!((sums.apdex - 0.375).abs() < 1e-9, "{}", sums.apdex);
        assert!(sums.p99_ns.abs_diff(5_000_000_000) < 50_000_000, "{}", sums.p99_ns);
        assert_eq!(window.sums(110).count, 4);
        assert_eq!(window.sums(111).count, 3);
        assert_eq!(window.sums(200).count, 0);
    }
}
