//! Which transactions of a minute are kept whole: the slowest, and some of each kind of those that failed.

use pyapm_model::line::Transaction;
use std::collections::HashMap;

/// Of those that failed in the same way, so many are kept in a minute.
const ALIKE: u32 = 3;
/// Calls and stacks that are kept of one transaction; beyond that it would fill the file alone.
const SPANS: usize = 2_000;
const SAMPLES: usize = 500;

/// How many of each are kept in a minute, and whether with what single requests carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) slowest: usize,
    pub(super) failed: usize,
    pub(super) values: bool,
}

/// Of one application and minute.
#[derive(Debug, Default)]
pub(super) struct Whole {
    slowest: Vec<Chosen>,
    failed: Vec<Chosen>,
    /// By name and cause.
    alike: HashMap<(String, String), u32>,
    /// Rows that are kept no longer.
    displaced: Vec<i64>,
}

#[derive(Debug)]
pub(super) struct Chosen {
    /// Of its row.
    pub(super) id: i64,
    pub(super) duration_ns: u64,
    pub(super) failed: bool,
    /// Until it is written.
    pub(super) transaction: Option<Box<Transaction>>,
}

impl Whole {
    /// Keeps it, if it is one to keep; `id` gives it its number.
    pub(super) fn offer(
        &mut self,
        transaction: &Transaction,
        failed: bool,
        choice: Choice,
        id: impl FnOnce() -> i64,
    ) {
        let duration_ns = transaction.duration_ns;
        let chosen = |id, failed| Chosen {
            id,
            duration_ns,
            failed,
            transaction: Some(Box::new(kept(transaction, choice.values))),
        };
        if failed && self.failed.len() < choice.failed {
            let cause = transaction.error.as_ref().map(|error| error.kind.clone()).unwrap_or_default();
            let alike = self.alike.entry((transaction.name.clone(), cause)).or_default();
            if *alike < ALIKE {
                *alike += 1;
                self.failed.push(chosen(id(), true));
                return;
            }
        }
        if self.slowest.len() < choice.slowest {
            self.slowest.push(chosen(id(), failed));
            return;
        }
        let quickest = self.slowest.iter_mut().min_by_key(|one| one.duration_ns);
        if let Some(quickest) = quickest.filter(|quickest| quickest.duration_ns < duration_ns) {
            let old = std::mem::replace(quickest, chosen(id(), failed));
            if old.transaction.is_none() {
                self.displaced.push(old.id);
            }
        }
    }

    /// Rows to be taken out.
    pub(super) fn displaced(&self) -> &[i64] {
        &self.displaced
    }

    /// Those that are not written yet.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = (&Chosen, &Transaction)> {
        let all = self.slowest.iter().chain(&self.failed);
        all.filter_map(|chosen| Some((chosen, chosen.transaction.as_deref()?)))
    }

    /// Everything has been written.
    pub(super) fn written(&mut self) {
        self.displaced.clear();
        for chosen in self.slowest.iter_mut().chain(&mut self.failed) {
            chosen.transaction = None;
        }
    }
}

/// As it is kept.
fn kept(transaction: &Transaction, values: bool) -> Transaction {
    let mut kept = transaction.clone();
    kept.spans.truncate(SPANS);
    kept.samples.truncate(SAMPLES);
    if !values {
        kept.path = None;
        kept.client_address = None;
        for span in &mut kept.spans {
            span.path = None;
        }
        if let Some(error) = &mut kept.error {
            silence(error);
        }
    }
    kept
}

/// Without what its messages may carry.
pub(super) fn silence(error: &mut pyapm_model::error::Error) {
    error.message = None;
    for chained in &mut error.chain {
        chained.message = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::error::Error;

    const CHOICE: Choice = Choice { slowest: 2, failed: 4, values: false };

    fn transaction(name: &str, duration_ns: u64) -> Transaction {
        Transaction {
            name: name.into(),
            duration_ns,
            path: Some("/users/7".into()),
            client_address: Some("10.0.0.1".into()),
            error: Some(Error {
                kind: "KeyError".into(),
                message: Some("secret".into()),
                ..Error::default()
            }),
            ..Transaction::default()
        }
    }

    fn offer(whole: &mut Whole, transaction: &Transaction, failed: bool, id: i64) {
        whole.offer(transaction, failed, CHOICE, || id);
    }

    #[test]
    fn the_slowest_stay_and_rows_of_the_others_go() {
        let mut whole = Whole::default();
        for (id, duration) in [(1, 30), (2, 10), (3, 20), (4, 5)] {
            offer(&mut whole, &transaction("a", duration), false, id);
        }
        let mut ids: Vec<i64> = whole.unwritten().map(|(chosen, _)| chosen.id).collect();
        ids.sort_unstable();
        // The second was never written, so it has no row.
        assert_eq!((ids, whole.displaced()), (vec![1, 3], &[][..]));
        whole.written();
        offer(&mut whole, &transaction("a", 40), false, 5);
        let ids: Vec<i64> = whole.unwritten().map(|(chosen, _)| chosen.id).collect();
        assert_eq!((ids, whole.displaced()), (vec![5], &[3][..]));
    }

    #[test]
    fn of_what_fails_alike_a_few_are_kept() {
        let mut whole = Whole::default();
        for id in 0..10 {
            offer(&mut whole, &transaction("a", 1), true, id);
        }
        offer(&mut whole, &transaction("b", 1), true, 10);
        let failed: Vec<i64> = whole.failed.iter().map(|chosen| chosen.id).collect();
        assert_eq!(failed, [0, 1, 2, 10]);
        assert_eq!(whole.slowest.len(), 2, "they may still be the slowest");
    }

    #[test]
    fn what_requests_carried_is_kept_only_on_request() {
        let with = kept(&transaction("a", 1), true);
        assert_eq!(with, transaction("a", 1));
        let without = kept(&transaction("a", 1), false);
        assert_eq!((without.path, without.client_address), (None, None));
        assert_eq!(without.error.unwrap().message, None);
    }
}
