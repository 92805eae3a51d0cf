//! What the service itself costs, and the budget: beyond it sampling slows down by half, step by step, and comes back
//! when there has been room for a while. Requests and spans are never thinned out.

use crate::config::Budget;
use crate::targets::UsageMeter;

/// Between two readings that make a rate: CPU time is known to 10 ms.
const READING_NS: u64 = 10_000_000_000;
/// So long there must be room before sampling becomes faster.
const RECOVERY_NS: u64 = 60_000_000_000;

/// The newest reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Vitals {
    pub(super) cpu_cores: Option<f64>,
    pub(super) rss_bytes: Option<u64>,
}

/// Reads this process.
#[derive(Debug, Default)]
pub(super) struct Meter {
    usage: UsageMeter,
    read_ns: Option<u64>,
    pub(super) vitals: Vitals,
}

impl Meter {
    /// Reads when it is due; `true` when there is a new rate.
    pub(super) fn read(&mut self, now_ns: u64) -> bool {
        if self.read_ns.is_some_and(|last| now_ns.saturating_sub(last) < READING_NS) {
            return false;
        }
        self.read_ns = Some(now_ns);
        let Some((_, usage)) = self.usage.read(&[std::process::id()], now_ns).pop() else { return false };
        self.vitals = Vitals { cpu_cores: usage.cpu_cores, rss_bytes: Some(usage.rss_bytes) };
        usage.cpu_cores.is_some()
    }
}

/// Decides how fast sampling may be.
#[derive(Debug)]
pub(super) struct Governor {
    /// As configured.
    wanted_hz: u32,
    least_hz: u32,
    cpu_percent: f64,
    now_hz: u32,
    /// Since when there has been room for twice the rate.
    room_since_ns: Option<u64>,
}

impl Governor {
    pub(super) fn new(budget: &Budget, wanted_hz: u32) -> Self {
        let least_hz = budget.least_sampling_hz.min(wanted_hz);
        Self { wanted_hz, least_hz, cpu_percent: budget.cpu_percent, now_hz: wanted_hz, room_since_ns: None }
    }

    pub(super) fn is_slowed(&self) -> bool {
        self.now_hz < self.wanted_hz
    }

    /// Takes a new reading of the daemon's CPU, 1.0 = one core; gives the rate to sample with from now on, when it
    /// changes.
    pub(super) fn step(&mut self, cpu_cores: f64, now_ns: u64) -> Option<u32> {
        if self.cpu_percent == 0.0 {
            return None;
        }
        let percent = cpu_cores * 100.0;
        let before = self.now_hz;
        if percent > self.cpu_percent {
            self.room_since_ns = None;
            self.now_hz = (self.now_hz / 2).max(self.least_hz);
        } else if self.is_slowed() && percent < self.cpu_percent / 2.0 {
            let since = *self.room_since_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(since) >= RECOVERY_NS {
                self.room_since_ns = None;
                self.now_hz = self.now_hz.saturating_mul(2).min(self.wanted_hz);
            }
        } else {
            self.room_since_ns = None;
        }
        (self.now_hz != before).then_some(self.now_hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn governor() -> Governor {
        Governor::new(&Budget { cpu_percent: 10.0, least_sampling_hz: 20 }, 99)
    }

    #[test]
    fn slows_down_by_half_to_the_least_and_comes_back_after_a_minute_of_room() {
        let mut governor = governor();
        assert_eq!(governor.step(0.05, 0), None);
        let rates: Vec<_> = (1..5).map(|turn| governor.step(0.5, turn * 10 * SECOND)).collect();
        assert_eq!(rates, [Some(49), Some(24), Some(20), None]);
        assert!(governor.is_slowed());
        // Within the budget, but not room enough for twice as much.
        assert_eq!(governor.step(0.09, 100 * SECOND), None);
        let mut times = Vec::new();
        for turn in 11..60 {
            if let Some(rate) = governor.step(0.01, turn * 10 * SECOND) {
                times.push((turn, rate));
            }
        }
        assert_eq!(times, [(17, 40), (24, 80), (31, 99)]);
        assert!(!governor.is_slowed());
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut governor = Governor::new(&Budget { cpu_percent: 0.0, least_sampling_hz: 5 }, 99);
        assert_eq!(governor.step(9.0, 1), None);
        let mut slow = Governor::new(&Budget { cpu_percent: 1.0, least_sampling_hz: 50 }, 10);
        assert_eq!(slow.step(9.0, 1), None, "never faster than wanted, never slower than the least");
    }

    #[test]
    fn this_process_is_read() {
        let mut meter = Meter::default();
        assert!(!meter.read(1));
        assert!(
            meter.vitals.rss_bytes.is_some_and(|bytes| bytes > 100_000) && meter.vitals.cpu_cores.is_none()
        );
        assert!(!meter.read(READING_NS / 2));
        assert!(meter.read(READING_NS + 1));
    }
}
