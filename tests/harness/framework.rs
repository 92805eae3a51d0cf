//! One of the small applications of `workloads/frameworks`, served by the server that goes with it, one worker.

use crate::guard::Guard;
use crate::load::{Address, Connection, Request};
use crate::place::{self, Python};
use crate::wait;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    Django,
    Flask,
    FastApi,
}

/// The running application.
#[derive(Debug)]
pub struct Served {
    server: Guard,
    pub address: Address,
    folder: TempDir,
}

impl Served {
    /// Starts the server and waits until it has answered.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(framework: Framework, python: &Python) -> Result<Self> {
        Self::start_made(framework, python, false)
    }

    /// The same, with an application that a factory makes when the server asks for it, and that nobody else holds: not for
    /// Django, whose routes are a module's.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_by_factory(framework: Framework, python: &Python) -> Result<Self> {
        Self::start_made(framework, python, true)
    }

    fn start_made(framework: Framework, python: &Python, factory: bool) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-framework-").tempdir().context("no temporary folder")?;
        let mut command = match framework {
            Framework::Django => gunicorn(python, "django_app:application"),
            Framework::Flask if factory => gunicorn(python, "factories:flask()"),
            Framework::Flask => gunicorn(python, "flask_app:application"),
            Framework::FastApi => {
                let mut command = Command::new(python.program("python"));
                command.args([
                    "-m",
                    "uvicorn",
                    if factory { "factories:fastapi" } else { "fastapi_app:application" },
                    "--port",
                    "0",
                    "--loop",
                    "asyncio",
                ]);
                if factory {
                    command.arg("--factory");
                }
                command
            }
        };
        command
            .current_dir(place::workloads().join("frameworks"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FOLDER", folder.path());
        let mut server = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let address = wait::until("the server to listen", || {
            server.check_alive()?;
            Ok(listening_at(&server.log()))
        })?;
        let served = Self { server, address, folder };
        let answer = served.get("/")?;
        anyhow::ensure!(answer == 200, "the application answers with {answer}: {}", served.server.log());
        Ok(served)
    }

    /// Process id of the server's first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Asks for a path on a connection of its own; the status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<u16> {
        Ok(Connection::open(&self.address)?.ask(&Request::get(path).close())?.status)
    }

    /// Folder in which the application puts things down.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the server has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }
}

fn gunicorn(python: &Python, application: &str) -> Command {
    let mut command = Command::new(python.program("gunicorn"));
    command.args([application, "--log-level=info", "--bind", "127.0.0.1:0", "--no-control-socket"]);
    command
}

/// `Listening at: http://127.0.0.1:34567 (4242)`, `Uvicorn running on http://127.0.0.1:34567 (Press ...`
fn listening_at(log: &str) -> Option<Address> {
    let rest = log.split("http://").nth(1)?;
    rest.split_whitespace().next()?.parse().ok().map(Address::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_log() {
        let expected = Some(Address::Tcp("127.0.0.1:34567".parse().unwrap()));
        assert_eq!(listening_at("[INFO] Listening at: http://127.0.0.1:34567 (4242)\n"), expected);
        assert_eq!(listening_at("INFO:     Uvicorn running on http://127.0.0.1:34567 (Press"), expected);
        assert_eq!(listening_at("[INFO] Starting"), None);
    }
}
