//! How long records may wait in the ring: the kernel half wakes the reader when much waits, or when a record must be
//! seen at once; else a timer does, which this sets.
//!
//! Each time the engine runs, what the application had in the caches of that CPU is gone. Under load records are
//! therefore taken in fewer, larger portions; without load nobody is disturbed, and what is learnt is learnt early.

use std::time::{Duration, Instant};

/// Without much to do.
const SHORT: Duration = Duration::from_millis(20);
/// Under load.
const LONG: Duration = Duration::from_millis(100);
/// Records a second from which on there is load.
const LOAD: u64 = 5_000;

/// Sets the timer from one turn to the next.
#[derive(Debug)]
pub(super) struct Pace {
    /// Records so far, and when they were counted.
    seen: u64,
    at: Instant,
    wait: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { seen: 0, at: Instant::now(), wait: SHORT }
    }

    /// Until the ring is to be drained again.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// The ring has been drained: this many records have come since the start.
    pub(super) fn drained(&mut self, records: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        // Several turns may follow one another at once.
        if elapsed < SHORT / 2 {
            return;
        }
        let new = records.saturating_sub(self.seen);
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let is_load = new.saturating_mul(1_000_000_000) / nanoseconds.max(1) >= LOAD;
        self.wait = if is_load { LONG } else { SHORT };
        (self.seen, self.at) = (records, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_met_with_patience() {
        let start = Instant::now();
        let mut pace = Pace { seen: 0, at: start, wait: SHORT };
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        pace.drained(99, at(20));
        assert_eq!(pace.wait(), SHORT);
        pace.drained(99 + 100, at(40));
        assert_eq!(pace.wait(), LONG);
        // Woken at once, again and again: that says nothing of the load.
        pace.drained(99 + 100, at(41));
        assert_eq!(pace.wait(), LONG);
        pace.drained(99 + 100 + 500, at(140));
        assert_eq!(pace.wait(), LONG);
        pace.drained(99 + 100 + 500 + 499, at(240));
        assert_eq!(pace.wait(), SHORT);
        // A clock that stands still.
        pace.drained(u64::MAX, at(240));
        assert_eq!(pace.wait(), SHORT);
    }
}
