//! `pyapm run` as systemd runs it: with a configuration of its own, awaited by its notice that it is ready, looked at
//! through its socket.

use crate::guard::Guard;
use crate::{place, wait};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use pyapm_model::service::{ApplicationInfo, Health, Request, Response, State, Watch};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A running service.
#[derive(Debug)]
pub struct Service {
    process: Guard,
    notices: UnixDatagram,
    /// Everything that the service manager has been told so far.
    told: std::cell::RefCell<String>,
    folder: TempDir,
}

impl Service {
    /// Starts it and returns when it says that it is ready. `config` is appended to what places its files.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(config: &str) -> Result<Self> {
        Self::start_as(config, &[])
    }

    /// The same through another program, which is given pyapm and its arguments: `setpriv`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_as(config: &str, before: &[&str]) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-service-").tempdir().context("no temporary folder")?;
        let notices = UnixDatagram::bind(folder.path().join("notify")).context("no socket for notices")?;
        notices.set_read_timeout(Some(Duration::from_millis(10)))?;
        let binary = place::binary()?;
        let mut words = before.iter().map(PathBuf::from).chain([binary]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).arg("run").arg("--config").arg(folder.path().join("pyapm.toml"));
        command.env("NOTIFY_SOCKET", folder.path().join("notify"));
        let path = folder.path().to_path_buf();
        write_config(&path, config)?;
        let process = Guard::start(&mut command, &path.join("log"), None)?;
        let mut service = Self { process, notices, told: std::cell::RefCell::default(), folder };
        wait::until("the service to be ready", || {
            service.process.check_alive()?;
            Ok(service.told().contains("READY=1").then_some(()))
        })?;
        Ok(service)
    }

    /// Writes another configuration; it is in force after a SIGHUP.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, config: &str) -> Result<()> {
        write_config(self.folder.path(), config)
    }

    /// What the service manager has been told so far, one a line.
    ///
    /// # Panics
    /// Never: nobody else borrows it.
    #[must_use]
    pub fn told(&self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(count) = self.notices.recv(&mut buffer) {
            let mut told = self.told.borrow_mut();
            told.push_str(&String::from_utf8_lossy(&buffer[..count]));
            told.push('\n');
        }
        self.told.borrow().clone()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The folder of its files: `pyapm.sock`, `off`, `pyapm.toml`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("pyapm.sock")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks, and gives the first answer.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(&self, request: &Request) -> Result<Response> {
        let mut stream = UnixStream::connect(self.socket()).context("cannot reach the service")?;
        stream.set_read_timeout(Some(wait::PATIENCE))?;
        writeln!(stream, "{}", serde_json::to_string(request)?)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }

    /// What it watches, and has watched.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn applications(&self) -> Result<Vec<ApplicationInfo>> {
        match self.ask(&Request::Applications)? {
            Response::Applications { applications } => Ok(applications),
            other => bail!("another answer: {other:?}"),
        }
    }

    /// How it fares.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn health(&self) -> Result<Health> {
        match self.ask(&Request::Health)? {
            Response::Health(health) => Ok(*health),
            other => bail!("another answer: {other:?}"),
        }
    }

    /// An application by its name, at this moment.
    ///
    /// # Errors
    /// When it does not answer, or watches no such application.
    pub fn state(&self, name: &str) -> Result<Arc<State>> {
        let watch = Watch { name: Some(name.to_owned()), ..Watch::default() };
        match self.ask(&Request::Watch(watch))? {
            Response::Snapshot(state) => Ok(state),
            other => bail!("another answer: {other:?}"),
        }
    }

    /// Waits until the applications are as they should be.
    ///
    /// # Errors
    /// When they do not become so.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&[ApplicationInfo]) -> bool) -> Result<()> {
        wait::until(what, || {
            self.process.check_alive()?;
            Ok(condition(&self.applications()?).then_some(()))
        })
        .with_context(|| format!("it watches {:?} and logged:\n{}", self.applications(), self.log()))
    }

    /// Waits until it has logged these words.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_log(&mut self, words: &str) -> Result<()> {
        wait::until(&format!("`{words}` in the log"), || {
            self.process.check_alive()?;
            Ok(self.log().contains(words).then_some(()))
        })
    }

    /// SIGTERM, and the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<(ExitStatus, String)> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait()?;
        Ok((status, self.process.log()))
    }
}

fn write_config(folder: &Path, config: &str) -> Result<()> {
    let place = folder.display();
    let mut text = format!("[service]\nsocket = '{place}/pyapm.sock'\nkill_switch = '{place}/off'\n{config}");
    // Not on this machine's own, which other services may be writing.
    if !config.contains("[history]") {
        text.push_str("\n[history]\nenabled = false\n");
    }
    std::fs::write(folder.join("pyapm.toml"), text).context("cannot write the configuration")
}
