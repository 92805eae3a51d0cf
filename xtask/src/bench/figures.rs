//! Figures out of runs: medians, ratios, and the text that goes into the documentation. It measures nothing.

use anyhow::{Context, Result};

/// One run of the load generator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    pub requests_per_second: f64,
    pub p99_ms: f64,
    /// Answers that were no success, or connections that broke.
    pub errors: u64,
}

/// What the daemon used during a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Daemon {
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    pub requests: f64,
}

impl Run {
    /// Reads what `wrk --latency` prints.
    ///
    /// # Errors
    /// When a figure is not there.
    pub fn parse(text: &str) -> Result<Self> {
        let after = |label: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label));
            line.map(str::trim).with_context(|| format!("no `{label}` in what `wrk` printed:\n{text}"))
        };
        let rate = after("Requests/sec:")?.parse().context("a rate that is no number")?;
        let errors = ["Non-2xx or 3xx responses:", "Socket errors:"].map(|label| {
            let line = after(label).unwrap_or_default();
            line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>()
        });
        Ok(Self {
            requests_per_second: rate,
            p99_ms: milliseconds(after("99%")?)?,
            errors: errors.iter().sum(),
        })
    }
}

/// `850.00us`, `2.34ms`, `1.20s`
fn milliseconds(text: &str) -> Result<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    let found =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, factor)));
    found.map(|(number, factor)| number * factor).with_context(|| format!("`{text}` is no duration of `wrk`"))
}

/// The middle value; the mean of both when there are two. Zero of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (_, None) => 0.0,
        (1, Some(value)) => *value,
        (_, Some(value)) => {
            f64::midpoint(sorted.get(middle.wrapping_sub(1)).copied().unwrap_or(*value), *value)
        }
    }
}

/// The section of the documentation: a table, what lies behind it, and the command.
#[must_use]
pub fn section(without: &[Run], with: &[Run], daemon: &[Daemon], command: &str, machine: &str) -> String {
    let rate = |runs: &[Run]| runs.iter().map(|run| run.requests_per_second).collect::<Vec<_>>();
    let tail = |runs: &[Run]| runs.iter().map(|run| run.p99_ms).collect::<Vec<_>>();
    let spread = |values: &[f64]| {
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(*value), high.max(*value)));
        format!("{low:.0} to {high:.0}")
    };
    let ratio = |with: &[f64], without: &[f64]| median(with) / median(without);
    let errors: u64 = without.iter().chain(with).map(|run| run.errors).sum();
    let cpu: Vec<f64> =
        daemon.iter().map(|used| 1000.0 * 1000.0 * used.cpu_seconds / used.requests).collect();
    let rss = daemon.iter().map(|used| used.rss_bytes).max().unwrap_or_default() as f64 / 1e6;
    let pairs: Vec<f64> = with
        .iter()
        .zip(without)
        .map(|(with, without)| with.requests_per_second / without.requests_per_second)
        .collect();
    let paired = pairs.iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>().join(", ");
    format!(
        "| Django route with one query, gunicorn, 4 sync workers | without | with pyapm | ratio |\n\
         |---|---|---|---|\n\
         | requests/s, median (range) | {:.0} ({}) | {:.0} ({}) | {:.3} |\n\
         | p99, ms, median | {:.2} | {:.2} | {:.3} |\n\n\
         Ratio of requests/s in each pair of neighbouring runs: {paired}. Failed requests: {errors}.\n\
         The daemon used {:.1} ms of CPU per 1,000 requests (median) and at most {rss:.1} MB of memory (RSS).\n\
         Tracing and 99 Hz sampling on, every transaction written as JSON. {machine}\n\n\
         Measured by `{command}`.\n",
        median(&rate(without)),
        spread(&rate(without)),
        median(&rate(with)),
        spread(&rate(with)),
        ratio(&rate(with), &rate(without)),
        median(&tail(without)),
        median(&tail(with)),
        ratio(&tail(with), &tail(without)),
        median(&cpu),
    )
}

/// Puts the section of this bench between its marks, or with its marks at the end of the text.
#[must_use]
pub fn insert(document: &str, bench: &str, section: &str) -> String {
    let begin = format!("<!-- bench {bench}: begin -->\n");
    let end = format!("<!-- bench {bench}: end -->\n");
    let marked = format!("{begin}{section}{end}");
    match (document.split_once(&begin), document.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{marked}{after}"),
        _ if document.is_empty() => format!("# What pyapm costs\n\n{marked}"),
        _ => format!("{}\n\n{marked}", document.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 1s test @ http://127.0.0.1:8000/\n  Latency Distribution\n     50%    1.20ms\n     \
                       99%  850.00us\n  3000 requests in 1.00s, 1.00MB read\n  Socket errors: connect 0, read 2, write 0, \
                       timeout 1\n  Non-2xx or 3xx responses: 4\nRequests/sec:   3000.50\nTransfer/sec: 1.00MB\n";

    #[test]
    fn wrk_is_read() {
        assert_eq!(Run::parse(WRK).unwrap(), Run { requests_per_second: 3000.5, p99_ms: 0.85, errors: 7 });
        assert!(Run::parse("unable to connect").is_err());
    }

    #[test]
    fn durations_have_units() {
        assert!((milliseconds("1.50s").unwrap() - 1500.0).abs() < 1e-9);
        assert!((milliseconds("2.34ms").unwrap() - 2.34).abs() < 1e-9);
        assert!(milliseconds("2.34").is_err());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[5.0, 1.0, 3.0]) - 3.0).abs() < 1e-9);
        assert!((median(&[4.0, 2.0]) - 3.0).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }

    #[test]
    fn a_section_replaces_its_predecessor_only() {
        let first = insert("# Cost\n\nBefore.\n", "overhead", "one\n");
        let second = insert(&format!("{first}\nAfter.\n"), "overhead", "two\n");
        assert!(second.contains("Before.") && second.contains("two") && second.contains("After."));
        assert!(!second.contains("one"));
    }

    #[test]
    fn the_ratio_is_with_over_without() {
        let run = |rate| Run { requests_per_second: rate, p99_ms: 2.0, errors: 0 };
        let used = Daemon { cpu_seconds: 0.5, rss_bytes: 20_000_000, requests: 10_000.0 };
        let text = section(&[run(1000.0)], &[run(980.0)], &[used], "cargo x", "2 cores.");
        assert!(
            text.contains("0.980") && text.contains("50.0 ms of CPU") && text.contains("20.0 MB"),
            "{text}"
        );
    }
}
