//! The loop around the engine: timer, ring, signals, outputs.

use super::engine::{Engine, Lines};
use super::snapshot::Threads;
use super::start::{random_seed, start};
use super::stop::Stop;
use crate::cli::{AttachOptions, Format};
use crate::outputs::json::{JsonLines, Reading};
use crate::outputs::text::report;
use crate::targets::ApplicationId;
use anyhow::Context;
use pyapm_model::line::{Attached, Line};
use pyapm_model::snapshot::Snapshot;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How long a record may wait in the ring before it is drained. The kernel half wakes the reader earlier
/// when much waits.
const DRAIN: Duration = Duration::from_millis(20);
/// Between two states of the view, and between two rounds of housekeeping.
const SECOND: Duration = Duration::from_secs(1);
/// Between two text reports.
const REPORT: Duration = Duration::from_secs(10);
/// Far enough: `--duration` was not given.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Attaches to the application of a process and reports until it is told to stop, or the application ends.
///
/// # Errors
/// When nothing could be attached ([`super::StartError`] in the chain), or an output failed.
pub fn attach(options: &AttachOptions) -> anyhow::Result<()> {
    // The view must not wait for the engine. Without it there is one task, and a thread beside it would do nothing but
    // wake it: twice the switches for each turn.
    let mut builder = match options.format {
        Format::Json | Format::Text => tokio::runtime::Builder::new_current_thread(),
        Format::View | Format::Auto => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().context("cannot start the event loop")?;
    let result = runtime.block_on(run(options));
    // A view thread that waits for a key must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn run(options: &AttachOptions) -> anyhow::Result<()> {
    // Signals first: from here on an interrupt ends the run in order.
    let mut stop = Stop::listen()?;
    let (mut engine, ids) = start(
        &options.pids,
        options.rate_hz,
        options.ring_bytes,
        random_seed().context("the kernel gives no random number")?,
        options.sql,
        options.waits,
    )?;
    engine.look_for_agents();
    let attached: Vec<Line> = ids
        .iter()
        .map(|id| {
            Line::Attached(Attached {
                application: engine.instance(*id).map(|one| one.application.name.clone()).unwrap_or_default(),
                pids: engine.members(*id),
                python: engine.python_version(*id),
                agents: engine.agents(*id),
            })
        })
        .collect();
    let mut face = Face::open(options, &attached)?;
    let deadline = Instant::now() + options.duration.unwrap_or(FOREVER);
    // SAFETY: the `AsyncFd` owns this descriptor, so it stays open for as long as it is registered.
    let ring = unsafe { AsyncFd::register_with_interest(engine.ring_fd()?, Interest::READABLE) }
        .context("cannot wait for the ring buffer")?;
    let mut drain = interval(DRAIN);
    drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lines = Lines::new();
    let end = loop {
        let mut tick = false;
        tokio::select! {
            biased;
            () = stop.told() => break End::Told,
            () = sleep_until(deadline) => break End::Told,
            () = face.closed() => break End::Told,
            _ = second.tick() => tick = true,
            _ = drain.tick() => {}
            ready = ring.readable() => ready.context("cannot wait for the ring buffer")?.clear_ready(),
        }
        let more = engine.turn(&mut lines);
        if tick {
            engine.housekeeping(&mut lines);
        }
        if face.lines(&mut lines)? == Reading::Closed {
            break End::Told;
        }
        if engine.is_over() {
            break End::ApplicationEnded;
        }
        if tick && face.wants_snapshot() {
            let looks = face.looks();
            let threads = if looks { Threads::States } else { Threads::Stacks };
            let snapshots = ids.iter().filter_map(|id| engine.snapshot(*id, looks, threads)).collect();
            if face.snapshots(snapshots)? == Reading::Closed {
                break End::Told;
            }
        }
        if more {
            tokio::task::yield_now().await;
        }
    };
    engine.stop(&mut lines);
    face.close(&mut lines, (&mut engine, &ids), end, &mut stop).await
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By a signal, the deadline, the user, or a reader that went away.
    Told,
    /// Nothing of the application lives any more.
    ApplicationEnded,
}

/// What the user sees.
enum Face {
    Json(JsonLines<std::io::Stdout>),
    Text { last: Option<Instant> },
    View(View),
}

/// The view runs as its own task; it reads snapshots and nothing else.
struct View {
    snapshots: watch::Sender<Arc<Snapshot>>,
    /// Dropped to have it leave.
    stay: oneshot::Sender<()>,
    done: oneshot::Receiver<anyhow::Result<()>>,
    /// Its answer, once it has left.
    result: Option<anyhow::Result<()>>,
    /// Log lines wait until the terminal is the shell's again.
    _log: crate::telemetry::Held,
}

impl Face {
    fn open(options: &AttachOptions, attached: &[Line]) -> anyhow::Result<Self> {
        let terminal = std::io::stdout().is_terminal();
        let mut face = match options.format {
            Format::Json => Self::Json(JsonLines::new(std::io::stdout())),
            Format::Text => Self::Text { last: None },
            Format::Auto if !terminal || attached.len() > 1 => Self::Text { last: None },
            Format::View if attached.len() > 1 => {
                anyhow::bail!(
                    "the view shows one application; try `--format text`, or `pyapm run` and `pyapm top`"
                );
            }
            Format::View | Format::Auto => Self::view(options.color),
        };
        if let Self::Json(json) = &mut face {
            // A reader that has gone already is met again at the first line.
            for line in attached {
                let _nobody_may_read = json.write(line).context("cannot write to stdout")?;
            }
            let _nobody_may_read = json.flush().context("cannot write to stdout")?;
        }
        Ok(face)
    }

    fn view(color: bool) -> Self {
        let (snapshots, source) = watch::channel(Arc::new(Snapshot::default()));
        let (tell, done) = oneshot::channel();
        let (stay, told_to_leave) = oneshot::channel::<()>();
        let palette = pyapm_tui::Palette::from_environment(color);
        let source = pyapm_tui::Local::new(source);
        let options = pyapm_tui::ViewOptions { palette, leave_when_source_ends: false };
        tokio::spawn(async move {
            let leave = async {
                let _dropped_to_leave = told_to_leave.await;
            };
            let result = pyapm_tui::run(source, options, leave).await;
            // Nobody listens when this process is already on its way out.
            let _nobody_listens = tell.send(result.map(|_exit| ()));
        });
        Self::View(View { snapshots, stay, done, result: None, _log: crate::telemetry::hold_log() })
    }

    /// Resolves when the user has closed the view.
    async fn closed(&mut self) {
        match self {
            Self::View(view) if view.result.is_none() => {
                view.result = Some((&mut view.done).await.unwrap_or(Ok(())));
            }
            _ => std::future::pending().await,
        }
    }

    fn lines(&mut self, lines: &mut Lines) -> anyhow::Result<Reading> {
        let Self::Json(json) = self else {
            lines.clear();
            return Ok(Reading::Open);
        };
        if lines.is_empty() {
            return Ok(Reading::Open);
        }
        for said in lines.drain(..) {
            if json.write(&said.line).context("cannot write to stdout")? == Reading::Closed {
                return Ok(Reading::Closed);
            }
        }
        json.flush().context("cannot write to stdout")
    }

    fn wants_snapshot(&self) -> bool {
        match self {
            Self::Json(_) => false,
            Self::Text { last } => last.is_none_or(|last| last.elapsed() >= REPORT),
            Self::View(_) => true,
        }
    }

    /// Somebody may look into what the snapshot is made of.
    fn looks(&self) -> bool {
        matches!(self, Self::View(_))
    }

    /// One for each application.
    fn snapshots(&mut self, snapshots: Vec<Snapshot>) -> anyhow::Result<Reading> {
        match self {
            Self::Json(_) => {}
            Self::Text { last } => {
                // The first second has little to tell.
                let first = last.replace(Instant::now()).is_none();
                if !first {
                    return print_reports(&snapshots);
                }
            }
            Self::View(view) => {
                for snapshot in snapshots {
                    let _replaced = view.snapshots.send_replace(Arc::new(snapshot));
                }
            }
        }
        Ok(Reading::Open)
    }

    /// The last words: the summary in JSON, a report in text, the terminal as it was from the view.
    async fn close(
        mut self,
        lines: &mut Lines,
        (engine, ids): (&mut Engine, &[ApplicationId]),
        end: End,
        stop: &mut Stop,
    ) -> anyhow::Result<()> {
        let _nobody_may_read = self.lines(lines)?;
        match self {
            Self::Json(mut json) => {
                let _nobody_may_read =
                    json.write(&Line::Summary(engine.summary())).context("cannot write to stdout")?;
                let _nobody_may_read = json.flush().context("cannot write to stdout")?;
            }
            Self::Text { .. } => {
                let snapshots: Vec<_> =
                    ids.iter().filter_map(|id| engine.snapshot(*id, false, Threads::Stacks)).collect();
                let _nobody_may_read = print_reports(&snapshots)?;
            }
            Self::View(View { snapshots, stay, done, result, _log }) => {
                if end == End::ApplicationEnded {
                    // The last figures stay on the screen, marked as such, until the user has seen them.
                    drop(snapshots);
                    let answer = match result {
                        Some(answer) => answer,
                        None => tokio::select! {
                            answer = done => answer.unwrap_or(Ok(())),
                            () = stop.told() => Ok(()),
                        },
                    };
                    drop(stay);
                    return answer;
                }
                drop(stay);
                match result {
                    Some(answer) => answer?,
                    None => done.await.unwrap_or(Ok(()))?,
                }
            }
        }
        Ok(())
    }
}

fn print_reports(snapshots: &[Snapshot]) -> anyhow::Result<Reading> {
    const WIDTH: usize = 120;
    let mut text = Vec::new();
    for snapshot in snapshots {
        report(snapshot, &mut text, WIDTH).context("cannot format the report")?;
    }
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(&text).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reading::Open),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reading::Closed),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}
