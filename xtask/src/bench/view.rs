//! The live view at a steady rate: first its steps one by one, on transactions that are made up; then a real server, a real
//! service and `pyapm top` in a real terminal, with the CPU that each of them takes while it is looked at.

use super::figures;
use super::overhead::machine;
use crate::demo::interrupt;
use crate::suites::command::build;
use crate::workspace;
use anyhow::{Context, Result, bail};
use harness::guard::Guard;
use harness::inspect::Usage;
use harness::place::{self, Python};
use harness::service::Service;
use harness::tmux::Terminal;
use harness::wait;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Processes of the server, and connections to it.
const CONNECTIONS: u32 = 4;
const NAME: &str = "quick";
/// The terminal's.
const SIZE: (u16, u16) = (200, 50);
/// Screens that are looked at, by their key.
const SCREENS: [(&str, &str); 5] =
    [("1", "Overview"), ("3", "X-View"), ("4", "Routes"), ("8", "Flame"), ("9", "Workers")];
/// Rounds of the steps that are measured one by one: as long as the window.
const ROUNDS: &str = "60";

/// Median and maximum of each step, in seconds or bytes.
type Steps = BTreeMap<String, [f64; 2]>;

/// CPU of a time, in cores.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    requests_per_second: f64,
    daemon: f64,
    view: Option<f64>,
}

/// Measures, prints the section to stdout and puts it into `docs/overhead.md`.
///
/// # Errors
/// When the server, the service or the view does not run.
pub fn run(rate: u32, seconds: u32) -> Result<()> {
    interrupt::catch()?;
    // A binary that is named is measured as it is, and so is its kind of build.
    let is_named = std::env::var_os("PYAPM_BINARY").is_some();
    if !is_named {
        build()?;
    }
    let steps = steps(rate, !is_named)?;
    let loads = loads(rate, Duration::from_secs(u64::from(seconds.max(1))))?;
    let mut command = format!("cargo xtask bench view --rate {rate} --seconds {seconds}");
    if is_named {
        command.push_str("` with `PYAPM_BINARY` set to a debug build, which is several times slower, `");
    }
    let section = section(rate, &steps, &loads, &command, &machine()?);
    std::io::stdout().write_all(section.as_bytes()).context("could not write to stdout")?;
    let path = workspace::root().join("docs/overhead.md");
    let document = std::fs::read_to_string(&path).context("could not read `docs/overhead.md`")?;
    std::fs::write(&path, figures::insert(&document, "view", &section))
        .context("could not write `docs/overhead.md`")
}

fn steps(rate: u32, is_release: bool) -> Result<Steps> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--package", "pyapm", "--example", "view_cost"]);
    if is_release {
        command.arg("--release");
    }
    let text = workspace::read(command.arg("--").arg(rate.to_string()).arg(ROUNDS))?;
    serde_json::from_str(&text).with_context(|| format!("not what was measured: {text}"))
}

/// Asks at a steady rate until it is dropped.
struct Visitors {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Visitors {
    fn start(port: u16, rate: u32) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..CONNECTIONS).map(|number| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                if let Err(error) =
                    ask(port, f64::from(rate) / f64::from(CONNECTIONS), number, &stop, &answered)
                {
                    eprintln!("a visitor has left: {error:#}");
                }
            })
        });
        let threads = threads.collect();
        Self { stop, answered, threads }
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn ask(port: u16, rate: f64, number: u32, stop: &AtomicBool, answered: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    let begin = Instant::now();
    let mut asked = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let due = begin + Duration::from_secs_f64(f64::from(asked) / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let path = (asked * CONNECTIONS + number) % 60;
        write!(stream, "GET /page{path} HTTP/1.1\r\nHost: quick\r\n\r\n")?;
        if stream.read(&mut buffer)? == 0 {
            bail!("the server has closed the connection");
        }
        answered.fetch_add(1, Ordering::Relaxed);
        asked = asked.wrapping_add(1);
    }
    Ok(())
}

fn loads(rate: u32, length: Duration) -> Result<Vec<Load>> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut command = Command::new(Python::first()?.program("python"));
    command.arg(place::workloads().join("quick.py")).arg(CONNECTIONS.to_string());
    let mut server = Guard::start(&mut command, &folder.path().join("log"), None)?;
    let port: u16 = wait::until("the server to be ready", || {
        server.check_alive()?;
        let log = server.log();
        let port = log.lines().find_map(|line| line.strip_prefix("ready "));
        port.map(|port| port.parse().context("no port")).transpose()
    })?;
    let mut service = Service::start(&format!("[[discovery.include]]\nname = '{NAME}'\nport = [{port}]\n"))?;
    service.wait_for("the server to be watched", |all| all.iter().any(|one| one.name == NAME))?;
    let visitors = Visitors::start(port, rate);
    let mut loads = vec![measure("nobody watches", &service, None, &visitors, length)?];
    let terminal = Terminal::open(SIZE.0, SIZE.1)?;
    let binary = place::binary()?;
    terminal.type_line(&format!(
        "{} top --socket {} --application {NAME}",
        binary.display(),
        service.socket().display()
    ))?;
    terminal.wait_for("GET /page")?;
    let view = child_of(&binary, service.pid())?;
    for (key, name) in SCREENS {
        if interrupt::seen() {
            bail!("interrupted");
        }
        terminal.press(key)?;
        loads.push(measure(name, &service, Some(view), &visitors, length)?);
    }
    terminal.press("q")?;
    Ok(loads)
}

/// The other process of this program.
fn child_of(binary: &std::path::Path, service: u32) -> Result<u32> {
    let pids = std::fs::read_dir("/proc").context("no /proc")?.filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = arguments.split(|byte| *byte == 0);
        let is_ours =
            arguments.next()? == binary.as_os_str().as_encoded_bytes() && arguments.next()? == b"top";
        (is_ours && pid != service).then_some(pid)
    });
    pids.max().context("the view does not run")
}

fn measure(
    name: &'static str,
    service: &Service,
    view: Option<u32>,
    visitors: &Visitors,
    length: Duration,
) -> Result<Load> {
    let cpu = |pid: u32| Usage::of(pid).map(|usage| usage.cpu_seconds);
    let read = || -> Result<(f64, Option<f64>, u64)> {
        let view = view.map(cpu).transpose()?;
        Ok((cpu(service.pid())?, view, visitors.answered.load(Ordering::Relaxed)))
    };
    // What comes with a new screen is not what staying on it costs.
    std::thread::sleep(Duration::from_secs(1));
    let (begin, before) = (Instant::now(), read()?);
    std::thread::sleep(length);
    let (after, elapsed) = (read()?, begin.elapsed().as_secs_f64());
    Ok(Load {
        name,
        requests_per_second: (after.2 - before.2) as f64 / elapsed,
        daemon: (after.0 - before.0) / elapsed,
        view: after.1.zip(before.1).map(|(after, before)| (after - before) / elapsed),
    })
}

fn section(rate: u32, steps: &Steps, loads: &[Load], command: &str, machine: &str) -> String {
    let mut text = format!(
        "The live view at {rate} transactions a second. Made up, one process, true colour, {ROUNDS} seconds of them, 16 workers,\n\
         60 routes, three statements each:\n\n\
         | step, each second, CPU time | median | maximum |\n|---|---|---|\n"
    );
    let names = [
        ("store", "the store counts them, ms"),
        ("snapshot", "a snapshot is made, ms"),
        ("write", "it is written for the socket, with the dots, ms"),
        ("bytes", "that is, kB"),
        ("read", "it is read again, ms"),
        ("update", "the view takes it over, ms"),
    ];
    for (name, words) in names {
        if let Some([middle, largest]) = steps.get(name) {
            let _infallible = writeln!(
                text,
                "| {words} | {:.2} | {:.2} |",
                middle * 1e3f64.powi(scale(name)),
                largest * 1e3f64.powi(scale(name))
            );
        }
    }
    for size in ["80x24", "200x50", "300x80"] {
        let prefix = format!("draw {size} ");
        let drawings = || steps.iter().filter(|(name, _)| name.starts_with(&prefix));
        let slowest = drawings().max_by(|a, b| a.1[0].total_cmp(&b.1[0]));
        let largest = drawings().map(|(_, [_, largest])| *largest).fold(0.0, f64::max);
        if let Some((name, [middle, _])) = slowest {
            let screen = name.trim_start_matches(&prefix);
            let _infallible = writeln!(
                text,
                "| a drawing at {size}, of the slowest screen ({screen}), ms | {:.2} | {:.2} |",
                middle * 1e3,
                largest * 1e3
            );
        }
        if let Some([middle, largest]) = steps.get(&format!("bytes {size}")) {
            let _infallible = writeln!(
                text,
                "| bytes to the terminal by a drawing at {size}, kB | {:.1} | {:.1} |",
                middle / 1e3,
                largest / 1e3
            );
        }
    }
    text.push_str(
        "\nA drawing has 33 ms: there are at most thirty a second. A server that does nothing but answer, watched by the \
         service;\n`pyapm top` on a terminal of 200x50:\n\n\
         | screen | requests/s | daemon, cores | view, cores |\n|---|---|---|---|\n",
    );
    for load in loads {
        let view = load.view.map_or("-".to_owned(), |view| format!("{view:.3}"));
        let _infallible = writeln!(
            text,
            "| {} | {:.0} | {:.3} | {view} |",
            load.name, load.requests_per_second, load.daemon
        );
    }
    let _infallible = writeln!(
        text,
        "\n{machine}; server, load, service and view on the same machine.\n\nMeasured by `{command}`."
    );
    text
}

/// Thousands or thousandths.
fn scale(name: &str) -> i32 {
    if name == "bytes" { -1 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_screen_is_named_and_units_are_right() {
        let steps: Steps = [
            ("store", [0.004, 0.009]),
            ("bytes", [123_000.0, 130_000.0]),
            ("draw 80x24 Routes", [0.001, 0.004]),
            ("draw 80x24 X-View", [0.002, 0.003]),
            ("bytes 80x24", [900.0, 2_000.0]),
        ]
        .map(|(name, figures)| (name.to_owned(), figures))
        .into();
        let loads = [Load { name: "Flame", requests_per_second: 4_999.6, daemon: 0.25, view: Some(0.0123) }];
        let text = section(5_000, &steps, &loads, "cargo x", "2 cores");
        for line in [
            "| the store counts them, ms | 4.00 | 9.00 |",
            "| that is, kB | 123.00 | 130.00 |",
            "| a drawing at 80x24, of the slowest screen (X-View), ms | 2.00 | 4.00 |",
            "| bytes to the terminal by a drawing at 80x24, kB | 0.9 | 2.0 |",
            "| Flame | 5000 | 0.250 | 0.012 |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
