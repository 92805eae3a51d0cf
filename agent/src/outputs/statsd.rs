//! Counters and timers in the statsd line protocol, added up over an interval. It sends nothing.
//!
//! A timer line stands for many durations: `name:VALUE|ms|@RATE` says that it is one of `1/RATE` alike (the sample rate of
//! the protocol), so that the receiver's own counts and percentiles come out right. Durations are alike when they fall into
//! one bucket of [`pyapm_model::metric::SCALE`]; the value is their mean.

use crate::store::is_error;
use pyapm_model::line::{SpanKind, Transaction};
use pyapm_model::metric::exponential_index;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    pub prefix: String,
    /// Application and names as tags (DogStatsD), else as parts of the metric's name.
    pub has_tags: bool,
    /// Bytes in one datagram, at most.
    pub datagram_bytes: usize,
    /// Series in one interval, at most.
    pub series: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Application, name.
    Transaction(String, String),
    /// Application, system, operation.
    Db(String, String, String),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    count: u64,
    errors: u64,
    /// Count and nanoseconds by bucket.
    durations: BTreeMap<i32, (u64, u64)>,
}

/// What has happened in the interval so far.
#[derive(Debug)]
pub struct Interval {
    style: Style,
    sums: BTreeMap<Key, Sums>,
    /// Transactions in it.
    lines: u64,
}

/// One datagram, and how many transactions began to be told in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub text: String,
    pub lines: u64,
}

/// What stands for names that found no room.
const OTHER: &str = "other";

impl Interval {
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self { style, sums: BTreeMap::new(), lines: 0 }
    }

    /// Counts a transaction and its database calls.
    pub fn record(&mut self, application: &str, transaction: &Transaction) {
        self.lines += 1;
        let key = Key::Transaction(application.to_owned(), transaction.name.clone());
        let other = || Key::Transaction(application.to_owned(), OTHER.to_owned());
        self.add(key, other, transaction.duration_ns, is_error(transaction));
        let calls = transaction.spans.iter();
        for span in calls.filter(|span| matches!(span.kind, SpanKind::Db | SpanKind::Cache)) {
            let system = span.db_system.as_deref().unwrap_or("other_sql").to_owned();
            let operation = span.name.split(' ').next().unwrap_or_default().to_owned();
            let key = Key::Db(application.to_owned(), system.clone(), operation);
            let other = || Key::Db(application.to_owned(), system, OTHER.to_owned());
            self.add(key, other, span.duration_ns, span.error_type.is_some());
        }
    }

    fn add(&mut self, key: Key, other: impl FnOnce() -> Key, duration_ns: u64, failed: bool) {
        let has_room = self.sums.len() < self.style.series || self.sums.contains_key(&key);
        let sums = self.sums.entry(if has_room { key } else { other() }).or_default();
        sums.count += 1;
        sums.errors += u64::from(failed);
        let bucket = if duration_ns == 0 { i32::MIN } else { exponential_index(duration_ns as f64 / 1e9) };
        let (count, sum) = sums.durations.entry(bucket).or_default();
        *count += 1;
        *sum = sum.saturating_add(duration_ns);
    }

    /// Everything since the last time, in as few datagrams as hold it.
    pub fn take(&mut self) -> Vec<Datagram> {
        let sums = std::mem::take(&mut self.sums);
        self.lines = 0;
        let mut datagrams: Vec<Datagram> = Vec::new();
        for (key, sums) in &sums {
            let counts = match key {
                Key::Transaction(..) => sums.count,
                Key::Db(..) => 0,
            };
            for (place, line) in self.lines_of(key, sums).into_iter().enumerate() {
                let lines = if place == 0 { counts } else { 0 };
                match datagrams.last_mut() {
                    Some(last) if last.text.len() + 1 + line.len() <= self.style.datagram_bytes => {
                        last.text.push('\n');
                        last.text.push_str(&line);
                        last.lines += lines;
                    }
                    _ => datagrams.push(Datagram { text: line, lines }),
                }
            }
        }
        datagrams
    }

    fn lines_of(&self, key: &Key, sums: &Sums) -> Vec<String> {
        let (kind, parts): (&str, Vec<(&str, &str)>) = match key {
            Key::Transaction(application, name) => {
                ("transaction", vec![("service", application), ("transaction", name)])
            }
            Key::Db(application, system, operation) => {
                ("db", vec![("service", application), ("system", system), ("operation", operation)])
            }
        };
        let (stem, tags) = self.named(kind, &parts);
        let mut lines = vec![format!("{stem}.count:{}|c{tags}", sums.count)];
        if sums.errors > 0 {
            lines.push(format!("{stem}.errors:{}|c{tags}", sums.errors));
        }
        for (count, sum_ns) in sums.durations.values() {
            let mean_ms = *sum_ns as f64 / *count as f64 / 1e6;
            let rate = if *count > 1 { format!("|@{}", 1.0 / *count as f64) } else { String::new() };
            lines.push(format!("{stem}.duration:{mean_ms:.6}|ms{rate}{tags}"));
        }
        lines
    }

    /// The beginning of the metric's name, and the tags behind the value.
    fn named(&self, kind: &str, parts: &[(&str, &str)]) -> (String, String) {
        let mut stem = self.style.prefix.clone();
        let dot = if stem.is_empty() || stem.ends_with('.') { "" } else { "." };
        stem.push_str(dot);
        if self.style.has_tags {
            let mut tags = String::new();
            for (number, (name, value)) in parts.iter().enumerate() {
                let before = if number == 0 { "|#" } else { "," };
                // Writing to memory does not fail.
                let _infallible = write!(tags, "{before}{name}:{}", tag(value));
            }
            return (stem + kind, tags);
        }
        let mut words = parts.iter().map(|(_, value)| word(value));
        let first = words.next().unwrap_or_default();
        let rest: Vec<String> = words.collect();
        (format!("{stem}{first}.{kind}.{}", rest.join(".")), String::new())
    }
}

/// Longest part of a name; one datagram always holds a line.
const LONGEST: usize = 60;

/// A part of a name: dots part names, colons and bars part lines.
fn word(text: &str) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }
    };
    let word: String = text.chars().map(letter).take(LONGEST).collect();
    let word = word.trim_matches('_');
    if word.is_empty() { "_".to_owned() } else { word.to_owned() }
}

/// A tag's value: commas part tags, bars part fields.
fn tag(text: &str) -> String {
    let letter = |letter: char| match letter {
        ',' | '|' | '#' | '@' => '_',
        letter if letter.is_control() || !letter.is_ascii() => '_',
        letter => letter,
    };
    text.chars().map(letter).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::Span;

    fn style(has_tags: bool) -> Style {
        Style { prefix: "pyapm".into(), has_tags, datagram_bytes: 512, series: 3 }
    }

    fn request(name: &str, duration_ns: u64, status: u16) -> Transaction {
        Transaction { name: name.into(), duration_ns, status: Some(status), ..Transaction::default() }
    }

    #[test]
    fn alike_durations_are_one_line_and_none_is_lost() {
        let mut interval = Interval::new(style(false));
        for _ in 0..4 {
            interval.record("shop", &request("GET /users/{id}", 10_000_000, 200));
        }
        let span = Span {
            name: "SELECT users".into(),
            db_system: Some("mysql".into()),
            duration_ns: 3_000_000,
            ..Span::default()
        };
        let failed = Transaction { spans: vec![span], ..request("GET /users/{id}", 500_000_000, 500) };
        interval.record("shop", &failed);
        let [datagram] = &interval.take()[..] else { panic!() };
        assert_eq!(datagram.lines, 5);
        assert_eq!(
            datagram.text,
            "pyapm.shop.transaction.GET__users__id.count:5|c\n\
             pyapm.shop.transaction.GET__users__id.errors:1|c\n\
             pyapm.shop.transaction.GET__users__id.duration:10.000000|ms|@0.25\n\
             pyapm.shop.transaction.GET__users__id.duration:500.000000|ms\n\
             pyapm.shop.db.mysql.SELECT.count:1|c\n\
             pyapm.shop.db.mysql.SELECT.duration:3.000000|ms"
        );
        assert!(interval.take().is_empty(), "it begins anew");
    }

    #[test]
    fn tags_cannot_break_a_line() {
        let mut interval = Interval::new(style(true));
        interval.record("sh|op,x", &request("GET /é\n#1", 0, 200));
        let [datagram] = &interval.take()[..] else { panic!() };
        assert_eq!(
            datagram.text,
            "pyapm.transaction.count:1|c|#service:sh_op_x,transaction:GET /___1\n\
             pyapm.transaction.duration:0.000000|ms|#service:sh_op_x,transaction:GET /___1"
        );
    }

    #[test]
    fn names_and_datagrams_are_bounded() {
        let mut interval = Interval::new(style(true));
        for number in 0..1_000_u64 {
            interval.record(
                "shop",
                &request(&format!("GET /{number}{}", "x".repeat(500)), 1_000 << (number % 20), 200),
            );
        }
        let datagrams = interval.take();
        assert!(datagrams.iter().all(|datagram| datagram.text.len() <= 512));
        assert_eq!(datagrams.iter().map(|datagram| datagram.lines).sum::<u64>(), 1_000);
        let all: Vec<&str> = datagrams.iter().flat_map(|datagram| datagram.text.lines()).collect();
        let counts: u64 = all
            .iter()
            .filter(|line| line.starts_with("pyapm.transaction.count:"))
            .map(|line| line.split([':', '|']).nth(1).unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(counts, 1_000);
        assert_eq!(all.iter().filter(|line| line.starts_with("pyapm.transaction.count:")).count(), 4);
    }
}
