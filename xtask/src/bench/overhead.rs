//! The shop under full load on loopback, in turns without and with pyapm attached. The order within a pair changes
//! from pair to pair, so that a machine that gets slower or faster favours neither.

use super::bystander::{self, Rounds};
use super::figures::{self, Daemon, Run};
use super::probes::{self, Counting};
use crate::demo::interrupt;
use crate::setup::command::{Part, run as set_up};
use crate::suites::command::build;
use crate::workspace;
use anyhow::{Context, Result, bail};
use harness::guard::Guard;
use harness::gunicorn::{Gunicorn, Options};
use harness::inspect::Usage;
use harness::load::Address;
use harness::place::{self, Python};
use harness::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Connections that `wrk` keeps busy: as many as there are workers.
const CONNECTIONS: &str = "4";

/// What else runs on the machine.
const BESIDES: &str = "; load generator, database and shop on the same machine.";

/// Measures, prints the section to stdout and puts it into `docs/overhead.md`.
///
/// # Errors
/// When the shop, the load generator or pyapm does not run.
pub fn run(pairs: u32, seconds: u32) -> Result<()> {
    interrupt::catch()?;
    set_up(Some(Part::Services))?;
    set_up(Some(Part::Python))?;
    build()?;
    let shop = Gunicorn::start(&Options::new(Python::first()?))?;
    // Caches and clock frequencies settle in a run that does not count.
    measure(&shop.address, seconds)?;
    let (mut without, mut with, mut daemon) = (Vec::new(), Vec::new(), Vec::new());
    let (mut alone, mut beside) = (Rounds::default(), Rounds::default());
    for pair in 0..pairs {
        for attached in [pair % 2 == 1, pair % 2 == 0] {
            if interrupt::seen() {
                bail!("interrupted");
            }
            if attached {
                let (run, used) = measure_attached(&shop, seconds, |_| beside.measure())?;
                eprintln!(
                    "pair {pair}: with    {:.0} requests/s, p99 {:.2} ms",
                    run.requests_per_second, run.p99_ms
                );
                with.push(run);
                daemon.push(used);
            } else {
                let run = measure(&shop.address, seconds)?;
                alone.measure()?;
                eprintln!(
                    "pair {pair}: without {:.0} requests/s, p99 {:.2} ms",
                    run.requests_per_second, run.p99_ms
                );
                without.push(run);
            }
        }
    }
    let command = format!("cargo xtask bench overhead --pairs {pairs} --seconds {seconds}");
    let fired = probes_fired(&shop, seconds)?;
    let section = format!(
        "{}\n{}\n{}",
        figures::section(&without, &with, &daemon, &command, &format!("{}{BESIDES}", machine()?)),
        fired,
        bystander::table(&alone, &beside)
    );
    std::io::stdout().write_all(section.as_bytes()).context("could not write to stdout")?;
    let path = workspace::root().join("docs/overhead.md");
    let document = match std::fs::read_to_string(&path) {
        Ok(document) => document,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("could not read `docs/overhead.md`"),
    };
    std::fs::write(&path, figures::insert(&document, "overhead", &section))
        .context("could not write `docs/overhead.md`")
}

fn measure(address: &Address, seconds: u32) -> Result<Run> {
    let Address::Tcp(address) = address else { bail!("`wrk` needs a TCP address") };
    let text = workspace::read(
        Command::new(place::system_program("wrk")?)
            .args(["--latency", "--threads", "1", "--connections", CONNECTIONS])
            .arg(format!("--duration={seconds}s"))
            .arg(format!("http://{address}/")),
    )?;
    Run::parse(&text)
}

/// What each probe did in one more attached run, which counts for nothing else: counting costs time itself.
fn probes_fired(shop: &Gunicorn, seconds: u32) -> Result<String> {
    let counting = Counting::start()?;
    let mut last = BTreeMap::new();
    let (run, _) = measure_attached(shop, seconds, |pid| {
        last = probes::read(pid)?;
        Ok(())
    })?;
    drop(counting);
    Ok(probes::table(&BTreeMap::new(), &last, run.requests_per_second * f64::from(seconds)))
}

/// One run with pyapm attached; `meanwhile` is called with its pid after the load, before it is told to stop.
fn measure_attached(
    shop: &Gunicorn,
    seconds: u32,
    mut meanwhile: impl FnMut(u32) -> Result<()>,
) -> Result<(Run, Daemon)> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut command = Command::new(place::binary()?);
    command.args(["attach", "--pid", &shop.master().to_string(), "--format", "json"]);
    let mut pyapm = Guard::start(&mut command, &folder.path().join("stderr"), Some(Stdio::piped()))?;
    let mut stdout = pyapm.take_stdout().context("no pipe from pyapm")?;
    // Reads and forgets: looking at the lines would be a cost of the bench, not of pyapm.
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    // The first line is written once every probe is on.
    wait::until("pyapm to be attached", || {
        pyapm.check_alive()?;
        Ok((read.load(Ordering::Relaxed) > 0).then_some(()))
    })?;
    let before = Usage::of(pyapm.pid())?;
    let run = measure(&shop.address, seconds)?;
    let after = Usage::of(pyapm.pid())?;
    meanwhile(pyapm.pid())?;
    pyapm.signal(Signal::SIGINT)?;
    let status = pyapm.wait()?;
    if reader.join().is_err() || !status.success() {
        bail!("pyapm ended with {status}: {}", pyapm.log());
    }
    let daemon = Daemon {
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        rss_bytes: after.rss_bytes,
        requests: run.requests_per_second * f64::from(seconds),
    };
    Ok((run, daemon))
}

/// What the figures were measured on.
pub(super) fn machine() -> Result<String> {
    let kernel = nix::sys::utsname::uname().context("no uname")?.release().to_string_lossy().into_owned();
    let cores = std::thread::available_parallelism().context("number of cores unknown")?;
    let info = std::fs::read_to_string("/proc/cpuinfo").context("could not read `/proc/cpuinfo`")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, name)| name);
    Ok(format!("{cores} cores of {model}, Linux {kernel}"))
}
