//! Whole applications on a machine that they keep busy, and how much of their throughput is to be left with pyapm there:
//! Django with one statement and with 21, a lean FastAPI with 21. Each is watched in the ways that people use, and once
//! an equal process beside it is watched instead: what the application loses then is what the kernel takes for stopping
//! at a probe, which no program can give back.

use super::drivers::{Attached, Size, load};
use super::figures::median;
use anyhow::{Context as _, Result, bail};
use harness::drivers::PEOPLE;
use harness::gunicorn::{Gunicorn, Options};
use harness::load::Address;
use harness::place::Python;
use harness::server::Server;
use harness::servers;
use harness::service::Service;
use std::fmt::Write as _;

/// Connections that `wrk` keeps busy.
const CONNECTIONS: u32 = 4;
/// Aims are close to what two equal turns differ by: there are more of these turns, and they are longer.
const MORE: u32 = 2;
/// What the service calls the application.
const NAME: &str = "measured";

/// How pyapm is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As a service with its defaults: metrics for Prometheus, history.
    Service,
    /// `attach`, every transaction written as JSON, which somebody reads.
    Lines,
    /// Attached to an equal process, which nobody asks.
    Beside,
}

const WAYS: [Way; 3] = [Way::Service, Way::Lines, Way::Beside];

/// Requests per second in one turn without pyapm, and in its neighbour with it.
type Pair = (f64, f64);

/// One application under one load.
#[derive(Debug)]
pub(super) struct Aim {
    /// By which it is chosen.
    key: &'static str,
    name: &'static str,
    path: &'static str,
    /// Part of the throughput that is to be left.
    wanted: f64,
    /// In the order of [`WAYS`].
    pairs: [Vec<Pair>; WAYS.len()],
}

impl Aim {
    fn new(key: &'static str, name: &'static str, path: &'static str, wanted: f64) -> Self {
        Self { key, name, path, wanted, pairs: Default::default() }
    }
}

/// Where one application answers, and which processes are its and its equal's.
struct Place<'a> {
    address: &'a Address,
    pid: u32,
    beside: u32,
}

/// Starts each application in turn and measures what of it is wanted.
pub(super) fn measure(size: &Size) -> Result<Vec<Aim>> {
    let mut django = vec![
        Aim::new("django-1", "Django, 1 statement (gunicorn, 4 sync workers)", "", 0.98),
        Aim::new("django-21", "Django, 21 statements", "nplus1", 0.97),
    ];
    django.retain(|aim| size.is_wanted(aim.key));
    if !django.is_empty() {
        let options = Options::new(Python::chosen()?);
        let (shop, equal) = (Gunicorn::start(&options)?, Gunicorn::start(&options)?);
        let place = Place { address: &shop.address, pid: shop.master(), beside: equal.master() };
        turns(&place, &mut django, size)?;
    }
    let mut lean =
        vec![Aim::new("fastapi-21", "FastAPI, 21 statements (uvicorn, uvloop)", "statements/21", 0.95)];
    lean.retain(|aim| size.is_wanted(aim.key));
    if !lean.is_empty() {
        let postgresql = servers::Server::postgresql()?;
        postgresql.psql(PEOPLE)?;
        let start = || {
            Server::start(|setting| {
                let mut command = setting.program("uvicorn");
                command
                    .args(["lean:application", "--loop", "uvloop", "--http", "httptools", "--no-access-log"])
                    .args(["--port", &setting.port.to_string()])
                    .env("PG_PORT", postgresql.port.to_string());
                command
            })
        };
        let (server, equal) = (start()?, start()?);
        let place = Place { address: &server.address(), pid: server.pid(), beside: equal.pid() };
        turns(&place, &mut lean, size)?;
    }
    django.extend(lean);
    Ok(django)
}

fn turns(place: &Place<'_>, aims: &mut [Aim], size: &Size) -> Result<()> {
    let seconds = size.seconds * MORE;
    let rates = |aims: &[Aim], seconds| -> Result<Vec<f64>> {
        aims.iter().map(|aim| load(place.address, aim.path, CONNECTIONS, seconds)).collect()
    };
    // Caches and clock frequencies settle in a turn that does not count.
    rates(aims, seconds)?;
    for pair in 0..size.pairs * MORE {
        for (index, way) in WAYS.into_iter().enumerate() {
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for is_there in [pair % 2 == 1, pair % 2 == 0] {
                if is_there {
                    let pyapm = There::start(way, place)?;
                    // Nor does what pyapm learns in its first seconds: routes, names, which exceptions are of no interest.
                    rates(aims, size.seconds)?;
                    with = rates(aims, seconds)?;
                    pyapm.stop()?;
                } else {
                    without = rates(aims, seconds)?;
                }
            }
            for ((aim, without), with) in aims.iter_mut().zip(without).zip(with) {
                if let Some(pairs) = aim.pairs.get_mut(index) {
                    pairs.push((without, with));
                }
            }
        }
        let keys: Vec<&str> = aims.iter().map(|aim| aim.key).collect();
        eprintln!("{}: pair {pair} of {}", keys.join(", "), size.pairs * MORE);
    }
    Ok(())
}

/// A pyapm that is there in one of the ways.
enum There {
    Attached(Attached),
    /// With the folder of its history.
    Service(Service, tempfile::TempDir),
}

impl There {
    fn start(way: Way, place: &Place<'_>) -> Result<Self> {
        match way {
            Way::Lines => Ok(Self::Attached(Attached::start(place.pid, &[])?)),
            Way::Beside => Ok(Self::Attached(Attached::start(place.beside, &[])?)),
            Way::Service => {
                let Address::Tcp(address) = place.address else { bail!("the application is not on TCP") };
                let folder = tempfile::tempdir().context("no temporary folder")?;
                let mut service = Service::start(&format!(
                    "[[discovery.include]]\nname = '{NAME}'\nport = [{}]\n[prometheus]\nlisten = '127.0.0.1:0'\n[history]\nfile = '{}/history.db'\n",
                    address.port(),
                    folder.path().display()
                ))?;
                service.wait_for("the application to be watched", |all| {
                    all.iter().any(|one| one.name == NAME)
                })?;
                Ok(Self::Service(service, folder))
            }
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Attached(attached) => attached.stop().map(drop),
            Self::Service(service, _folder) => {
                let (status, log) = service.stop()?;
                if !status.success() {
                    bail!("the service ended with {status}: {log}");
                }
                Ok(())
            }
        }
    }
}

/// The middle one of the pairs' ratios, with the lowest and the highest.
fn ratio(pairs: &[Pair]) -> String {
    let ratios: Vec<f64> = pairs.iter().map(|(without, with)| with / without).collect();
    let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({lowest:.3} to {highest:.3})", median(&ratios))
}

pub(super) fn table(aims: &[Aim]) -> String {
    if aims.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| application | requests/s without | as a service | `attach`, as JSON | an equal process is watched instead | aim |\n|---|---|---|---|---|---|\n",
    );
    for aim in aims {
        let without: Vec<f64> = aim.pairs.iter().flatten().map(|(without, _)| *without).collect();
        let [service, lines, beside] = aim.pairs.each_ref().map(|pairs| ratio(pairs));
        let _never_fails = writeln!(
            text,
            "| {} | {:.0} | {service} | {lines} | {beside} | {:.2} |",
            aim.name,
            median(&without),
            aim.wanted
        );
    }
    let _never_fails = writeln!(
        text,
        "\nWhat is left of the requests/s, against the turn before or after: medians of {} pairs of turns, with their range; {CONNECTIONS} connections. Tracing and 99 Hz sampling on. The service keeps metrics and history; `attach` writes every \
         transaction with each span's stack, which is read through a pipe. The last but one is what the probes take from a process that nobody watches, because it maps the same libraries: stopping at them, and finding that there is nothing to do.\n",
        aims.first().and_then(|aim| aim.pairs.first()).map_or(0, Vec::len)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_counts_by_itself() {
        let mut aim = Aim::new("django-1", "Django, 1 statement", "", 0.98);
        aim.pairs = [
            vec![(1000.0, 900.0), (500.0, 495.0), (800.0, 760.0)],
            vec![(1000.0, 700.0), (800.0, 640.0), (800.0, 720.0)],
            vec![(800.0, 784.0), (800.0, 776.0), (800.0, 792.0)],
        ];
        let text = table(&[aim]);
        let row = "| Django, 1 statement | 800 | 0.950 (0.900 to 0.990) | 0.800 (0.700 to 0.900) | 0.980 (0.970 to 0.990) | 0.98 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("medians of 3 pairs"), "{text}");
        assert_eq!(table(&[]), "");
    }
}
