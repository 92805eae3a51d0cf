//! How many events one core of the daemon takes in a second without losing one: it stands still while a turn of the load
//! fills a large ring, is told to end, and goes on. It takes all that waits, as fast as it can, with the machine to itself.

use super::drivers::{Attached, Page, turn};
use anyhow::{Context, Result, bail};
use harness::drivers::Drivers;
use harness::inspect::Usage;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike as _;

/// Room for some 500,000 events.
const RING_BYTES: &str = "268435456";

/// What was taken, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Capacity {
    pub(super) events: u64,
    pub(super) cpu_seconds: f64,
}

impl Capacity {
    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.cpu_seconds += other.cpu_seconds;
    }

    pub(super) fn per_second(&self) -> f64 {
        self.events as f64 / self.cpu_seconds.max(f64::EPSILON)
    }
}

/// One turn of the load on these pages.
pub(super) fn measure(drivers: &Drivers, pages: &mut [Page], seconds: u32) -> Result<Capacity> {
    let attached = Attached::start(drivers.master(), &["--ring-bytes", RING_BYTES])?;
    // Connections that stay are known, and what is wanted of them is said, as it is most of the time. These few events
    // are counted with the others.
    let paths: Vec<String> = pages.iter().map(|page| format!("/{}", page.name)).collect();
    drivers.ask(&paths.iter().map(String::as_str).collect::<Vec<_>>())?;
    attached.signal(Signal::SIGSTOP)?;
    let before = Usage::of(attached.pid())?.cpu_seconds;
    turn(drivers, pages, seconds, |_, _| {})?;
    attached.signal(Signal::SIGINT)?;
    attached.signal(Signal::SIGCONT)?;
    let others = of_children()?;
    let summary = attached.finish()?;
    let lost: u64 = summary.dropped.values().sum();
    if lost > 0 {
        bail!("{lost} events found no room while the daemon stood still; try fewer `--seconds`");
    }
    // Taking the probes away is in it; that takes some hundredths of a second.
    Ok(Capacity { events: summary.seen, cpu_seconds: of_children()? - others - before })
}

/// CPU time of all processes that have been waited for.
fn of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("no account of this process's children")?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_turns() {
        let mut both = Capacity { events: 1000, cpu_seconds: 0.25 };
        both.add(Capacity { events: 500, cpu_seconds: 0.5 });
        assert_eq!(both.per_second().round(), 2000.0);
        assert_eq!(Capacity::default().per_second(), 0.0);
    }
}
