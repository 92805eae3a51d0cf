//! `drivers.py` under gunicorn, or `async_drivers.py` under uvicorn, with every server that it asks: one worker, whose
//! connections are made before it serves, unless they are to be made late.

use crate::certificate::Certificate;
use crate::guard::Guard;
use crate::gunicorn::listening_at;
use crate::http2::Http2Server;
use crate::load::{Address, Connection, Request};
use crate::mariadb::MariaDb;
use crate::place::{self, Python};
use crate::servers::Server;
use crate::wait;
use crate::workload::Workload;
use anyhow::{Context, Result, bail};
use std::process::Command;
use tempfile::TempDir;

/// What databases are asked for.
pub const PEOPLE: &str = "CREATE TABLE people (id INT PRIMARY KEY, name TEXT);
    INSERT INTO people VALUES (1,'a'),(2,'a'),(3,'a'),(4,'a'),(5,'a'),(6,'a'),(7,'a'),(8,'a'),(9,'a')";

/// Which application asks, and when its worker imports drivers and connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Each request in turn, on connections that are there when it serves.
    Sync,
    /// The same, with MySQL's own library in C, which brings an OpenSSL of its own, loaded before Python's `ssl` has found
    /// another: it cannot be loaded after it.
    SyncWithC,
    /// The same, but nothing is imported before `/open/NAME` is asked for.
    SyncLate,
    /// On an event loop.
    Async,
}

/// The running application.
#[derive(Debug)]
pub struct Drivers {
    /// Dropped before the servers.
    master: Guard,
    pub address: Address,
    pub mysql: MariaDb,
    pub postgresql: Server,
    pub redis: Server,
    pub redis_tls: Server,
    pub memcached: Server,
    pub memcached_tls: Server,
    pub upstream: Workload,
    /// Asks `upstream`.
    pub http2: Http2Server,
    #[expect(dead_code, reason = "held for its drop: the folder with the log goes with the server")]
    folder: TempDir,
}

impl Drivers {
    /// Starts the servers, fills the databases, starts gunicorn and waits until it serves.
    ///
    /// # Errors
    /// When any of these does not start.
    pub fn start(python: &Python) -> Result<Self> {
        Self::start_as(python, Asks::Sync)
    }

    /// As [`Self::start`], for the application that asks in this way.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_as(python: &Python, asks: Asks) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-drivers-").tempdir().context("no temporary folder")?;
        let certificate = Certificate::make(folder.path())?;
        let (mysql, postgresql) = (MariaDb::start_with_tls(&certificate)?, Server::postgresql()?);
        let (redis, memcached) = (Server::redis()?, Server::memcached()?);
        let redis_tls = Server::redis_with_tls(&certificate)?;
        let memcached_tls = Server::memcached_with_tls(&certificate)?;
        let upstream = Workload::http_over_tcp(python)?;
        mysql.query(&format!("USE shop; {PEOPLE}"))?;
        postgresql.psql(PEOPLE)?;
        let Address::Tcp(http) = &upstream.address else { bail!("the upstream is not on TCP") };
        let http2 = Http2Server::start(http.port())?;
        let mut command;
        if asks == Asks::Async {
            command = Command::new(python.program("python"));
            command.args(["-m", "uvicorn", "async_drivers:application", "--port", "0", "--loop", "asyncio"]);
        } else {
            if asks == Asks::SyncWithC {
                command = Command::new(python.program("python"));
                command.args(["-c", "import _mysql_connector, gunicorn.app.wsgiapp as app; app.run()"]);
            } else {
                command = Command::new(python.program("gunicorn"));
            }
            command.args(["drivers:application", "--bind", "127.0.0.1:0", "--workers", "1"]);
            command.arg("--no-control-socket");
        }
        if asks == Asks::SyncLate {
            command.env("LATE", "1");
        }
        command
            .current_dir(place::workloads())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MY_PORT", mysql.port().to_string())
            .env("PG_PORT", postgresql.port.to_string())
            .env("REDIS_PORT", redis.port.to_string())
            .env("REDIS_TLS_PORT", redis_tls.port.to_string())
            .env("MEMCACHED_PORT", memcached.port.to_string())
            .env("MEMCACHED_TLS_PORT", memcached_tls.port.to_string())
            .env("HTTP_PORT", http.port().to_string())
            .env("HTTP2_PORT", http2.port.to_string())
            .env("HTTP2_TLS_PORT", http2.tls_port.to_string());
        let mut master = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let address = wait::until("the application to listen", || {
            master.check_alive()?;
            Ok(listening_at(&master.log()))
        })?;
        let drivers = Self {
            master,
            address,
            mysql,
            postgresql,
            redis,
            redis_tls,
            memcached,
            memcached_tls,
            upstream,
            http2,
            folder,
        };
        let answer = Connection::open(&drivers.address)?.ask(&Request::get("/nothing").close())?;
        if answer.status != 501 {
            bail!("the application does not serve: status {}", answer.status);
        }
        Ok(drivers)
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

    /// Asks for these paths, one after the other.
    ///
    /// # Errors
    /// When any is not answered by 200.
    pub fn ask(&self, paths: &[&str]) -> Result<()> {
        paths.iter().try_for_each(|path| self.get(path).map(|_body| ()))
    }
}
