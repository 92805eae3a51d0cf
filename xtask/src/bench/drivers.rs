//! What the calls of each driver cost: the pages of `drivers.py` and `async_drivers.py`, each under load from one connection,
//! in turns without and with pyapm attached. The order within a pair changes from pair to pair. Then whole applications, for
//! which there are aims.

use super::aims::{self, Aim};
use super::capacity::{self, Capacity};
use super::families::{self, Family};
use super::figures::{self, Run, median};
use super::overhead::machine;
use crate::demo::interrupt;
use crate::setup::command::{Part, run as set_up};
use crate::suites::command::build;
use crate::workspace;
use anyhow::{Context, Result, bail};
use harness::drivers::{Asks, Drivers};
use harness::guard::Guard;
use harness::inspect::Usage;
use harness::load::Address;
use harness::place::{self, Python};
use harness::pyapm::Pyapm;
use harness::wait;
use nix::sys::signal::Signal;
use pyapm_model::line::{Line, Summary};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A page's name, and what its calls are.
type Named = (&'static str, Family);

/// Applications, and their pages.
const APPLICATIONS: [(Asks, &str, &[Named]); 2] = [
    (
        Asks::Sync,
        "gunicorn, sync",
        &[
            ("psycopg2", Family::Postgresql),
            ("psycopg2-tls", Family::PostgresqlTls),
            ("psycopg", Family::Postgresql),
            ("pg8000", Family::Postgresql),
            ("mysqlclient", Family::Mysql),
            ("pymysql", Family::Mysql),
            ("connector", Family::Mysql),
            ("redis", Family::Redis),
            ("memcached", Family::Memcached),
            ("sqlite3", Family::Sqlite),
            ("urllib", Family::Http),
            ("requests", Family::Http),
            ("httpx", Family::Http),
            ("urllib3", Family::Http),
            ("http2", Family::Http2),
        ],
    ),
    (
        Asks::Async,
        "uvicorn, asyncio",
        &[
            ("asyncpg", Family::Postgresql),
            ("asyncpg-tls", Family::PostgresqlTls),
            ("psycopg", Family::Postgresql),
            ("aiomysql", Family::Mysql),
            ("asyncmy", Family::Mysql),
            ("redis", Family::Redis),
            ("redis-python", Family::Redis),
            ("aiohttp", Family::Http),
        ],
    ),
];

/// What is kept of the end of pyapm's lines.
const TAIL: usize = 1 << 16;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Size {
    /// Turns with pyapm, and as many without
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pairs: u32,
    /// Length of the load on each page in each turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) seconds: u32,
    /// Only pages and applications whose name has this in it
    #[arg(long)]
    only: Option<String>,
}

impl Size {
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

/// One page of one application.
#[derive(Debug)]
pub(super) struct Page {
    application: &'static str,
    pub(super) name: &'static str,
    pub(super) family: Family,
    /// Spans of one request; what preparations take is among them.
    pub(super) spans: usize,
    /// Requests per second.
    without: Vec<f64>,
    with: Vec<f64>,
}

/// What the daemon did over all turns.
#[derive(Debug, Default)]
struct Daemon {
    cpu_seconds: f64,
    seen: u64,
    lost: u64,
    capacity: Capacity,
    families: families::Cost,
}

/// Measures, prints the section to stdout and puts it into `docs/overhead.md`.
///
/// # Errors
/// When an application, a server, the load generator or pyapm does not run.
pub fn run(size: &Size) -> Result<()> {
    interrupt::catch()?;
    // What is given is taken as it is.
    if std::env::var_os("PYAPM_TEST_VENV").is_none() {
        set_up(Some(Part::Services))?;
        set_up(Some(Part::Python))?;
    }
    if std::env::var_os("PYAPM_BINARY").is_none() {
        build()?;
    }
    let (mut pages, mut daemon) = (Vec::new(), Daemon::default());
    for (asks, application, names) in APPLICATIONS {
        let names: Vec<Named> = names.iter().copied().filter(|(name, _)| size.is_wanted(name)).collect();
        if !names.is_empty() {
            pages.extend(application_turns(asks, application, &names, size, &mut daemon)?);
        }
    }
    let aims = aims::measure(size)?;
    let only = size.only.as_ref().map(|only| format!(" --only {only}")).unwrap_or_default();
    let command =
        format!("cargo xtask bench drivers --pairs {} --seconds {}{only}", size.pairs, size.seconds);
    let section = section(&pages, &daemon, &aims, &command, &machine()?);
    std::io::stdout().write_all(section.as_bytes()).context("could not write to stdout")?;
    if size.only.is_some() {
        return Ok(());
    }
    let path = workspace::root().join("docs/overhead.md");
    let document = std::fs::read_to_string(&path).context("could not read `docs/overhead.md`")?;
    std::fs::write(&path, figures::insert(&document, "drivers", &section))
        .context("could not write `docs/overhead.md`")
}

fn application_turns(
    asks: Asks,
    application: &'static str,
    names: &[Named],
    size: &Size,
    daemon: &mut Daemon,
) -> Result<Vec<Page>> {
    let drivers = Drivers::start_as(&Python::chosen()?, asks)?;
    let spans = spans_of(&drivers, names)?;
    let mut pages: Vec<Page> = names
        .iter()
        .map(|(name, family)| Page {
            application,
            name,
            family: *family,
            spans: spans.get(*name).copied().unwrap_or_default(),
            without: Vec::new(),
            with: Vec::new(),
        })
        .collect();
    // Caches and clock frequencies settle in a turn that does not count.
    turn(&drivers, &mut pages, size.seconds, |_, _| {})?;
    for pair in 0..size.pairs {
        for attached in [pair % 2 == 1, pair % 2 == 0] {
            if attached {
                let attach = Attached::start(drivers.master(), &[])?;
                let before = Usage::of(attach.pyapm.pid())?;
                turn(&drivers, &mut pages, size.seconds, |page, rate| page.with.push(rate))?;
                daemon.cpu_seconds += Usage::of(attach.pyapm.pid())?.cpu_seconds - before.cpu_seconds;
                let summary = attach.stop()?;
                daemon.seen += summary.seen;
                daemon.lost += summary.dropped.values().sum::<u64>();
            } else {
                turn(&drivers, &mut pages, size.seconds, |page, rate| page.without.push(rate))?;
            }
        }
        eprintln!("{application}: pair {pair} of {}", size.pairs);
    }
    daemon.families.extend(families::measure(&drivers, &mut pages, size.seconds)?);
    daemon.capacity.add(capacity::measure(&drivers, &mut pages, size.seconds)?);
    Ok(pages)
}

/// How many spans a request for each page has, once what it prepares is prepared.
fn spans_of(drivers: &Drivers, names: &[Named]) -> Result<BTreeMap<String, usize>> {
    let paths: Vec<String> = names.iter().map(|(name, _)| format!("/{name}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    drivers.ask(&paths)?;
    let mut attach = Pyapm::attach(drivers.master(), &[])?;
    drivers.ask(&paths)?;
    attach.wait_for_transactions(paths.len())?;
    let report = attach.stop()?;
    Ok(report
        .transactions
        .iter()
        .filter_map(|one| Some((one.path.as_deref()?.trim_start_matches('/').to_owned(), one.spans.len())))
        .collect())
}

pub(super) fn turn(
    drivers: &Drivers,
    pages: &mut [Page],
    seconds: u32,
    mut take: impl FnMut(&mut Page, f64),
) -> Result<()> {
    for page in pages {
        let rate = load(&drivers.address, page.name, 1, seconds)?;
        take(page, rate);
    }
    Ok(())
}

/// Requests per second for one path, which has to be answered.
pub(super) fn load(address: &Address, path: &str, connections: u32, seconds: u32) -> Result<f64> {
    if interrupt::seen() {
        bail!("interrupted");
    }
    let Address::Tcp(address) = address else { bail!("`wrk` needs a TCP address") };
    let text = workspace::read(
        Command::new(place::system_program("wrk")?)
            .args(["--latency", "--threads", "1", "--connections", &connections.to_string()])
            .arg(format!("--duration={seconds}s"))
            .arg(format!("http://{address}/{path}")),
    )?;
    let run = Run::parse(&text)?;
    // A connection that the server closes after its answer is one of wrk's errors, but not one of ours.
    if run.requests_per_second <= 0.0 || text.contains("Non-2xx") {
        bail!("`{path}` does not answer:\n{text}");
    }
    Ok(run.requests_per_second)
}

/// A pyapm whose lines are read and forgotten but for the last: looking at them would be a cost of the bench.
pub(super) struct Attached {
    pyapm: Guard,
    reader: std::thread::JoinHandle<Vec<u8>>,
    #[expect(dead_code, reason = "held for its drop: the folder with stderr goes with the process")]
    folder: tempfile::TempDir,
}

impl Attached {
    pub(super) fn start(pid: u32, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut command = Command::new(place::binary()?);
        command.args(["attach", "--pid", &pid.to_string(), "--format", "json"]).args(arguments);
        let mut pyapm = Guard::start(&mut command, &folder.path().join("stderr"), Some(Stdio::piped()))?;
        let mut stdout = pyapm.take_stdout().context("no pipe from pyapm")?;
        let read = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&read);
        let reader = std::thread::spawn(move || {
            let (mut buffer, mut tail) = (vec![0; TAIL], Vec::new());
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                counter.fetch_add(count as u64, Ordering::Relaxed);
                tail.extend_from_slice(buffer.get(..count).unwrap_or_default());
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
            tail
        });
        // The first line is written once every probe is on.
        wait::until("pyapm to be attached", || {
            pyapm.check_alive()?;
            Ok((read.load(Ordering::Relaxed) > 0).then_some(()))
        })?;
        Ok(Self { pyapm, reader, folder })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pyapm.pid()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.pyapm.signal(signal)
    }

    pub(super) fn stop(self) -> Result<Summary> {
        self.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// The last line of one that has been told to end.
    pub(super) fn finish(mut self) -> Result<Summary> {
        let status = self.pyapm.wait()?;
        let Ok(tail) = self.reader.join() else { bail!("the thread that read pyapm's lines panicked") };
        let last = tail.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice(last) {
            Ok(Line::Summary(summary)) if status.success() => Ok(summary),
            _ => bail!("pyapm ended with {status}: {}", self.pyapm.log()),
        }
    }
}

fn section(pages: &[Page], daemon: &Daemon, aims: &[Aim], command: &str, machine: &str) -> String {
    let mut text = aims::table(aims);
    if !pages.is_empty() {
        text.push_str(&drivers(pages, daemon));
    }
    let _never_fails = write!(
        text,
        "\n{machine}; load generator, servers and applications on the same machine.\n\nMeasured by `{command}`.\n"
    );
    text
}

fn drivers(pages: &[Page], daemon: &Daemon) -> String {
    let mut text = String::from(
        "| driver | under | calls per request | requests/s without | with pyapm | ratio | µs per call |\n|---|---|---|---|---|---|---|\n",
    );
    for page in pages {
        let (without, with) = (median(&page.without), median(&page.with));
        let per_call = (1e6 / with - 1e6 / without) / page.spans.max(1) as f64;
        let _never_fails = writeln!(
            text,
            "| {} | {} | {} | {without:.0} | {with:.0} | {:.3} | {per_call:.1} |",
            page.name,
            page.application,
            page.spans,
            with / without,
        );
    }
    text.push_str(&daemon.families.table());
    let per_second = daemon.seen as f64 / daemon.cpu_seconds.max(f64::EPSILON);
    let _never_fails = write!(
        text,
        "\nMedians of the turns; one connection, one worker. The last column is the time that a request takes more, by its calls: what the request itself costs is \
         in it.\nUnder that load the daemon took {per_second:.0} events per second of its CPU time, with what it does besides and while there are none; of {} events, {} were \
         lost.\nA core that has nothing else to do takes {:.0} events per second (aim: 200,000) without losing one: {} waited for it in a ring of 256 MiB, and took it {:.2} s of CPU.\n",
        daemon.seen,
        daemon.lost,
        daemon.capacity.per_second(),
        daemon.capacity.events,
        daemon.capacity.cpu_seconds,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_page() {
        let page = Page {
            application: "gunicorn, sync",
            name: "redis",
            family: Family::Redis,
            spans: 2,
            without: vec![1000.0, 900.0, 1100.0],
            with: vec![800.0],
        };
        let capacity = Capacity { events: 300, cpu_seconds: 0.1 };
        let families = families::Cost::default();
        let daemon = Daemon { cpu_seconds: 0.5, seen: 1000, lost: 3, capacity, families };
        let text = section(&[page], &daemon, &[], "cargo xtask bench drivers", "2 cores");
        assert!(text.contains("| redis | gunicorn, sync | 2 | 1000 | 800 | 0.800 | 125.0 |"), "{text}");
        assert!(text.contains("2000 events per second of its CPU time, with what it does besides"), "{text}");
        assert!(text.contains("of 1000 events, 3 were lost"), "{text}");
        assert!(
            text.contains("takes 3000 events per second (aim: 200,000) without losing one: 300 waited"),
            "{text}"
        );
    }
}
