//! One of the small applications of `workloads/frameworks`, served by the server that goes with it, one worker.

use crate::guard::Guard;
use crate::gunicorn::listening_at;
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

/// Other vendors' agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// The interface of one is imported, and none runs.
    None,
    OpenTelemetry,
    Elastic,
    Datadog,
    NewRelic,
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
        Self::serve(&mut command)
    }

    /// Starts one of the applications that ask each other: `next` is the one that it asks, by its address.
    ///
    /// # Errors
    /// When it does not start.
    pub fn chained(python: &Python, name: &str, next: Option<&Self>) -> Result<Self> {
        let mut command = gunicorn(python, "chain_app:application");
        command.args(["--workers", "2", "--threads", "4"]).env("OTEL_SERVICE_NAME", name);
        if let Some(Address::Tcp(next)) = next.map(|next| &next.address) {
            command.env("NEXT", format!("http://{next}"));
        }
        Self::serve(&mut command)
    }

    /// Starts `blocking_app.py` under uvicorn.
    ///
    /// # Errors
    /// When it does not start.
    pub fn blocking(python: &Python) -> Result<Self> {
        let mut command = Command::new(python.program("python"));
        command.args(["-m", "uvicorn", "blocking_app:application", "--port", "0", "--loop", "asyncio"]);
        Self::serve(&mut command)
    }

    /// Starts `waiting_app.py` under uvicorn, with one of the loops that it has, and the ports of PostgreSQL and Redis.
    ///
    /// # Errors
    /// When it does not start.
    pub fn waiting(python: &Python, event_loop: &str, postgresql: u16, redis: u16) -> Result<Self> {
        let mut command = Command::new(python.program("python"));
        command.args(["-m", "uvicorn", "waiting_app:application", "--port", "0", "--loop", event_loop]);
        command.env("PG_PORT", postgresql.to_string()).env("REDIS_PORT", redis.to_string());
        Self::serve(&mut command)
    }

    /// Starts `agents_app.py` with another vendor's agent inside.
    ///
    /// # Errors
    /// When it does not start.
    pub fn with_agent(agent: Agent) -> Result<Self> {
        let python = Python::with_agents()?;
        let mut command = match agent {
            Agent::None | Agent::Elastic => Command::new(python.program("gunicorn")),
            Agent::OpenTelemetry => Command::new(python.program("opentelemetry-instrument")),
            Agent::Datadog => Command::new(python.program("ddtrace-run")),
            Agent::NewRelic => Command::new(python.program("newrelic-admin")),
        };
        match agent {
            Agent::OpenTelemetry | Agent::Datadog => command.arg(python.program("gunicorn")),
            Agent::NewRelic => command.arg("run-program").arg(python.program("gunicorn")),
            Agent::None | Agent::Elastic => &mut command,
        };
        command
            .args([
                "agents_app:application",
                "--log-level=info",
                "--bind",
                "127.0.0.1:0",
                "--no-control-socket",
            ])
            // None of them shall talk to anybody.
            .envs([("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")])
            .env("OTEL_LOGS_EXPORTER", "none")
            .envs([("DD_INSTRUMENTATION_TELEMETRY_ENABLED", "false"), ("DD_CRASHTRACKING_ENABLED", "false")])
            .envs([
                ("DD_REMOTE_CONFIGURATION_ENABLED", "false"),
                ("DD_TRACE_AGENT_URL", "http://127.0.0.1:1"),
            ])
            .envs([("NEW_RELIC_DEVELOPER_MODE", "true"), ("NEW_RELIC_APP_NAME", "inside")]);
        if agent == Agent::Elastic {
            command.env("ELASTIC", "1");
        }
        Self::serve(&mut command)
    }

    /// Starts what listens on a port of its choice and says which.
    fn serve(command: &mut Command) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-framework-").tempdir().context("no temporary folder")?;
        command
            .current_dir(place::workloads().join("frameworks"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FOLDER", folder.path());
        let mut server = Guard::start(command, &folder.path().join("log"), None)?;
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
