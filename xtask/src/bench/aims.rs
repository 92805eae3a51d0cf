//! Whole applications on a machine that they keep busy, and how much of their throughput is to be left with pyapm attached:
//! Django with one statement and with 21, a lean FastAPI with 21.

use super::drivers::{Attached, Size, load};
use super::figures::median;
use anyhow::Result;
use harness::drivers::PEOPLE;
use harness::gunicorn::{Gunicorn, Options};
use harness::load::Address;
use harness::place::Python;
use harness::server::Server;
use harness::servers;
use std::fmt::Write as _;

/// Connections that `wrk` keeps busy.
const CONNECTIONS: u32 = 4;
/// Aims are close to what two equal turns differ by: there are more of these turns, and they are longer.
const MORE: u32 = 2;

/// One application under one load.
#[derive(Debug)]
pub(super) struct Aim {
    /// By which it is chosen.
    key: &'static str,
    name: &'static str,
    path: &'static str,
    /// Part of the throughput that is to be left.
    wanted: f64,
    /// Requests per second, in pairs.
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Aim {
    fn new(key: &'static str, name: &'static str, path: &'static str, wanted: f64) -> Self {
        Self { key, name, path, wanted, without: Vec::new(), with: Vec::new() }
    }
}

/// Starts each application in turn and measures what of it is wanted.
pub(super) fn measure(size: &Size) -> Result<Vec<Aim>> {
    let mut django = vec![
        Aim::new("django-1", "Django, 1 statement (gunicorn, 4 sync workers)", "", 0.98),
        Aim::new("django-21", "Django, 21 statements", "nplus1", 0.97),
    ];
    django.retain(|aim| size.is_wanted(aim.key));
    if !django.is_empty() {
        let shop = Gunicorn::start(&Options::new(Python::chosen()?))?;
        turns(&shop.address, shop.master(), &mut django, size)?;
    }
    let mut lean =
        vec![Aim::new("fastapi-21", "FastAPI, 21 statements (uvicorn, uvloop)", "statements/21", 0.95)];
    lean.retain(|aim| size.is_wanted(aim.key));
    if !lean.is_empty() {
        let postgresql = servers::Server::postgresql()?;
        postgresql.psql(PEOPLE)?;
        let server = Server::start(|setting| {
            let mut command = setting.program("uvicorn");
            command
                .args(["lean:application", "--loop", "uvloop", "--http", "httptools", "--no-access-log"])
                .args(["--port", &setting.port.to_string()])
                .env("PG_PORT", postgresql.port.to_string());
            command
        })?;
        turns(&server.address(), server.pid(), &mut lean, size)?;
    }
    django.extend(lean);
    Ok(django)
}

fn turns(address: &Address, pid: u32, aims: &mut [Aim], size: &Size) -> Result<()> {
    let seconds = size.seconds * MORE;
    // Caches and clock frequencies settle in a turn that does not count.
    for aim in aims.iter() {
        load(address, aim.path, CONNECTIONS, seconds)?;
    }
    for pair in 0..size.pairs * MORE {
        for is_attached in [pair % 2 == 1, pair % 2 == 0] {
            let attached = is_attached.then(|| Attached::start(pid, &[])).transpose()?;
            for aim in aims.iter_mut() {
                let rate = load(address, aim.path, CONNECTIONS, seconds)?;
                if is_attached { &mut aim.with } else { &mut aim.without }.push(rate);
            }
            if let Some(attached) = attached {
                attached.stop()?;
            }
        }
        let keys: Vec<&str> = aims.iter().map(|aim| aim.key).collect();
        eprintln!("{}: pair {pair} of {}", keys.join(", "), size.pairs * MORE);
    }
    Ok(())
}

/// The middle one of the pairs' ratios, with the lowest and the highest.
fn ratio(aim: &Aim) -> (f64, f64, f64) {
    let ratios: Vec<f64> = aim.with.iter().zip(&aim.without).map(|(with, without)| with / without).collect();
    let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    (median(&ratios), lowest, ratios.iter().copied().fold(0.0, f64::max))
}

pub(super) fn table(aims: &[Aim]) -> String {
    if aims.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| application | requests/s without | with pyapm | ratio (range of the pairs) | aim |\n|---|---|---|---|---|\n",
    );
    for aim in aims {
        let (middle, lowest, highest) = ratio(aim);
        let _never_fails = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {middle:.3} ({lowest:.3} to {highest:.3}) | {:.2} |",
            aim.name,
            median(&aim.without),
            median(&aim.with),
            aim.wanted
        );
    }
    let _never_fails = writeln!(
        text,
        "\n{CONNECTIONS} connections; medians of {} pairs of turns. Tracing and 99 Hz sampling on, every transaction written as JSON.\n",
        aims.first().map_or(0, |aim| aim.with.len())
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_counts_by_itself() {
        let mut aim = Aim::new("django-1", "Django, 1 statement", "", 0.98);
        aim.without = vec![1000.0, 500.0, 800.0];
        aim.with = vec![900.0, 495.0, 760.0];
        let text = table(&[aim]);
        assert!(
            text.contains("| Django, 1 statement | 800 | 760 | 0.950 (0.900 to 0.990) | 0.98 |"),
            "{text}"
        );
        assert!(text.contains("medians of 3 pairs"), "{text}");
        assert_eq!(table(&[]), "");
    }
}
