//! `[statsd]`: where counters and timers are pushed.

use super::section::{Checked, Wrong, section};

section! {
    /// Counters and timers of transactions and database calls, pushed as statsd datagrams, added up over each interval.
    pub struct Statsd {
        /// Address and port for UDP, or `unix:` and the path of a datagram socket. Without it nothing is sent.
        address: Option<String> = None => "\"127.0.0.1:8125\"",
        /// What each name begins with.
        prefix: String = "pyapm".into(),
        /// `none`: application and name become part of the metric's name. `dogstatsd`: they are tags.
        tags: String = "none".into(),
        /// Seconds between two pushes.
        interval_seconds: f64 = 10.0,
        /// Bytes in one datagram, at most; what fits the network without being cut up.
        datagram_bytes: u32 = 1432,
        /// Names of transactions and calls in one interval, at most; the rest share one, `other`.
        series: u32 = 1000,
    }
}

impl Checked for Statsd {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if let Some(address) = &self.address {
            let has_port = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            let is_path = address.strip_prefix("unix:").is_some_and(|path| path.starts_with('/'));
            if !has_port && !is_path {
                wrong.push(Wrong::key("address", "not like `127.0.0.1:8125` or `unix:/run/statsd.sock`"));
            }
        }
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
        if !self.prefix.chars().all(is_name) {
            wrong.push(Wrong::key("prefix", "letters, digits, `_`, `-` and `.` alone"));
        }
        if !["none", "dogstatsd"].contains(&self.tags.as_str()) {
            wrong.push(Wrong::key("tags", "not one of `none`, `dogstatsd`"));
        }
        if !(0.1..=3_600.0).contains(&self.interval_seconds) {
            wrong.push(Wrong::key("interval_seconds", "not from 0.1 to 3600"));
        }
        if !(256..=65_000).contains(&self.datagram_bytes) {
            wrong.push(Wrong::key("datagram_bytes", "not from 256 to 65000"));
        }
        if !(1..=100_000).contains(&self.series) {
            wrong.push(Wrong::key("series", "not from 1 to 100000"));
        }
        wrong
    }
}
