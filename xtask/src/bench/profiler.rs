//! What profilers cost the program that they look at, and how many of their stacks cannot be: pyapm against py-spy and
//! Tachyon, in turns with runs without any. All look at the same process of the same interpreter.

use super::contenders::{ALL, Contender, FILE, Order, WHOLE};
use super::figures::{self, median};
use super::overhead::machine;
use super::probes::{self, Counting};
use crate::demo::interrupt;
use crate::setup::command::{Part, run as set_up};
use crate::setup::python;
use crate::suites::command::build;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use harness::guard::Guard;
use harness::inspect::Usage;
use harness::interpreter::{Interpreter, Script};
use harness::wait;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Of the interpreter that all contenders can look at.
const MINOR: u8 = 15;
/// A profiler reads symbols and threads first, which not all of them say that they have done.
const SETTLES: Duration = Duration::from_millis(1500);
/// Length of a recording of the program whose leaves have one caller each.
const FLUTTERS: u32 = 10;

/// How much is measured. As it is, some ten minutes.
#[derive(Clone, Debug, clap::Args)]
pub struct Size {
    /// Times that each profiler has its turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Length of each turn
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Samples a second
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    rates: Vec<u32>,
    /// Threads of the program, of which one computes
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 159])]
    threads: Vec<u32>,
    /// Frames of each thread
    #[arg(long, value_delimiter = ',', default_values_t = [20, 1000])]
    depths: Vec<u32>,
}

/// What one profiler did to one program, a value for each turn.
#[derive(Clone, Debug, Default)]
struct Turns {
    /// Part of the program's speed that was lost.
    slowdown: Vec<f64>,
    /// Cores that the profiler kept busy.
    cores: Vec<f64>,
    /// Part of a core in its programs in the kernel, which run in the program's own time.
    programs: Vec<f64>,
    /// Why it has no figures.
    failure: Option<String>,
}

/// Measures, prints the section to stdout and puts it into `docs/overhead.md`.
///
/// # Errors
/// When the program or pyapm does not run.
pub fn run(size: &Size) -> Result<()> {
    interrupt::catch()?;
    set_up(Some(Part::Python))?;
    python::install_profilers()?;
    build()?;
    let interpreter =
        Interpreter::all()?.into_iter().find(|one| one.minor == MINOR && !one.shared && !one.free_threaded);
    let interpreter = interpreter.context("no static Python 3.15")?;
    let mut table = String::from("| threads | depth | rate |");
    for contender in WHOLE {
        write!(table, " {}: slowdown |", contender.name())?;
        if contender == Contender::Pyapm {
            table.push_str(" in its program |");
        }
        table.push_str(" its CPU |");
    }
    write!(table, "\n|---|---|---|---|{}\n", "---|---|".repeat(WHOLE.len()))?;
    for &threads in &size.threads {
        for &depth in &size.depths {
            for &rate in &size.rates {
                let turns = burden(&interpreter, threads, depth, rate, size)?;
                write!(table, "| {threads} | {depth} | {rate} Hz |")?;
                for (contender, turns) in WHOLE.iter().zip(turns) {
                    table.push_str(&cells(*contender, &turns));
                }
                table.push('\n');
            }
        }
    }
    let impossible = flutter(&interpreter, FLUTTERS.min(size.seconds * size.rounds * 2))?;
    let joined = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let section = format!(
        "Slowdown of a program of which one thread computes and the others wait, all equally deep, and cores that the \
         profiler kept busy: medians of {} turns of {} s, each between two as long without a profiler; {interpreter}. The \
         slowdown is by the clock, so it has the noise of the machine in it (some percent); \"in its program\" is the part of a core \
         that pyapm's program takes out of the other's time, as the kernel counts it.\n\n{table}\n\
         {impossible}\n{}.\n\nMeasured by `cargo xtask bench profiler --rounds {} --seconds {} --rates {} --threads {} \
         --depths {}`.\n",
        size.rounds,
        size.seconds,
        machine()?,
        size.rounds,
        size.seconds,
        joined(&size.rates),
        joined(&size.threads),
        joined(&size.depths),
    );
    std::io::stdout().write_all(section.as_bytes()).context("could not write to stdout")?;
    let path = workspace::root().join("docs/overhead.md");
    let document = std::fs::read_to_string(&path).context("could not read `docs/overhead.md`")?;
    std::fs::write(&path, figures::insert(&document, "profiler", &section))
        .context("could not write `docs/overhead.md`")
}

fn cells(contender: Contender, turns: &Turns) -> String {
    let program = match contender {
        Contender::Pyapm => format!(" {:.2} % |", 100.0 * median(&turns.programs)),
        _ => String::new(),
    };
    match &turns.failure {
        Some(why) => format!(" {why} | |"),
        None => format!(" {:.1} % |{program} {:.2} |", 100.0 * median(&turns.slowdown), median(&turns.cores)),
    }
}

/// Turns of all contenders at one program.
fn burden(interpreter: &Interpreter, threads: u32, depth: u32, rate: u32, size: &Size) -> Result<Vec<Turns>> {
    let script = Script::start_with("burden.py", |scratch| {
        let mut command = interpreter.command("burden.py", scratch);
        command.env("BURDEN_THREADS", threads.to_string()).env("BURDEN_DEPTH", depth.to_string());
        Ok(command)
    })?;
    let length = Duration::from_secs(size.seconds.into());
    let mut all = vec![Turns::default(); WHOLE.len()];
    // What follows one turn comes before the next.
    let mut before = speed(script.folder(), length)?;
    for round in 0..size.rounds as usize {
        for place in 0..WHOLE.len() {
            // Each begins a round in its turn, so that none is always the first after another.
            let number = (round + place) % WHOLE.len();
            let (Some(contender), Some(turns)) = (WHOLE.get(number), all.get_mut(number)) else { continue };
            let attempt = attached(*contender, &script, rate, length);
            let between = before;
            before = speed(script.folder(), length)?;
            match attempt {
                Ok(turn) => {
                    turns.slowdown.push(1.0 - turn.speed / f64::midpoint(between, before));
                    turns.cores.push(turn.cores);
                    turns.programs.push(turn.programs);
                }
                Err(error) if *contender == Contender::Pyapm => return Err(error),
                Err(error) => turns.failure = Some(format!("did not run: {}", line(&error))),
            }
            eprintln!(
                "{threads} threads, {depth} deep, {rate} Hz, {}:{}",
                contender.name(),
                cells(*contender, turns)
            );
        }
    }
    Ok(all)
}

/// A turn of one profiler.
struct Turn {
    /// Rounds of the program a second.
    speed: f64,
    cores: f64,
    programs: f64,
}

/// The program's speed and what the profiler takes while it records.
fn attached(contender: Contender, script: &Script, rate_hz: u32, length: Duration) -> Result<Turn> {
    // It must not end by itself before its turn does.
    let seconds = u32::try_from(length.as_secs())? + 120;
    let order = Order { pid: script.pid(), rate_hz, seconds, folder: script.folder() };
    let log = script.folder().join("profiler.log");
    let mut profiler = Guard::start(&mut contender.command(order)?, &log, None)?;
    wait::until("the profiler to begin", || {
        profiler.check_alive()?;
        Ok(contender.has_begun(&profiler.log()).then_some(()))
    })?;
    std::thread::sleep(SETTLES);
    profiler.check_alive()?;
    let _counting = Counting::start()?;
    let (began, before) = (Instant::now(), Usage::of(profiler.pid())?);
    let runs_before = probes::held_by(profiler.pid())?;
    let counted = Instant::now();
    let speed = speed(script.folder(), length)?;
    let runs = probes::held_by(profiler.pid())?;
    let programs = runs.cores_since(runs_before, counted.elapsed().as_secs_f64());
    let after = Usage::of(profiler.pid())?;
    profiler.check_alive()?;
    let cores = (after.cpu_seconds - before.cpu_seconds) / began.elapsed().as_secs_f64();
    Ok(Turn { speed, cores, programs })
}

/// Rounds a second of the program over this time.
fn speed(folder: &Path, length: Duration) -> Result<f64> {
    if interrupt::seen() {
        bail!("interrupted");
    }
    let (began, before) = (Instant::now(), rounds(folder)?);
    std::thread::sleep(length);
    Ok((rounds(folder)? - before) as f64 / began.elapsed().as_secs_f64())
}

fn rounds(folder: &Path) -> Result<u64> {
    let bytes = std::fs::read(folder.join("rounds")).context("could not read what the program has done")?;
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).context("the program has counted nothing")
}

/// Stacks that cannot be, of a program whose leaves have one caller each.
fn flutter(interpreter: &Interpreter, seconds: u32) -> Result<String> {
    const RATE: u32 = 1000;
    let mut table = String::from(
        "| flutter, 1,000 Hz | samples | impossible stacks | samples lost, by its own account |\n|---|---|---|---|\n",
    );
    let script = Script::start(interpreter, "flutter.py")?;
    for contender in ALL {
        let row = fluttering(contender, &script, RATE, seconds);
        match row {
            Ok((samples, impossible, lost)) => {
                let share = 100.0 * impossible as f64 / (samples.max(1)) as f64;
                writeln!(
                    table,
                    "| {} | {samples} | {impossible} ({share:.2} %) | {lost} |",
                    contender.name()
                )?;
            }
            Err(error) if contender == Contender::Pyapm => return Err(error),
            Err(error) => writeln!(table, "| {} | did not run: {} | | |", contender.name(), line(&error))?,
        }
    }
    Ok(table)
}

fn fluttering(contender: Contender, script: &Script, rate_hz: u32, seconds: u32) -> Result<(u64, u64, u64)> {
    let order = Order { pid: script.pid(), rate_hz, seconds, folder: script.folder() };
    let log = script.folder().join("profiler.log");
    let mut profiler = Guard::start(&mut contender.command(order)?, &log, None)?;
    let status = profiler.wait()?;
    if !status.success() {
        bail!("it ended with {status}: {}", profiler.log());
    }
    let text = std::fs::read_to_string(script.folder().join(FILE)).context("it wrote no file")?;
    let mut counts: BTreeMap<bool, u64> = BTreeMap::new();
    for (stack, count) in contender.stacks(&text)? {
        *counts.entry(is_possible(&stack)).or_default() += count;
    }
    let count = |possible| counts.get(&possible).copied().unwrap_or(0);
    Ok((count(true) + count(false), count(false), contender.lost(&profiler.log())))
}

/// A stack of `flutter.py`, outermost first, whole or not yet whole.
fn is_possible(stack: &[String]) -> bool {
    const WHOLES: [[&str; 4]; 2] =
        [["<module>", "flutter", "only_one", "leaf_one"], ["<module>", "flutter", "only_two", "leaf_two"]];
    let is_beginning = |whole: &[&str; 4]| {
        stack.len() <= whole.len() && stack.iter().zip(whole).all(|(frame, expected)| frame == expected)
    };
    !stack.is_empty() && WHOLES.iter().any(is_beginning)
}

/// An error in a cell of a table.
fn line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    last.replace('|', "/").chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_have_one_caller() {
        let possible = |stack: &str| is_possible(&stack.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(possible("<module> flutter only_one leaf_one") && possible("<module> flutter"));
        assert!(!possible("<module> flutter only_one leaf_two") && !possible("<module> flutter leaf_one"));
        assert!(!is_possible(&[]));
    }

    #[test]
    fn errors_fit_a_cell() {
        assert_eq!(line(&anyhow::anyhow!("first\nlast | line\n")), "last / line");
    }
}
