//! The loop around the recorder: timer, ring, signals, progress on stderr, the end.

use super::closing::{self, Target};
use super::program::{self, Held};
use super::recorder::{Choices, Recorder};
use super::subject;
use crate::cli::{RecordOptions, Subject};
use crate::outputs::profile::{About, Recording};
use crate::pipeline::clock;
use crate::pipeline::start::load;
use crate::pipeline::stop::Stop;
use crate::probes::OffCpu;
use crate::profile::Selection;
use crate::targets::{Discovery, ProcFs};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How long a record waits in the ring at most. Short, because frames are named when they are drained, and a process
/// that has ended meanwhile names none.
const DRAIN: Duration = Duration::from_millis(5);
/// The same while much is new.
const URGENT: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Far enough: no duration was given.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Records, writes the file, and gives the exit code: that of a program that was started and has ended by itself,
/// else 0.
///
/// # Errors
/// When nothing could be recorded ([`crate::pipeline::StartError`] in the chain), or the file not be written.
pub fn record(options: &RecordOptions) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let target = Target::open(&options.destination)?;
    let baseline = closing::baseline(options.baseline.as_deref())?;
    let recorded = match runtime.block_on(take(options)) {
        Ok(recorded) => recorded,
        Err(error) => {
            target.abandon();
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let Recorded { recorder, about, program } = recorded;
    let recording = Recording { profile: &recorder.profile, about: &about, look: options.look };
    let written = target.write(options.format, &recording, baseline.as_deref())?;
    closing::say(&recorder, &about, &written, &mut std::io::stderr().lock())
        .context("cannot write to stderr")?;
    // Nothing is attached from here on.
    drop(recorder);
    let code = runtime.block_on(farewell(program))?;
    runtime.shutdown_background();
    Ok(code)
}

struct Recorded {
    recorder: Recorder,
    about: About,
    program: Program,
}

/// The program that was started, when the recording is over.
enum Program {
    None,
    Ended(ExitStatus),
    /// The recording's time is over.
    Running(JoinHandle<std::io::Result<ExitStatus>>),
    /// The recording was ended by a signal.
    Told(u32),
}

async fn take(options: &RecordOptions) -> anyhow::Result<Recorded> {
    // Signals first: from here on an interrupt ends the recording in order.
    let mut stop = Stop::listen()?;
    let choices = Choices {
        selection: Selection::new(&options.include, &options.exclude)?,
        subprocesses: options.subprocesses,
        rate_hz: options.rate_hz,
        native: options.native,
        mode: options.mode,
        idle: options.idle,
    };
    let off_cpu = if options.mode.follows_waits() { OffCpu::Stacks } else { OffCpu::None };
    let mut recorder = Recorder::new(load(options.ring_bytes, options.native, off_cpu, 0)?, choices)?;
    let (held, titles) = watch(options, &mut recorder)?;
    recorder.begin()?;
    let (began, started_ns) = (Instant::now(), wall_ns());
    let deadline = began + options.duration.unwrap_or(FOREVER);
    let is_program = held.is_some();
    let (pid, mut child) = released(held)?;
    // SAFETY: the `AsyncFd` owns this descriptor, so it stays open for as long as it is registered.
    let ring = unsafe { AsyncFd::register_with_interest(recorder.ring_fd()?, Interest::READABLE) }
        .context("cannot wait for the ring buffer")?;
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let progress = Progress::new(is_program);
    progress.begin(&recorder, options);
    let program = loop {
        let wait = if recorder.is_urgent() { URGENT } else { DRAIN };
        let mut tick = false;
        tokio::select! {
            biased;
            () = stop.told() => break pid.map_or(Program::None, Program::Told),
            () = sleep_until(deadline) => break child.map_or(Program::None, Program::Running),
            status = ended(&mut child) => break Program::Ended(status?),
            _ = second.tick() => tick = true,
            () = tokio::time::sleep(wait) => {}
            ready = ring.readable() => ready.context("cannot wait for the ring buffer")?.clear_ready(),
        }
        let more = recorder.turn();
        if tick {
            recorder.housekeeping();
            progress.show(&recorder, began);
        }
        // The program's end is told by itself.
        if !is_program && recorder.is_over() {
            break Program::None;
        }
        if more {
            tokio::task::yield_now().await;
        }
    };
    recorder.stop();
    progress.clear();
    let about = About {
        title: closing::title(options, &titles),
        mode: options.mode,
        rate_hz: options.rate_hz,
        started_ns,
        duration_ns: recorder.duration_ns(),
    };
    Ok(Recorded { recorder, about, program })
}

/// Has everything that is recorded watched; a program that is to be started is held, and titles of the processes given.
fn watch(options: &RecordOptions, recorder: &mut Recorder) -> anyhow::Result<(Option<Held>, Vec<String>)> {
    let mut discovery = Discovery::new();
    let pids = match &options.subject {
        Subject::Program(words) => {
            let held = program::hold(words)?;
            recorder.watch_any(held.pid)?;
            return Ok((Some(held), Vec::new()));
        }
        Subject::Processes(pids) => pids.clone(),
        Subject::Application(name) => subject::application(&mut discovery, name)?,
    };
    let procfs = ProcFs::new();
    let mut titles = Vec::new();
    for pid in &pids {
        if matches!(options.subject, Subject::Processes(_)) {
            // Says what the matter is with a process that cannot be recorded.
            discovery.application(*pid)?;
        }
        if let Err(error) = recorder.watch_python(*pid) {
            // A worker may end between being found and being looked at; one process that was asked for may not.
            if matches!(options.subject, Subject::Application(_)) && procfs.stat(*pid).is_err() {
                continue;
            }
            return Err(error);
        }
        titles.push(subject::title(&procfs, *pid).unwrap_or_else(|| "?".to_owned()));
    }
    // Once a process is watched, its children are added by the kernel half itself. Those that were forked between the
    // first look and then are found by the second.
    recorder.watch_descendants(&pids)?;
    recorder.watch_descendants(&pids)?;
    Ok((None, titles))
}

/// The started program's pid, and the task that waits for its end.
type Child = (Option<u32>, Option<JoinHandle<std::io::Result<ExitStatus>>>);

fn released(held: Option<Held>) -> anyhow::Result<Child> {
    let Some(held) = held else { return Ok((None, None)) };
    let mut child = held.release()?;
    let pid = child.id();
    Ok((Some(pid), Some(tokio::task::spawn_blocking(move || child.wait()))))
}

/// Resolves when the program has ended; never without one.
async fn ended(child: &mut Option<JoinHandle<std::io::Result<ExitStatus>>>) -> anyhow::Result<ExitStatus> {
    match child {
        Some(waiting) => {
            waiting.await.context("the waiting thread failed")?.context("cannot wait for the started program")
        }
        None => std::future::pending().await,
    }
}

/// What becomes of the started program, and the exit code.
async fn farewell(program: Program) -> anyhow::Result<u8> {
    match program {
        Program::None => Ok(0),
        Program::Ended(status) => Ok(program::exit_code(status)),
        Program::Running(child) => Ok(program::exit_code(ended(&mut Some(child)).await?)),
        Program::Told(pid) => {
            // A terminal has interrupted the program too; a service manager has not.
            let _gone_already = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            Ok(0)
        }
    }
}

/// A line on stderr that is written over itself; none where stderr is no terminal, or a started program's own.
struct Progress {
    is_program: bool,
    is_shown: bool,
}

impl Progress {
    fn new(is_program: bool) -> Self {
        Self { is_program, is_shown: !is_program && std::io::stderr().is_terminal() }
    }

    /// Says once that it has begun, also where no terminal is.
    fn begin(&self, recorder: &Recorder, options: &RecordOptions) {
        if !self.is_program {
            let what = closing::counted(recorder.members(), "process", "processes");
            let rate = if options.mode.samples_cpu() {
                format!(" at {} Hz", options.rate_hz)
            } else {
                String::new()
            };
            let line = format!("recording {what}{rate}; Ctrl-C writes the file\n");
            let _nobody_reads = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn show(&self, recorder: &Recorder, began: Instant) {
        let (lost, _) = closing::losses(recorder);
        self.write(&format!(
            "\r\x1b[K{} s, {} samples, {} lost",
            began.elapsed().as_secs(),
            recorder.profile.total().samples,
            lost.values().sum::<u64>(),
        ));
    }

    fn clear(&self) {
        self.write("\r\x1b[K");
    }

    fn write(&self, text: &str) {
        if self.is_shown {
            let mut stderr = std::io::stderr().lock();
            // A terminal that has gone away ends nothing.
            let _nobody_reads = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}

fn wall_ns() -> u64 {
    clock::offset().wall_ns(clock::monotonic_ns())
}
