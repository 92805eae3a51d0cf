//! The thread that writes, behind a queue that nobody waits for: what finds it full is refused, and counted by whoever
//! offered it.

use super::commit::File;
use super::error::HistoryError;
use super::minutes::{Limits, MINUTE_NS, Minutes};
use super::prune::{make_room, prune};
use super::whole::Choice;
use crate::config;
use pyapm_model::line::Line;
use pyapm_model::service::ApplicationInfo;
use rusqlite::ErrorCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Lines that wait for the thread, at most.
const QUEUE: usize = 8_192;
/// Between two commits: with what waits before the thread, the end of the process takes less than a second with it.
const COMMIT: Duration = Duration::from_millis(500);
/// Between two looks at the queue, once it was found empty: a thread that waits at it would be woken for each line.
const GATHER: Duration = Duration::from_millis(50);
/// Between two looks at age and size.
const PRUNE: Duration = Duration::from_secs(60);
/// Between two complaints about the same.
const COMPLAIN: Duration = Duration::from_secs(30);
/// How often room is made for one commit that finds the file full.
const ROUNDS: usize = 100;
/// The wall clock was set back by more than this, in minutes: what comes is of another time.
const SET_BACK: u64 = 5;

/// A line, and the application that it is of.
pub trait Entry: Send + 'static {
    fn application(&self) -> &ApplicationInfo;
    fn line(&self) -> &Line;
}

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Full,
    /// The thread is no more; [`Writer::finish`] says why.
    Ended,
}

/// The end that lines are offered to.
#[derive(Debug)]
pub struct Writer<E> {
    queue: SyncSender<E>,
    counts: Arc<Counts>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines that never came to the thread.
    lost: AtomicU64,
    /// Transactions that could not be written.
    given_up: AtomicU64,
}

impl<E: Entry> Writer<E> {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be written, or is not ours.
    pub fn start(settings: &config::History) -> Result<Self, HistoryError> {
        let file = File::open(&settings.file, settings.max_bytes, now_ns())?;
        let choice = Choice {
            slowest: settings.slowest_per_minute as usize,
            failed: settings.failed_per_minute as usize,
            values: settings.values,
        };
        let minutes = Minutes::new(Limits::default(), choice, file.first_id());
        let counts = Arc::new(Counts::default());
        let (queue, entries) = sync_channel(QUEUE);
        let work = Work {
            file,
            minutes,
            counts: Arc::clone(&counts),
            max_bytes: settings.max_bytes,
            max_minutes: (settings.max_days * 24.0 * 60.0) as u64,
            complained: None,
        };
        let thread = std::thread::Builder::new().name("history".to_owned());
        let thread = thread.spawn(move || work.run(&entries)).map_err(HistoryError::Thread)?;
        Ok(Self { queue, counts, thread })
    }

    /// Never waits.
    ///
    /// # Errors
    /// When the thread cannot take it.
    pub fn offer(&self, entry: E) -> Result<(), Refused> {
        self.queue.try_send(entry).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Ended,
        })
    }

    /// Has the file say how many lines of this run never came to it.
    pub fn say_lost(&self, lines: u64) {
        self.counts.lost.store(lines, Ordering::Relaxed);
    }

    /// How many transactions could not be written since the last time.
    #[must_use]
    pub fn take_given_up(&self) -> u64 {
        self.counts.given_up.swap(0, Ordering::Relaxed)
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// When the thread has died.
    pub fn finish(self) -> Result<(), HistoryError> {
        drop(self.queue);
        self.thread.join().map_err(|_panic| HistoryError::Died)
    }
}

/// What the thread owns.
struct Work {
    file: File,
    minutes: Minutes,
    counts: Arc<Counts>,
    max_bytes: u64,
    max_minutes: u64,
    complained: Option<Instant>,
}

impl Work {
    fn run<E: Entry>(mut self, entries: &Receiver<E>) {
        let mut due = Instant::now() + COMMIT;
        let mut look = Instant::now();
        loop {
            match entries.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(entry) => {
                    self.take(&entry);
                    let more = entries.try_iter().take(QUEUE).map(|entry| self.take(&entry)).count();
                    if more < QUEUE {
                        std::thread::sleep(GATHER.min(due.saturating_duration_since(Instant::now())));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit();
                    return;
                }
            }
            let now = Instant::now();
            if now >= due {
                self.commit();
                if now >= look {
                    self.prune();
                    look = now + PRUNE;
                }
                due = Instant::now() + COMMIT;
            }
        }
    }

    fn take<E: Entry>(&mut self, entry: &E) {
        match entry.line() {
            Line::Transaction(transaction) => self.minutes.transaction(entry.application(), transaction),
            Line::Stacks(stacks) => self.minutes.stacks(entry.application(), stacks),
            _ => {}
        }
    }

    fn commit(&mut self) {
        let now_ns = now_ns();
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let mut result = self.file.commit(&self.minutes, now_ns, lost);
        // Each round lets go of some of the oldest; after the last there is nothing but what is being written.
        for _ in 0..ROUNDS {
            if !is_full(&result) {
                break;
            }
            let room =
                make_room(&mut self.file.connection, now_ns / MINUTE_NS, self.max_bytes, self.file.run);
            result = room.and_then(|()| self.file.commit(&self.minutes, now_ns, lost));
        }
        match result {
            Ok(()) => {
                self.minutes.written();
                if self.complained.take().is_some() {
                    tracing::info!("the history is written again");
                }
                self.follow_clock(now_ns);
            }
            Err(error) => {
                self.counts.given_up.fetch_add(self.minutes.give_up(), Ordering::Relaxed);
                self.complain("the history cannot be written", &error);
            }
        }
    }

    /// After the clock was set back rows would otherwise be of the time before, which is still to come.
    fn follow_clock(&mut self, now_ns: u64) {
        let now = now_ns / MINUTE_NS;
        if self.minutes.newest().is_some_and(|newest| newest > now + SET_BACK) {
            match self.file.begin_run(now_ns) {
                Ok(first_id) => self.minutes.begin_anew(first_id),
                Err(error) => self.complain("the history cannot go on after the clock was set back", &error),
            }
        }
    }

    fn prune(&mut self) {
        let now = now_ns() / MINUTE_NS;
        let before = now.saturating_sub(self.max_minutes);
        let pruned = prune(&mut self.file.connection, before, now, self.max_bytes, self.file.run);
        if let Err(error) = pruned {
            self.complain("what is old cannot be taken out of the history", &error);
        }
    }

    fn complain(&mut self, what: &str, error: &rusqlite::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN) {
            tracing::error!("{what}: {error}");
            self.complained = Some(Instant::now());
        }
    }
}

fn is_full(result: &rusqlite::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::DiskFull))
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
