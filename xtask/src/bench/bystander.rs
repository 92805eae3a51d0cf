//! What pyapm costs processes that it does not watch: system calls of this very process, which is no target,
//! with and without an attach elsewhere on the host.

use super::figures::median;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read as _;
use std::time::Instant;

const CALLS: u32 = 500_000;

/// Nanoseconds for each call, one value per round.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    pub watched_call: Vec<f64>,
    pub other_call: Vec<f64>,
}

impl Rounds {
    /// One more round of both kinds of calls.
    ///
    /// # Errors
    /// When `/dev/zero` cannot be read.
    pub fn measure(&mut self) -> Result<()> {
        let mut zero = File::open("/dev/zero").context("could not open `/dev/zero`")?;
        let mut byte = [0];
        let began = Instant::now();
        for _ in 0..CALLS {
            zero.read_exact(&mut byte).context("could not read `/dev/zero`")?;
        }
        self.watched_call.push(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
        let began = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(nix::unistd::getppid());
        }
        self.other_call.push(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
        Ok(())
    }
}

/// The table of both.
#[must_use]
pub fn table(without: &Rounds, with: &Rounds) -> String {
    let row = |name: &str, without: &[f64], with: &[f64]| {
        let (without, with) = (median(without), median(with));
        format!("| {name} | {without:.0} | {with:.0} | {:+.0} |\n", with - without)
    };
    format!(
        "| system call of a process that is not watched | ns without | ns with pyapm elsewhere | difference |\n|---|---|---|---|\n{}{}",
        row(
            "`read` of one byte of `/dev/zero` (a call that is looked at)",
            &without.watched_call,
            &with.watched_call
        ),
        row("`getppid` (a call that is not)", &without.other_call, &with.other_call),
    )
}
