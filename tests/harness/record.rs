//! `pyapm record` as a user runs it, and its folded stacks as data.

use crate::guard::Guard;
use crate::place;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use tempfile::TempDir;

/// A running recording.
#[derive(Debug)]
pub struct Recording {
    process: Guard,
    file: PathBuf,
    #[expect(dead_code, reason = "held for its drop: the folder with the file goes with the recording")]
    folder: TempDir,
}

/// What a recording has left.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub status: ExitStatus,
    pub file: Vec<u8>,
    /// What it wrote to stderr, and to stdout with what a started program wrote.
    pub said: String,
}

impl Recording {
    /// Starts one that writes to a file of this name; `arguments` without `-o`.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn start(name: &str, arguments: &[&str], program: &[&str]) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-record-").tempdir().context("no temporary folder")?;
        let file = folder.path().join(name);
        let mut command = Command::new(place::binary()?);
        command.arg("record").args(arguments).arg("-o").arg(&file);
        if !program.is_empty() {
            command.arg("--").args(program);
        }
        let process = Guard::start(&mut command, &folder.path().join("said"), None)?;
        Ok(Self { process, file, folder })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it, and a program that it started, have written so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.process.log()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// An error when it has ended.
    ///
    /// # Errors
    /// With what it wrote.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end, or has written no file.
    pub fn wait(mut self) -> Result<Recorded> {
        let status = self.process.wait()?;
        let said = self.process.log();
        let file = std::fs::read(&self.file).with_context(|| format!("no file; it wrote: {said}"))?;
        Ok(Recorded { status, file, said })
    }
}

impl Recorded {
    /// Lines of folded stacks: frames, outermost first, and their number.
    ///
    /// # Errors
    /// When a line is none.
    pub fn folded(&self) -> Result<Vec<(Vec<String>, u64)>> {
        let text = std::str::from_utf8(&self.file).context("not text")?;
        text.lines()
            .map(|line| {
                let (stack, number) =
                    line.rsplit_once(' ').with_context(|| format!("no number: `{line}`"))?;
                let number = number.parse().with_context(|| format!("no number: `{line}`"))?;
                Ok((stack.split(';').map(str::to_owned).collect(), number))
            })
            .collect()
    }

    /// The number behind a reason on one of the closing lines; 0 when it is not there.
    #[must_use]
    pub fn reason(&self, name: &str) -> u64 {
        let mut words = self.said.split([' ', '(', ')', ',', '\n', ':']).filter(|word| !word.is_empty());
        words.find(|word| *word == name).and_then(|_| words.next()?.parse().ok()).unwrap_or(0)
    }
}

/// A script that runs by itself, and says `ready`.
#[derive(Debug)]
pub struct Script {
    process: Guard,
    #[expect(dead_code, reason = "held for its drop: the folder with the log goes with the script")]
    folder: TempDir,
}

impl Script {
    /// A script of `tests/workloads`; returns when it is ready.
    ///
    /// # Errors
    /// When it ends before.
    pub fn start(python: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(place::workloads().join(name)).args(arguments);
        Self::run(command)
    }

    /// The same, as an application of this name.
    ///
    /// # Errors
    /// When it ends before it is ready.
    pub fn start_as(application: &str, python: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(place::workloads().join(name)).args(arguments).env("OTEL_SERVICE_NAME", application);
        Self::run(command)
    }

    fn run(mut command: Command) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-script-").tempdir().context("no temporary folder")?;
        let mut process = Guard::start(&mut command, &folder.path().join("log"), None)?;
        crate::wait::until("the script to be ready", || {
            if process.log().lines().any(|line| line == "ready") {
                return Ok(Some(()));
            }
            process.check_alive()?;
            Ok(None)
        })?;
        Ok(Self { process, folder })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// An error when it has ended.
    ///
    /// # Errors
    /// With what it wrote.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// Waits for its end; what it wrote.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(mut self) -> Result<String> {
        self.process.wait()?;
        Ok(self.process.log())
    }
}
