//! Times in the zone of the host.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2026-11-21 14:00:05 CET`; `?` for what no calendar has.
#[must_use]
pub fn local(ns: u64) -> String {
    shown(ns, "%Y-%m-%d %H:%M:%S %Z")
}

/// Without the zone and without parts of minutes.
pub(super) fn minute(ns: u64) -> String {
    shown(ns, "%Y-%m-%d %H:%M")
}

fn shown(ns: u64, format: &str) -> String {
    match Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_beyond_the_calendar) => "?".to_owned(),
    }
}
