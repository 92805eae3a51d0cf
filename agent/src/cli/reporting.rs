//! The flags of `report`, and times as people write them.

use super::options::{ReportFormat, ReportOptions};
use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, Zoned};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// The window when none is named.
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) const EXAMPLES: &str = "\
Examples:
  pyapm report --last 2h                                    the last two hours, as text
  pyapm report --since 09:00 --until 12:00 --format html -o morning.html
  pyapm report --last 1h --compare 1d                       against the same hour yesterday
  pyapm report --since 14:00 --compare previous             against as much time before it

A time is `14:00` (today), `2026-11-21`, `2026-11-21 14:00`, with a zone `2026-11-21T14:00:00Z`, or how long ago it was:
`90s`, `15m`, `2h`, `3d`. Without a zone it is this host's. Minutes that are partly in a window are all in it.";

#[derive(clap::Args, Debug)]
pub(super) struct Report {
    /// The beginning of the window [default: an hour before its end].
    #[arg(long, value_name = "TIME", conflicts_with = "last")]
    since: Option<String>,

    /// Its end [default: now].
    #[arg(long, value_name = "TIME", conflicts_with = "last")]
    until: Option<String>,

    /// The last so much time: `15m`, `2h`, `3d`.
    #[arg(long, value_name = "TIME", value_parser = length)]
    last: Option<Duration>,

    /// One application by its name [default: all].
    #[arg(long, value_name = "NAME")]
    application: Option<String>,

    /// What to write.
    #[arg(long, value_enum, default_value_t = FormatArgument::Text)]
    format: FormatArgument,

    /// To this file [default: to stdout].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Against another window: `previous`, as much time before; `1d`, the same time a day before; or `SINCE..UNTIL`.
    #[arg(long, value_name = "WINDOW")]
    compare: Option<String>,

    /// Rows in each table of text and HTML, and transactions that are told whole.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rows: u32,

    /// The history [default: the configuration's].
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// The configuration that names it [default: /etc/pyapm/pyapm.toml where it is there].
    #[arg(long, value_name = "FILE", conflicts_with = "history")]
    config: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum FormatArgument {
    Text,
    /// One object, with all rows.
    Json,
    /// A page with waterfalls and flame graphs, in one file.
    Html,
}

impl Report {
    /// `now` is the time by the clock, in the zone that times are meant in.
    pub(super) fn checked(
        self,
        now: &Zoned,
        command: &mut clap::Command,
    ) -> Result<ReportOptions, clap::Error> {
        let mut refuse = |message: String| command.error(clap::error::ErrorKind::ValueValidation, message);
        let window = self.window(now).map_err(&mut refuse)?;
        let compare = match self.compare.as_deref() {
            Some(text) => Some(other(text, window, now).map_err(&mut refuse)?),
            None => None,
        };
        Ok(ReportOptions {
            since_ns: window.0,
            until_ns: window.1,
            compare,
            application: self.application,
            format: match self.format {
                FormatArgument::Text => ReportFormat::Text,
                FormatArgument::Json => ReportFormat::Json,
                FormatArgument::Html => ReportFormat::Html,
            },
            output: self.output,
            rows: self.rows as usize,
            history: self.history,
            config: super::configuration::to_start_with(self.config),
        })
    }

    fn window(&self, now: &Zoned) -> Result<(u64, u64), String> {
        let at = |name: &str, text: &str| {
            time(text, now).map_err(|problem| format!("--{name} `{text}`: {problem}"))
        };
        let until_ns = match &self.until {
            Some(text) => at("until", text)?,
            None => nanoseconds(now.timestamp())?,
        };
        let since_ns = match (&self.since, self.last) {
            (Some(text), _) => at("since", text)?,
            (None, last) => before(until_ns, last.unwrap_or(HOUR)),
        };
        if since_ns < until_ns {
            Ok((since_ns, until_ns))
        } else {
            Err("the window ends before it begins: --since must be earlier than --until".to_owned())
        }
    }
}

/// The window that another is compared with.
fn other(text: &str, (since_ns, until_ns): (u64, u64), now: &Zoned) -> Result<(u64, u64), String> {
    let length_ns = until_ns - since_ns;
    if text == "previous" {
        // Whole minutes are read: the two must not share one.
        let end = since_ns / 60_000_000_000 * 60_000_000_000;
        return Ok((end.saturating_sub(length_ns), end));
    }
    if let Some((since, until)) = text.split_once("..") {
        let at = |text: &str| time(text, now).map_err(|problem| format!("--compare `{text}`: {problem}"));
        let window = (at(since)?, at(until)?);
        return if window.0 < window.1 {
            Ok(window)
        } else {
            Err(format!("--compare `{text}` ends before it begins"))
        };
    }
    match length(text) {
        Ok(shift) => Ok((before(since_ns, shift), before(until_ns, shift))),
        Err(_) => {
            Err(format!("--compare `{text}`: neither `previous` nor a time ago (`1d`) nor `SINCE..UNTIL`"))
        }
    }
}

fn before(ns: u64, length: Duration) -> u64 {
    ns.saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX))
}

/// A time, in nanoseconds since the Unix epoch.
fn time(text: &str, now: &Zoned) -> Result<u64, String> {
    let text = text.trim();
    if text == "now" {
        return nanoseconds(now.timestamp());
    }
    if let Ok(ago) = length(text.strip_suffix(" ago").unwrap_or(text)) {
        return Ok(before(nanoseconds(now.timestamp())?, ago));
    }
    if let Ok(time) = Timestamp::from_str(text) {
        return nanoseconds(time);
    }
    // A time alone comes last: it would take that of `2026-11-21 14:00` for today's.
    let date = || Date::from_str(text).map(|date| date.to_datetime(Time::midnight()));
    let today = || Time::from_str(text).map(|time| now.date().to_datetime(time));
    let civil = DateTime::from_str(text).or_else(|_| date()).or_else(|_| today()).ok();
    let zoned = civil.and_then(|civil| civil.to_zoned(now.time_zone().clone()).ok());
    match zoned {
        Some(zoned) => nanoseconds(zoned.timestamp()),
        None => {
            Err("not a time; like `14:00`, `2026-11-21 14:00`, `2026-11-21T14:00:00Z` or `2h` (ago)"
                .to_owned())
        }
    }
}

fn nanoseconds(time: Timestamp) -> Result<u64, String> {
    u64::try_from(time.as_nanosecond()).map_err(|_| "before 1970".to_owned())
}

/// `90s`, `15m`, `2h`, `3d`.
fn length(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "not a length of time like `90s`, `15m`, `2h` or `3d`";
    let unit = match text.chars().last() {
        Some('s') => Duration::from_secs(1),
        Some('m') => Duration::from_secs(60),
        Some('h') => HOUR,
        Some('d') => DAY,
        _ => return Err(WRONG.to_owned()),
    };
    let number = text.get(..text.len() - 1).and_then(|number| number.trim().parse::<f64>().ok());
    let seconds = number.map(|number| number * unit.as_secs_f64());
    match seconds.filter(|seconds| *seconds > 0.0 && *seconds < 1e9) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        None => Err(WRONG.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-21T14:30:15+01:00[Europe/Berlin]".parse().unwrap()
    }

    fn shown(ns: u64) -> String {
        Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string()
    }

    #[test]
    fn times_in_all_their_forms() {
        for (text, expected) in [
            ("now", "2026-11-21T13:30:15Z"),
            ("15m", "2026-11-21T13:15:15Z"),
            ("1.5h ago", "2026-11-21T12:00:15Z"),
            ("09:00", "2026-11-21T08:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-07-20 09:30", "2026-07-20T07:30:00Z"),
            ("2026-11-20T09:30:01", "2026-11-20T08:30:01Z"),
            ("2026-11-20T09:30:00Z", "2026-11-20T09:30:00Z"),
            ("2026-11-20T09:30:00-05:00", "2026-11-20T14:30:00Z"),
        ] {
            assert_eq!(time(text, &now()).map(shown).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "25:00", "-1h", "0s", "2026-13-01", "h", "é", "1e300d", "1960-01-01"] {
            assert!(time(text, &now()).is_err(), "{text}");
        }
    }

    #[test]
    fn other_windows() {
        let minute = 60_000_000_000;
        let window = (100 * minute + 7, 110 * minute);
        assert_eq!(other("previous", window, &now()), Ok((90 * minute + 7, 100 * minute)));
        assert_eq!(other("30m", window, &now()), Ok((70 * minute + 7, 80 * minute)));
        let named = other("09:00..10:00", window, &now()).unwrap();
        assert_eq!((shown(named.0), named.1 - named.0), ("2026-11-21T08:00:00Z".to_owned(), 60 * minute));
        for text in ["", "10:00..09:00", "x..y", "last week"] {
            assert!(other(text, window, &now()).is_err(), "{text}");
        }
    }
}
