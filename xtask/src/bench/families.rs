//! What one call costs by what is asked: time in the programs of the kernel half, as the kernel counts it, and CPU time of the
//! daemon. In a turn of its own: counting costs time itself.

use super::drivers::{Attached, Page, turn};
use super::probes::{self, Counting};
use anyhow::Result;
use harness::drivers::Drivers;
use harness::inspect::Usage;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What the daemon has left to do when a load ends, it has done after this.
const SETTLED: Duration = Duration::from_millis(300);

/// Calls that are seen in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Postgresql,
    PostgresqlTls,
    Mysql,
    Sqlite,
    Redis,
    Memcached,
    Http,
    Http2,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::PostgresqlTls => "PostgreSQL over TLS",
            Self::Mysql => "MySQL",
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis",
            Self::Memcached => "memcached",
            Self::Http => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Sums for each family.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cost(BTreeMap<Family, Sum>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    spans: f64,
    kernel_ns: f64,
    daemon_ns: f64,
}

impl Cost {
    pub(super) fn extend(&mut self, other: Self) {
        for (family, sum) in other.0 {
            self.add(family, sum);
        }
    }

    fn add(&mut self, family: Family, more: Sum) {
        let sum = self.0.entry(family).or_default();
        sum.spans += more.spans;
        sum.kernel_ns += more.kernel_ns;
        sum.daemon_ns += more.daemon_ns;
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "\n| calls | counted | ns per call in the kernel's programs | ns per call of the daemon's CPU |\n|---|---|---|---|\n",
        );
        for (family, sum) in &self.0 {
            let each = |ns: f64| ns / sum.spans.max(1.0);
            let _never_fails = writeln!(
                text,
                "| {} | {:.0} | {:.0} | {:.0} |",
                family.name(),
                sum.spans,
                each(sum.kernel_ns),
                each(sum.daemon_ns)
            );
        }
        text.push_str(
            "\nWhat the requests that the calls were made for cost, and samples, are in these figures; the trap or tracepoint around a program is not.\n",
        );
        text
    }
}

/// One more turn of the load on these pages.
pub(super) fn measure(drivers: &Drivers, pages: &mut [Page], seconds: u32) -> Result<Cost> {
    let _counting = Counting::start()?;
    let attached = Attached::start(drivers.master(), &[])?;
    let mut cost = Cost::default();
    for page in pages {
        let (programs, usage) = (probes::held_by(attached.pid())?, Usage::of(attached.pid())?);
        let mut requests = 0.0;
        turn(drivers, std::slice::from_mut(page), seconds, |_, rate| requests = rate * f64::from(seconds))?;
        std::thread::sleep(SETTLED);
        let daemon = Usage::of(attached.pid())?.cpu_seconds - usage.cpu_seconds;
        let sum = Sum {
            spans: requests * page.spans as f64,
            kernel_ns: probes::held_by(attached.pid())?.ns_since(programs) as f64,
            daemon_ns: daemon * 1e9,
        };
        cost.add(page.family, sum);
    }
    attached.stop()?;
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_family() {
        let sum = Sum { spans: 100.0, kernel_ns: 250_000.0, daemon_ns: 600_000.0 };
        let mut cost = Cost::default();
        cost.add(Family::Redis, sum);
        cost.extend(Cost(BTreeMap::from([
            (Family::Redis, Sum { kernel_ns: 350_000.0, ..sum }),
            (Family::Mysql, sum),
        ])));
        let text = cost.table();
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("00 |")).collect();
        assert_eq!(rows, ["| MySQL | 100 | 2500 | 6000 |", "| Redis | 200 | 3000 | 6000 |"]);
    }
}
