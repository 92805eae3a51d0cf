//! Warnings of transactions, added up over a second, and over the window.

use pyapm_model::line::{Frame, Transaction, WarningKind};
use pyapm_model::snapshot::Warning;
use std::collections::HashMap;

/// What is one line of the list: kind, route, what is called, and from where.
type Key = (WarningKind, String, String, Option<Frame>);

/// Of one second.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    known: HashMap<Key, Tally>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    transactions: u64,
    most_calls: u64,
    calls: u64,
    total_ns: u64,
}

impl Warnings {
    /// Counts a transaction's warnings; those of more than `most` kinds are left out.
    pub(super) fn record(&mut self, route: &str, transaction: &Transaction, most: usize) {
        for warning in &transaction.warnings {
            let text = warning.db_query.as_ref().unwrap_or(&warning.name).clone();
            let key = (warning.kind, route.to_owned(), text, warning.call_site.clone());
            if self.known.len() >= most && !self.known.contains_key(&key) {
                continue;
            }
            let tally = self.known.entry(key).or_default();
            tally.transactions += 1;
            tally.calls += warning.count;
            tally.most_calls = tally.most_calls.max(warning.count);
            tally.total_ns += warning.duration_ns;
        }
    }

    /// Of several seconds, most time first.
    pub(super) fn merged<'a>(seconds: impl Iterator<Item = &'a Self>) -> Vec<Warning> {
        let mut sums: HashMap<&Key, Tally> = HashMap::new();
        for (key, tally) in seconds.flat_map(|second| &second.known) {
            let sum = sums.entry(key).or_default();
            sum.transactions += tally.transactions;
            sum.calls += tally.calls;
            sum.most_calls = sum.most_calls.max(tally.most_calls);
            sum.total_ns += tally.total_ns;
        }
        let mut warnings: Vec<Warning> = sums
            .into_iter()
            .map(|((kind, route, text, call_site), sum)| Warning {
                kind: *kind,
                route: route.clone(),
                text: text.clone(),
                transactions: sum.transactions,
                most_calls: sum.most_calls,
                calls: sum.calls,
                total_ns: sum.total_ns,
                call_site: call_site.clone(),
            })
            .collect();
        warnings.sort_by(|a, b| {
            let by_time = b.total_ns.cmp(&a.total_ns);
            by_time.then_with(|| (&a.route, &a.text, &a.call_site).cmp(&(&b.route, &b.text, &b.call_site)))
        });
        warnings
    }
}
