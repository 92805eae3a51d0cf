//! `pyapm attach --format json` as a user runs it: the built binary, its lines read as they come, ended by a signal.
//! A line that is not one of the contract's is an error, not skipped.

use crate::guard::Guard;
use crate::{place, wait};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use pyapm_model::error::ErrorGroup;
use pyapm_model::line::{Attached, Line, Summary, Transaction, Worker};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// A running attach.
#[derive(Debug)]
pub struct Pyapm {
    process: Guard,
    reader: Option<std::thread::JoinHandle<()>>,
    read: Arc<Mutex<Read>>,
    #[expect(dead_code, reason = "held for its drop: the folder with stderr goes with the process")]
    folder: TempDir,
}

#[derive(Debug, Default)]
struct Read {
    lines: Vec<Line>,
    /// As written, for searches in everything that was said.
    text: String,
    wrong: Option<String>,
}

/// Everything that an attach has said, from its first line to its last.
#[derive(Clone, Debug)]
pub struct Report {
    pub attached: Attached,
    pub transactions: Vec<Transaction>,
    pub workers: Vec<Worker>,
    pub errors: Vec<ErrorGroup>,
    pub summary: Summary,
    /// The lines as written.
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

impl Pyapm {
    /// Attaches and returns when the line `attached` has come.
    ///
    /// # Errors
    /// When it ends before, or says something else first.
    pub fn attach(pid: u32, arguments: &[&str]) -> Result<Self> {
        let mut attach = Self::start(pid, arguments)?;
        wait::until("pyapm to be attached", || {
            attach.check()?;
            Ok(attach.with_lines(|lines| matches!(lines.first(), Some(Line::Attached(_)))).then_some(()))
        })?;
        Ok(attach)
    }

    /// Starts the attach and waits for nothing.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn start(pid: u32, arguments: &[&str]) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-run-").tempdir().context("no temporary folder")?;
        let mut command = Command::new(place::binary()?);
        command.args(["attach", "--pid", &pid.to_string(), "--format", "json"]).args(arguments);
        let mut process = Guard::start(&mut command, &folder.path().join("stderr"), Some(Stdio::piped()))?;
        let stdout = process.take_stdout().context("no pipe from pyapm")?;
        let read = Arc::new(Mutex::new(Read::default()));
        let shared = Arc::clone(&read);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let mut read = shared.lock().unwrap_or_else(PoisonError::into_inner);
                read.take(line);
            }
        });
        Ok(Self { process, reader: Some(reader), read, folder })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Looks at the lines that have come so far.
    pub fn with_lines<T>(&self, look: impl FnOnce(&[Line]) -> T) -> T {
        look(&self.read.lock().unwrap_or_else(PoisonError::into_inner).lines)
    }

    /// Waits until the lines that have come satisfy the condition.
    ///
    /// # Errors
    /// When pyapm ends before.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&[Line]) -> bool) -> Result<()> {
        wait::until(what, || {
            if self.with_lines(&condition) {
                return Ok(Some(()));
            }
            self.check()?;
            Ok(None)
        })
    }

    /// Waits until what it has written to stderr satisfies the condition.
    ///
    /// # Errors
    /// When pyapm ends before.
    pub fn wait_for_log(&mut self, what: &str, condition: impl Fn(&str) -> bool) -> Result<()> {
        wait::until(what, || {
            if condition(&self.process.log()) {
                return Ok(Some(()));
            }
            self.check()?;
            Ok(None)
        })
    }

    /// Waits until at least so many transactions have been reported.
    ///
    /// # Errors
    /// When pyapm ends before.
    pub fn wait_for_transactions(&mut self, count: usize) -> Result<()> {
        self.wait_for(&format!("{count} transactions"), |lines| {
            lines.iter().filter(|line| matches!(line, Line::Transaction(_))).count() >= count
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Ctrl-C, then everything up to its last line.
    ///
    /// # Errors
    /// When it does not end, or its lines are not what the contract says.
    pub fn stop(self) -> Result<Report> {
        self.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// Waits for it to end by itself, or by a signal already sent.
    ///
    /// # Errors
    /// When it does not end, or its lines are not what the contract says.
    pub fn finish(mut self) -> Result<Report> {
        let status = self.process.wait()?;
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            bail!("the thread that read pyapm's lines panicked");
        }
        self.check_lines()?;
        let stderr = self.process.log();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let read = std::mem::take(&mut *read);
        report(read, stderr, status)
    }

    /// SIGKILL, and nothing of what it would have said.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait()?;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.check_lines()?;
        self.process.check_alive()
    }

    fn check_lines(&self) -> Result<()> {
        match &self.read.lock().unwrap_or_else(PoisonError::into_inner).wrong {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(()),
        }
    }
}

impl Read {
    fn take(&mut self, line: std::io::Result<String>) {
        let parsed =
            line.map_err(|error| format!("pyapm's stdout could not be read: {error}")).and_then(|text| {
                self.text.push_str(&text);
                self.text.push('\n');
                serde_json::from_str(&text)
                    .map_err(|error| format!("not a line of the contract ({error}): {text}"))
            });
        match parsed {
            Ok(line) => self.lines.push(line),
            Err(wrong) => {
                self.wrong.get_or_insert(wrong);
            }
        }
    }
}

/// Takes the lines apart; the first must be `attached`, the last `summary`, and neither may come twice.
fn report(read: Read, stderr: String, status: ExitStatus) -> Result<Report> {
    let count = read.lines.len();
    let (mut attached, mut summary) = (None, None);
    let (mut transactions, mut workers, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (number, line) in read.lines.into_iter().enumerate() {
        match line {
            Line::Attached(line) if number == 0 => attached = Some(line),
            Line::Summary(line) if number + 1 == count => summary = Some(line),
            Line::Transaction(line) => transactions.push(*line),
            Line::Worker(line) => workers.push(line),
            Line::Errors(line) => errors.push(*line),
            line => bail!("line {number} of {count} is out of place: {line:?}"),
        }
    }
    let attached = attached.with_context(|| format!("no line `attached`; pyapm wrote: {stderr}"))?;
    let summary = summary.with_context(|| format!("no line `summary`; pyapm wrote: {stderr}"))?;
    Ok(Report { attached, transactions, workers, errors, summary, stdout: read.text, stderr, status })
}

/// Runs `pyapm` with these arguments to its end.
///
/// # Errors
/// When the binary has not been built.
pub fn run(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(place::binary()?);
    command.args(arguments).stdin(Stdio::null()).output().context("could not start pyapm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn read(lines: &[&str]) -> Read {
        let mut read = Read::default();
        for line in lines {
            read.take(Ok((*line).to_owned()));
        }
        read
    }

    const ATTACHED: &str = r#"{"type":"attached","application":"shop","pids":[1],"python":null}"#;
    const SUMMARY: &str =
        r#"{"type":"summary","seen":0,"delivered":0,"dropped":{},"transactions":0,"incomplete":{}}"#;

    #[test]
    fn a_report_begins_and_ends_as_the_contract_says() {
        let ok = ExitStatus::from_raw(0);
        assert!(report(read(&[ATTACHED, SUMMARY]), String::new(), ok).is_ok());
        assert!(report(read(&[ATTACHED]), String::new(), ok).is_err());
        assert!(report(read(&[SUMMARY, ATTACHED]), String::new(), ok).is_err());
        assert!(report(read(&[ATTACHED, SUMMARY, SUMMARY]), String::new(), ok).is_err());
    }

    #[test]
    fn a_line_that_is_none_of_the_contract_is_remembered() {
        assert!(read(&[ATTACHED, "warning: something"]).wrong.is_some());
    }
}
