//! `drivers.py` under gunicorn with servers that are packages of Python themselves, a server of MongoDB's wire protocol that
//! keeps its documents in SQLite and a broker of Kafka's; and with PostgreSQL, whose drivers were built here, with the
//! distribution's libpq.

use crate::drivers::PEOPLE;
use crate::guard::Guard;
use crate::gunicorn::listening_at;
use crate::load::{Address, Connection, Request};
use crate::place::{self, Python};
use crate::servers::Server;
use crate::wait;
use anyhow::{Context as _, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use tempfile::TempDir;

/// How many ports are tried.
const PORTS: u32 = 5;

/// The running application and its servers.
#[derive(Debug)]
pub struct Stores {
    /// Dropped before the server.
    master: Guard,
    pub address: Address,
    #[expect(dead_code, reason = "held for its drop: the server goes with it")]
    mongodb: Guard,
    _others: [Server; 2],
    #[expect(dead_code, reason = "held for its drop: the folder with the logs goes with the servers")]
    folder: TempDir,
}

impl Stores {
    /// # Errors
    /// When a server or the application does not start.
    pub fn start() -> Result<Self> {
        let python = Python::with_queues()?;
        let folder =
            tempfile::Builder::new().prefix("pyapm-stores-").tempdir().context("no temporary folder")?;
        let (mongodb, port) = serve_mongodb(&python, &folder)?;
        let (kafka, postgresql) = (Server::kafka(&python)?, Server::postgresql()?);
        postgresql.psql(PEOPLE)?;
        let mut command = Command::new(python.program("gunicorn"));
        command
            .args(["drivers:application", "--bind", "127.0.0.1:0", "--workers", "1", "--no-control-socket"])
            .current_dir(place::workloads())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MONGODB_PORT", port.to_string())
            .env("KAFKA_PORT", kafka.port.to_string())
            .env("PG_PORT", postgresql.port.to_string())
            .env("PSYCOPG_IMPL", "c");
        let mut master = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let address = wait::until("the application to listen", || {
            master.check_alive()?;
            Ok(listening_at(&master.log()))
        })?;
        let stores = Self { master, address, mongodb, _others: [kafka, postgresql], folder };
        let answer = Connection::open(&stores.address)?.ask(&Request::get("/nothing").close())?;
        if answer.status != 501 {
            bail!("the application does not serve: status {}: {}", answer.status, stores.master.log());
        }
        Ok(stores)
    }

    /// Process id of the master.
    #[must_use]
    pub fn master(&self) -> u32 {
        self.master.pid()
    }

    /// Asks for one path; the body of the answer.
    ///
    /// # Errors
    /// When it is not answered by 200.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let answer = Connection::open(&self.address)?.ask(&Request::get(path).close())?;
        if answer.status != 200 {
            bail!("`{path}` was answered by {}: {}", answer.status, self.master.log());
        }
        Ok(answer.body)
    }
}

fn serve_mongodb(python: &Python, folder: &TempDir) -> Result<(Guard, u16)> {
    for _ in 0..PORTS {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(python.program("nx-27017"));
        command.args(["--db", "memory", "--host", "127.0.0.1", "--port", &port.to_string()]);
        for (option, file) in [("--log-file", "mongodb.log"), ("--pid-file", "mongodb.pid")] {
            command.arg(option).arg(folder.path().join(file));
        }
        let mut guard = Guard::start(&mut command, &folder.path().join("mongodb"), None)?;
        let answers = wait::until("the server of documents to listen", || {
            guard.check_alive()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        });
        match answers {
            Ok(_) => return Ok((guard, port)),
            Err(_) if guard.log().contains("in use") => {}
            Err(error) => return Err(error),
        }
    }
    bail!("{PORTS} ports in a row were taken between finding them free and using them")
}
