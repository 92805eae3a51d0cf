//! Diagnostics to stderr. A warning is a surprise that lost nothing; an error lost data. Nothing is logged per
//! event.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, Format, Full, format};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Overrides the level, in the syntax of `tracing_subscriber::EnvFilter`: `pyapm=debug`.
pub const LOG_VARIABLE: &str = "PYAPM_LOG";

/// Starts logging: warnings, with `-v` progress, with `-vv` details, with `-vvv` everything. `color` is
/// whether stderr takes colours. A second start changes nothing: the first subscriber stays.
pub fn start_logging(verbosity: u8, color: bool) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level(verbosity)));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(color)
        .with_target(verbosity > 1);
    let _already_started = if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        let format = Journal(format().without_time().with_level(false).with_target(verbosity > 1));
        tracing::subscriber::set_global_default(lines.event_format(format).finish())
    } else {
        tracing::subscriber::set_global_default(lines.finish())
    };
}

/// Whether stderr is the journal: systemd says by this variable which file the journal's is, as `device:inode`
/// (`systemd.exec(5)`).
fn is_journal(stream: Option<&str>) -> bool {
    let Ok(stderr) = nix::sys::stat::fstat(std::io::stderr()) else { return false };
    stream == Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Lines as the journal takes them: it has the time itself, and the priority in front (`sd-daemon(3)`).
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Log lines held back while the view owns the terminal; the oldest go first when they are too many.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);
const MAX_HELD: usize = 64 * 1024;

/// While this lives, log lines wait; they are written to stderr when it is dropped.
#[derive(Debug)]
pub struct Held(());

/// Holds log lines back. Where stderr is no terminal (a file, the journal) nothing needs to wait.
#[must_use]
pub fn hold_log() -> Held {
    if std::io::stderr().is_terminal() {
        *held() = Some(Vec::new());
    }
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lines) = held().take() {
            // With stderr gone there is nobody left to tell.
            let _nobody_reads = std::io::stderr().lock().write_all(&lines);
        }
    }
}

/// A thread that panicked while it held the lock left whole lines behind: go on with them.
fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = held();
        let Some(lines) = held.as_mut() else { return io::stderr().lock().write(bytes) };
        lines.extend_from_slice(bytes);
        if lines.len() > MAX_HELD {
            let cut = lines.len() - MAX_HELD;
            lines.drain(..cut);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

fn level(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "warn",
        1 => "warn,pyapm=info",
        2 => "warn,pyapm=debug",
        _ => "info,pyapm=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_from_other_files() {
        let stderr = nix::sys::stat::fstat(std::io::stderr()).unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))));
        assert!(!is_journal(Some("8:1")) && !is_journal(None));
    }

    #[test]
    fn levels_are_valid_filters() {
        for verbosity in 0..5 {
            assert!(EnvFilter::try_new(level(verbosity)).is_ok());
        }
        start_logging(0, false);
        start_logging(3, true);
    }
}
