//! The shop at a steady load for as long as one likes: the daemon's memory each minute, and what was lost. Then it is
//! attached and detached again and again under the same load, which must leave nothing behind in the kernel.

use super::figures;
use super::overhead::machine;
use crate::demo::interrupt;
use crate::demo::visitors::Visitors;
use crate::setup::command::{Part, run as set_up};
use crate::suites::command::build;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use harness::bpf::Held;
use harness::guard::Guard;
use harness::gunicorn::{Gunicorn, Options};
use harness::inspect::Usage;
use harness::place::{self, Python};
use harness::wait;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// How often a signal is looked for.
const INTERVAL: Duration = Duration::from_millis(200);
/// Memory may be so much more at the end than after the first half: what is allocated is given back in pages.
const GROWTH: f64 = 0.05;
const GROWTH_BYTES: f64 = 2e6;

/// Measures, prints the section to stdout and puts it into `docs/overhead.md`.
///
/// # Errors
/// When the shop or pyapm does not run, its memory grows, records are unaccounted for, or something is left behind.
pub fn run(minutes: u32, attaches: u32) -> Result<()> {
    interrupt::catch()?;
    // A binary that is named is measured as it is, with what is installed.
    if std::env::var_os("PYAPM_BINARY").is_none() {
        set_up(Some(Part::Services))?;
        set_up(Some(Part::Python))?;
        build()?;
    }
    let shop = Gunicorn::start(&Options::new(Python::first()?))?;
    let visitors = Visitors::start(&shop.address);
    let (memory, summary) = soak(&shop, minutes.max(1))?;
    let rounds = repeat(&shop, attaches)?;
    drop(visitors);
    let command = format!("cargo xtask bench soak --minutes {minutes} --attaches {attaches}");
    let section = section(&memory, &summary, &rounds, &command, &machine()?);
    std::io::stdout().write_all(section.as_bytes()).context("could not write to stdout")?;
    let path = workspace::root().join("docs/overhead.md");
    let document = std::fs::read_to_string(&path).context("could not read `docs/overhead.md`")?;
    std::fs::write(&path, figures::insert(&document, "soak", &section))
        .context("could not write `docs/overhead.md`")?;
    summary.check()?;
    check_flat(&memory)
}

/// What the last line of an attach says.
#[derive(Clone, Debug, Default)]
struct Summary {
    transactions: u64,
    seen: u64,
    delivered: u64,
    dropped: u64,
}

impl Summary {
    fn of(line: &str, transactions: u64) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(line).context("the last line is no JSON")?;
        ensure!(value["type"] == "summary", "the last line is no summary: {line}");
        let number = |value: &serde_json::Value| value.as_u64().context("a number is missing in the summary");
        let dropped = value["dropped"].as_object().context("no `dropped` in the summary")?;
        Ok(Self {
            transactions,
            seen: number(&value["seen"])?,
            delivered: number(&value["delivered"])?,
            dropped: dropped.values().filter_map(serde_json::Value::as_u64).sum(),
        })
    }

    fn check(&self) -> Result<()> {
        ensure!(self.transactions > 0, "no transaction was seen");
        ensure!(self.seen == self.delivered + self.dropped, "records are unaccounted for: {self:?}");
        Ok(())
    }
}

/// A running attach whose lines are counted and, but for the last one, forgotten.
struct Attach {
    pyapm: Guard,
    transactions: Arc<AtomicU64>,
    last: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
    /// Until every probe was on.
    attaching: Duration,
    _folder: tempfile::TempDir,
}

impl Attach {
    fn start(shop: &Gunicorn) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut command = Command::new(place::binary()?);
        command.args(["attach", "--pid", &shop.master().to_string(), "--format", "json"]);
        let began = Instant::now();
        let mut pyapm = Guard::start(&mut command, &folder.path().join("stderr"), Some(Stdio::piped()))?;
        let stdout = pyapm.take_stdout().context("no pipe from pyapm")?;
        let (transactions, last) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(String::new())));
        let (counter, kept) = (Arc::clone(&transactions), Arc::clone(&last));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with(r#"{"type":"transaction""#) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        // The first line is written once every probe is on.
        wait::until("pyapm to be attached", || {
            pyapm.check_alive()?;
            Ok((!last.lock().unwrap_or_else(PoisonError::into_inner).is_empty()).then_some(()))
        })?;
        Ok(Self { pyapm, transactions, last, reader, attaching: began.elapsed(), _folder: folder })
    }

    /// Ctrl-C; what it said last, and how long it took to end.
    fn stop(mut self) -> Result<(Summary, Duration)> {
        let began = Instant::now();
        self.pyapm.signal(Signal::SIGINT)?;
        let status = self.pyapm.wait()?;
        let detaching = began.elapsed();
        if self.reader.join().is_err() || !status.success() {
            bail!("pyapm ended with {status}: {}", self.pyapm.log());
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((Summary::of(&last, self.transactions.load(Ordering::Relaxed))?, detaching))
    }
}

/// The daemon's resident memory at the start and after each minute.
fn soak(shop: &Gunicorn, minutes: u32) -> Result<(Vec<u64>, Summary)> {
    let attach = Attach::start(shop)?;
    let mut memory = vec![Usage::of(attach.pyapm.pid())?.rss_bytes];
    let began = Instant::now();
    for minute in 1..=minutes {
        while began.elapsed() < MINUTE * minute {
            if interrupt::seen() {
                bail!("interrupted");
            }
            std::thread::sleep(INTERVAL);
        }
        let used = Usage::of(attach.pyapm.pid())?.rss_bytes;
        let transactions = attach.transactions.load(Ordering::Relaxed);
        eprintln!("minute {minute}: {:.1} MB, {transactions} transactions", used as f64 / 1e6);
        memory.push(used);
    }
    let (summary, _) = attach.stop()?;
    Ok((memory, summary))
}

/// How long attaching and detaching took, in each round.
#[derive(Debug, Default)]
struct Rounds {
    attaching: Vec<Duration>,
    detaching: Vec<Duration>,
}

fn repeat(shop: &Gunicorn, attaches: u32) -> Result<Rounds> {
    let (mut rounds, mut held) = (Rounds::default(), Vec::new());
    for round in 1..=attaches {
        if interrupt::seen() {
            bail!("interrupted");
        }
        let mut attach = Attach::start(shop)?;
        held.push(Held::by(attach.pyapm.pid())?);
        wait::until("a transaction", || {
            attach.pyapm.check_alive()?;
            Ok((attach.transactions.load(Ordering::Relaxed) > 0).then_some(()))
        })?;
        rounds.attaching.push(attach.attaching);
        let (summary, detaching) = attach.stop()?;
        summary.check()?;
        rounds.detaching.push(detaching);
        eprintln!(
            "round {round}: attached in {:.2} s, detached in {:.2} s",
            rounds.attaching.last().map_or(0.0, Duration::as_secs_f64),
            detaching.as_secs_f64()
        );
    }
    wait::until("the kernel to free the programs of all attaches", || {
        for held in &held {
            if !held.still_there()?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    Ok(rounds)
}

/// Where memory should have settled: after half of the time, and not before the first minute. What is bounded fills first,
/// which takes the named stacks (`agent/src/symbols/limits.rs`) some twenty minutes at this load.
fn settled(memory: &[u64]) -> Option<u64> {
    memory.get((memory.len().saturating_sub(1)).div_ceil(2)).copied()
}

fn check_flat(memory: &[u64]) -> Result<()> {
    let (Some(settled), Some(last)) = (settled(memory), memory.last()) else { return Ok(()) };
    let grown = *last as f64 - settled as f64;
    ensure!(
        grown <= (settled as f64 * GROWTH).max(GROWTH_BYTES),
        "the daemon's memory has grown by {:.1} MB from {:.1} MB: {memory:?}",
        grown / 1e6,
        settled as f64 / 1e6
    );
    Ok(())
}

fn section(memory: &[u64], summary: &Summary, rounds: &Rounds, command: &str, machine: &str) -> String {
    let megabytes = |bytes: &u64| format!("{:.1}", *bytes as f64 / 1e6);
    let minutes = memory.len().saturating_sub(1);
    let mut text = format!(
        "## A steady load\n\n`{command}` on {machine}: the Django shop, at most 150 requests a second, attached to for {minutes} min.\n\n\
         | | resident memory of the daemon, MB |\n|---|---|\n| attached | {} |\n| after half of the time | {} |\n| most | {} |\n| at the end | {} |\n\n\
         {} transactions; {} records were due, {} delivered, {} dropped.\n",
        memory.first().map(megabytes).unwrap_or_default(),
        settled(memory).as_ref().map(megabytes).unwrap_or_default(),
        memory.iter().max().map(megabytes).unwrap_or_default(),
        memory.last().map(megabytes).unwrap_or_default(),
        summary.transactions,
        summary.seen,
        summary.delivered,
        summary.dropped,
    );
    let seconds =
        |times: &[Duration]| figures::median(&times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>());
    if !rounds.attaching.is_empty() {
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "\nAttached and detached {} times under that load: {:.2} s until every probe is on, {:.2} s from Ctrl-C to the end \
             (medians); nothing was left in the kernel.",
            rounds.attaching.len(),
            seconds(&rounds.attaching),
            seconds(&rounds.detaching)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_told() {
        let flat = [20_000_000, 31_000_000, 31_500_000, 31_200_000, 31_400_000, 31_600_000];
        assert_eq!(settled(&flat), Some(31_200_000));
        assert!(check_flat(&flat).is_ok());
        let growing: Vec<u64> = (0..61).map(|minute| 30_000_000 + minute * 200_000).collect();
        assert!(check_flat(&growing).is_err());
        assert!(check_flat(&[20_000_000, 31_000_000]).is_ok(), "one minute is where it settles");
    }

    #[test]
    fn losses_must_add_up() {
        let line = |dropped| {
            format!(r#"{{"type":"summary","seen":10,"delivered":8,"dropped":{{"ring_full":{dropped}}}}}"#)
        };
        assert!(Summary::of(&line(2), 5).unwrap().check().is_ok());
        assert!(Summary::of(&line(1), 5).unwrap().check().is_err());
        assert!(Summary::of(&line(2), 0).unwrap().check().is_err());
        assert!(Summary::of(r#"{"type":"worker"}"#, 5).is_err());
    }
}
