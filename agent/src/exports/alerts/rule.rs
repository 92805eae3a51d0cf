//! From figures to alerts: out of bounds for long enough it fires, back within them for long enough it is over. Pure:
//! times are handed in.

use super::window::Sums;
use crate::config::AlertRule;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    ErrorRate,
    P50,
    P95,
    P99,
    Throughput,
    Apdex,
    Active,
}

impl Metric {
    /// `None` for what is no metric; a checked configuration has none such.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "error_rate" => Self::ErrorRate,
            "p50" => Self::P50,
            "p95" => Self::P95,
            "p99" => Self::P99,
            "throughput" => Self::Throughput,
            "apdex" => Self::Apdex,
            "active" => Self::Active,
            _ => return None,
        })
    }

    /// The figure, in the unit that bounds are given in; `None` while there are too few transactions to make it of.
    pub(super) fn of(self, sums: &Sums, rule: &AlertRule) -> Option<f64> {
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        let enough = sums.count > 0 && sums.count >= u64::from(rule.minimum);
        match self {
            Self::Throughput => Some(sums.count as f64 / f64::from(rule.over_seconds.max(1))),
            Self::Active => None,
            _ if !enough => None,
            Self::ErrorRate => Some(sums.errors as f64 / sums.count as f64),
            Self::P50 => Some(milliseconds(sums.p50_ns)),
            Self::P95 => Some(milliseconds(sums.p95_ns)),
            Self::P99 => Some(milliseconds(sums.p99_ns)),
            Self::Apdex => Some(sums.apdex),
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P95 | Self::P99 => " ms",
            Self::Throughput => "/s",
            Self::ErrorRate | Self::Apdex | Self::Active => "",
        }
    }
}

/// What one rule says of one application.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum State {
    #[default]
    Quiet,
    /// Out of bounds, not yet for long enough.
    Pending { since_s: u64 },
    Firing {
        /// When it went out of bounds.
        since_s: u64,
        /// Since when it is back; `None` while it is not.
        back_s: Option<u64>,
    },
}

/// What has changed, and is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Fired { since_s: u64 },
    Resolved { since_s: u64 },
}

impl State {
    /// The state at `now_s`, with the figure as it is then. While nothing is known nothing changes, but what has not fired
    /// begins anew.
    pub(super) fn step(&mut self, rule: &AlertRule, value: Option<f64>, now_s: u64) -> Option<Change> {
        let Some(value) = value else {
            match self {
                Self::Pending { .. } => *self = Self::Quiet,
                Self::Firing { back_s, .. } => *back_s = None,
                Self::Quiet => {}
            }
            return None;
        };
        let elapsed = |since_s: u64| now_s.saturating_sub(since_s);
        if *self == Self::Quiet && is_out(rule, value) {
            *self = Self::Pending { since_s: now_s };
        }
        match *self {
            Self::Quiet => None,
            Self::Pending { .. } if !is_out(rule, value) => {
                *self = Self::Quiet;
                None
            }
            Self::Pending { since_s } if elapsed(since_s) >= u64::from(rule.for_seconds) => {
                *self = Self::Firing { since_s, back_s: None };
                Some(Change::Fired { since_s })
            }
            Self::Pending { .. } => None,
            Self::Firing { since_s, .. } if !is_back(rule, value) => {
                *self = Self::Firing { since_s, back_s: None };
                None
            }
            Self::Firing { since_s, back_s } => {
                let back_s = back_s.unwrap_or(now_s);
                if elapsed(back_s) >= u64::from(rule.resolve_seconds) {
                    *self = Self::Quiet;
                    return Some(Change::Resolved { since_s });
                }
                *self = Self::Firing { since_s, back_s: Some(back_s) };
                None
            }
        }
    }
}

fn is_out(rule: &AlertRule, value: f64) -> bool {
    rule.above.is_some_and(|above| value > above) || rule.below.is_some_and(|below| value < below)
}

/// Within the bounds by so much that it will not leave them again at once.
fn is_back(rule: &AlertRule, value: f64) -> bool {
    rule.above.is_none_or(|above| value <= above * (1.0 - rule.hysteresis))
        && rule.below.is_none_or(|below| value >= below * (1.0 + rule.hysteresis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> AlertRule {
        AlertRule {
            name: "slow".into(),
            above: Some(100.0),
            for_seconds: 3,
            resolve_seconds: 2,
            hysteresis: 0.1,
            ..AlertRule::default()
        }
    }

    /// One figure a second, from second 0 on: what was told, and when.
    fn told(rule: &AlertRule, values: &[Option<f64>]) -> Vec<(u64, Change)> {
        let mut state = State::default();
        let step = |(second, value): (usize, &Option<f64>)| {
            let second = second as u64;
            state.step(rule, *value, second).map(|change| (second, change))
        };
        values.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn it_fires_after_its_time_and_is_over_after_its_time() {
        let values = [50.0, 150.0, 150.0, 150.0, 150.0, 95.0, 89.0, 89.0, 89.0, 50.0].map(Some);
        let expected = [(4, Change::Fired { since_s: 1 }), (8, Change::Resolved { since_s: 1 })];
        assert_eq!(told(&rule(), &values), expected);
    }

    #[test]
    fn what_goes_to_and_fro_is_told_once() {
        let mut values = vec![Some(150.0); 4];
        values.extend([Some(89.0), Some(95.0), Some(89.0), Some(150.0)].repeat(20));
        assert_eq!(told(&rule(), &values), [(3, Change::Fired { since_s: 0 })]);
        let brief = [Some(150.0), Some(150.0), Some(50.0)].repeat(20);
        assert_eq!(told(&rule(), &brief), []);
    }

    #[test]
    fn the_unknown_neither_fires_nor_resolves() {
        let mut values = vec![Some(150.0), Some(150.0), None, Some(150.0), Some(150.0)];
        assert_eq!(told(&rule(), &values), []);
        values.extend([Some(150.0), Some(150.0), Some(50.0), None, None, None, Some(50.0)]);
        assert_eq!(told(&rule(), &values), [(6, Change::Fired { since_s: 3 })]);
    }

    #[test]
    fn bounds_below() {
        let rule = AlertRule { above: None, below: Some(10.0), for_seconds: 0, resolve_seconds: 0, ..rule() };
        let values = [9.0, 10.5, 11.0, 20.0].map(Some);
        let expected = [(0, Change::Fired { since_s: 0 }), (2, Change::Resolved { since_s: 0 })];
        assert_eq!(told(&rule, &values), expected);
    }

    #[test]
    fn too_few_say_nothing_but_their_number() {
        let rule = AlertRule { minimum: 10, over_seconds: 3, ..rule() };
        let few = Sums { count: 9, errors: 9, ..Sums::default() };
        assert_eq!(Metric::ErrorRate.of(&few, &rule), None);
        assert_eq!(Metric::Throughput.of(&few, &rule), Some(3.0));
        let some = Sums { count: 10, errors: 5, p95_ns: 2_000_000, ..Sums::default() };
        assert_eq!(Metric::ErrorRate.of(&some, &rule), Some(0.5));
        assert_eq!(Metric::P95.of(&some, &rule), Some(2.0));
    }
}
