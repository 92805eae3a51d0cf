//! A workload that is one script: started, awaited by its line `ready`, ended with its guard.

use crate::guard::Guard;
use crate::load::Address;
use crate::place::{self, Python};
use crate::wait;
use anyhow::{Context, Result};
use std::process::Command;
use tempfile::TempDir;

/// A running script of `tests/workloads`.
#[derive(Debug)]
pub struct Workload {
    process: Guard,
    pub address: Address,
    #[expect(
        dead_code,
        reason = "held for its drop: the folder with the socket and the log goes with the process"
    )]
    folder: TempDir,
}

impl Workload {
    /// `raw_http11.py` over TCP.
    ///
    /// # Errors
    /// When it does not start.
    pub fn http_over_tcp(python: &Python) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-raw-").tempdir().context("no temporary folder")?;
        Self::http(python, "127.0.0.1:0", folder)
    }

    /// `raw_http11.py` over a unix socket.
    ///
    /// # Errors
    /// When it does not start.
    pub fn http_over_unix(python: &Python) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-raw-").tempdir().context("no temporary folder")?;
        let address = format!("unix:{}", folder.path().join("http.sock").display());
        Self::http(python, &address, folder)
    }

    fn http(python: &Python, address: &str, folder: TempDir) -> Result<Self> {
        let mut command = Command::new(python.program("python"));
        command.arg(place::workloads().join("raw_http11.py")).arg(address);
        let mut process = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let address = wait::until("the workload to be ready", || {
            process.check_alive()?;
            let log = process.log();
            let Some(line) = log.lines().find_map(|line| line.strip_prefix("ready ")) else {
                return Ok(None);
            };
            Address::parse(line).map(Some)
        })?;
        Ok(Self { process, address, folder })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
