//! Which transactions are sent: all errors, all slow ones, and of the rest a fair sample at a rate that adapts
//! to a budget. Decided when a transaction has ended (tail-based), so that what matters is never left to chance.

use pyapm_model::line::Transaction;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    /// Transactions that last so long are kept, nanoseconds.
    pub slow_ns: u64,
    /// Ordinary transactions that are kept, on average, in a second; 0 keeps none of them.
    pub per_second: f64,
    /// Errors and slow ones that are kept in a second at most: a storm must not become one downstream.
    pub most_per_second: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { slow_ns: 1_000_000_000, per_second: 20.0, most_per_second: 1_000 }
    }
}

/// Decides for one application.
#[derive(Debug)]
pub struct Keeper {
    keep: Keep,
    second: u64,
    /// Ordinary transactions of this second and of the one before.
    ordinary: (u64, u64),
    /// Share of ordinary ones that is kept in this second.
    share: f64,
    special: u64,
    counts: Kept,
}

/// What became of the transactions so far: `kept + ordinary_left + special_left` are all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub kept: u64,
    /// Ordinary ones that another stands for.
    pub ordinary_left: u64,
    /// Errors and slow ones beyond the bound.
    pub special_left: u64,
}

impl Keeper {
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self { keep, second: 0, ordinary: (0, 0), share: 1.0, special: 0, counts: Kept::default() }
    }

    #[must_use]
    pub fn counts(&self) -> Kept {
        self.counts
    }

    /// For how many transactions this one stands if it is kept; `None` when it is not.
    pub fn judge(&mut self, transaction: &Transaction) -> Option<f64> {
        let ended_ns = transaction.start_ns.saturating_add(transaction.duration_ns);
        self.turn(ended_ns / 1_000_000_000);
        if crate::store::is_error(transaction)
            || transaction.error.is_some()
            || transaction.duration_ns >= self.keep.slow_ns
        {
            self.special += 1;
            let kept = self.special <= self.keep.most_per_second;
            *(if kept { &mut self.counts.kept } else { &mut self.counts.special_left }) += 1;
            return kept.then_some(1.0);
        }
        self.ordinary.0 += 1;
        let kept = chance(&transaction.trace_id) < self.share;
        *(if kept { &mut self.counts.kept } else { &mut self.counts.ordinary_left }) += 1;
        kept.then(|| 1.0 / self.share)
    }

    /// A new second: the share that would have met the budget in the one before.
    fn turn(&mut self, second: u64) {
        if second <= self.second {
            return;
        }
        let elapsed = (second - self.second) as f64;
        self.ordinary = (0, self.ordinary.0);
        self.special = 0;
        self.second = second;
        let rate = self.ordinary.1 as f64 / elapsed;
        self.share = if rate > self.keep.per_second { self.keep.per_second / rate } else { 1.0 };
        if self.keep.per_second <= 0.0 {
            self.share = 0.0;
        }
    }
}

/// A number in `0.0..1.0` that is the same for every span of a trace, wherever it is asked: the last 56 bits of the
/// trace id, which W3C Trace Context Level 2 wants random.
fn chance(trace_id: &str) -> f64 {
    let digits = trace_id.get(trace_id.len().saturating_sub(14)..).unwrap_or_default();
    let value = u64::from_str_radix(digits, 16).unwrap_or(0);
    value as f64 / (1u64 << 56) as f64
}
