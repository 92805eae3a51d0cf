//! When a request reached the first server in front of the application, as that server wrote it down: `X-Request-Start`
//! or `X-Queue-Start`. What is written is a time since the Unix epoch, in a unit that nobody names:
//!
//! - nginx, `t=${msec}`: seconds with three decimals, `t=1700000000.123`;
//! - Apache, `t=%t`: microseconds, `t=1700000000123456`;
//! - HAProxy (`%Ts%ms`) and Heroku's router: milliseconds, `1700000000123`;
//! - others: seconds, or nanoseconds.
//!
//! The units are three decimal orders apart, so the size of the number tells which it is for any time between 2001 and
//! 2286. It is another machine's clock, perhaps: only a plausible difference is believed.

/// A time further back than this is taken for a clock that is wrong.
const LONGEST_NS: u64 = 300_000_000_000;
/// Seconds since the epoch that are believed: 2001 to 2286.
const EARLIEST_S: u64 = 1_000_000_000;
const LATEST_S: u64 = 10_000_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// A time on the clock of whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStart {
    /// Nanoseconds since the Unix epoch.
    since_ns: u64,
    /// How exactly it was written, in nanoseconds.
    step_ns: u64,
}

impl QueueStart {
    /// `None` for what is no time of our age.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let text = text.strip_prefix("t=").unwrap_or(text);
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 19 || !digits(whole) || !digits(decimals) {
            return None;
        }
        let number: u64 = whole.parse().ok()?;
        let unit_ns = [NS_PER_S, 1_000_000, 1_000, 1].into_iter().find(|unit_ns| {
            let scale = NS_PER_S / unit_ns;
            (EARLIEST_S..LATEST_S).contains(&(number / scale))
        })?;
        let (mut since_ns, mut step_ns) = (number.checked_mul(unit_ns)?, unit_ns);
        for digit in decimals.bytes() {
            step_ns /= 10;
            since_ns = since_ns.checked_add(u64::from(digit - b'0') * step_ns)?;
        }
        Some(Self { since_ns, step_ns: step_ns.max(1) })
    }

    /// How long the request had waited when its first byte was read, in nanoseconds; `None` when that is not plausible.
    #[must_use]
    pub fn until(self, read_ns: u64) -> Option<u64> {
        // A time that was rounded may seem later than it was, by half a step at most.
        if self.since_ns > read_ns {
            return (self.since_ns - read_ns <= self.step_ns / 2).then_some(0);
        }
        Some(read_ns - self.since_ns).filter(|waited_ns| *waited_ns <= LONGEST_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 1_700_000_000_123_000_000;

    #[test]
    fn every_way_of_writing_it() {
        let ways = [
            ("t=1700000000.123", AT),
            ("1700000000.123", AT),
            ("1700000000123", AT),
            ("t=1700000000123", AT),
            ("t=1700000000123456", AT + 456_000),
            ("1700000000123456789", AT + 456_789),
            ("t=1700000000", AT - 123_000_000),
            (" 1700000000.123456 ", AT + 456_000),
            ("1700000000123.5", AT + 500_000),
        ];
        for (text, expected) in ways {
            let start = QueueStart::parse(text.as_bytes()).unwrap();
            assert_eq!(start.since_ns, expected, "{text}");
            assert_eq!(start.until(expected + 7_000_000), Some(7_000_000), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_believed() {
        let others = ["", "t=", "t", "-1700000000", "now", "0", "12345", "1e9", "t=1700000000.12x", "1.7.0"];
        for text in
            others.into_iter().chain(["99999999999999999999", "18446744073709551615", "1700000000,123"])
        {
            assert_eq!(QueueStart::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(QueueStart::parse(b"\xff\xfe"), None);
    }

    #[test]
    fn only_what_is_plausible_is_a_wait() {
        let start = QueueStart::parse(b"t=1700000000.123").unwrap();
        assert_eq!(start.until(AT), Some(0));
        assert_eq!(start.until(AT - 400_000), Some(0), "it was rounded");
        assert_eq!(start.until(AT - 600_000), None, "a clock that is ahead");
        assert_eq!(start.until(AT + LONGEST_NS), Some(LONGEST_NS));
        assert_eq!(start.until(AT + LONGEST_NS + 1), None);
    }

    #[test]
    fn any_bytes() {
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..24)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    b"0123456789999.t=- "[(state >> 33) as usize % 18]
                })
                .collect();
            for end in 0..=text.len() {
                if let Some(start) = QueueStart::parse(&text[..end]) {
                    let _plausible = (start.until(0), start.until(u64::MAX));
                }
            }
        }
    }
}
