//! `queue_web.py` under gunicorn, which sends tasks, and `queue_tasks.py` under Celery, which does them.

use crate::guard::Guard;
use crate::load::{Address, Connection, Request};
use crate::place::{self, Python};
use crate::servers::Server;
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Both of them, and the Redis that holds results and keys.
#[derive(Debug)]
pub struct Queues {
    /// Dropped before the server.
    worker: Guard,
    web: Guard,
    pub address: Address,
    pub redis: Server,
    folder: TempDir,
}

impl Queues {
    /// Starts both and waits until they serve. `broker` is an address; Redis itself where there is none. Tasks go by `queue`.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(broker: Option<&str>, queue: &str, arguments: &[&str]) -> Result<Self> {
        let python = Python::with_queues()?;
        let redis = Server::redis()?;
        let folder =
            tempfile::Builder::new().prefix("pyapm-queues-").tempdir().context("no temporary folder")?;
        let on_redis = |database: u32| format!("redis://127.0.0.1:{}/{database}", redis.port);
        let broker = broker.map_or_else(|| on_redis(0), str::to_owned);
        let name = name_of(folder.path());
        let start = |program: &str, arguments: &[&str], log: &str| {
            let mut command = Command::new(python.program(program));
            command
                .args(arguments)
                .current_dir(place::workloads().join("queues"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("BROKER", &broker)
                .env("BACKEND", on_redis(1))
                .env("QUEUE", queue)
                .env("OTEL_SERVICE_NAME", format!("{name}-{log}"))
                .env("REDIS_PORT", redis.port.to_string());
            Guard::start(&mut command, &folder.path().join(log), None)
        };
        let node = format!("{name}@%h");
        let mut words = vec!["-A", "queue_tasks", "worker", "--loglevel=INFO", "-n", &node];
        words.extend(arguments);
        let mut worker = start("celery", &words, "worker")?;
        let web =
            ["queue_web:app", "-n", &name, "--bind", "127.0.0.1:0", "--workers", "2", "--no-control-socket"];
        let mut web = start("gunicorn", &web, "web")?;
        let address = wait::until("gunicorn to listen", || {
            web.check_alive()?;
            Ok(crate::gunicorn::listening_at(&web.log()))
        })?;
        wait::until("Celery to be ready", || {
            worker.check_alive()?;
            Ok(worker.log().contains(" ready.").then_some(()))
        })?;
        let queues = Self { worker, web, address, redis, folder };
        let answer = queues.get("/ready")?;
        ensure!(answer == "ready", "the application answers `{answer}`: {}", queues.web.log());
        Ok(queues)
    }

    /// Process id of the worker's first process.
    #[must_use]
    pub fn worker(&self) -> u32 {
        self.worker.pid()
    }

    /// The same of gunicorn.
    #[must_use]
    pub fn web(&self) -> u32 {
        self.web.pid()
    }

    /// In the command lines of both, and of nobody else. Their names as applications are this one with `-worker` and `-web`.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.folder.path())
    }

    /// What the worker has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.worker.log()
    }

    /// What the application answers to a path.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let answer = Connection::open(&self.address)?.ask(&Request::get(path).close())?;
        ensure!(answer.status == 200, "`{path}` was answered by {}: {}", answer.status, self.web.log());
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
