//! A MariaDB of one's own: data, socket and log in a temporary folder, on a free port of loopback, gone with its
//! guard. What statements it has seen is the truth that spans are compared with.

use crate::certificate::Certificate;
use crate::guard::Guard;
use crate::{place, wait};
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How many ports are tried.
const PORTS: u32 = 5;

/// A running server with the database and user `shop`, without a password.
#[derive(Debug)]
pub struct MariaDb {
    /// Dropped before the folder it runs in.
    #[expect(dead_code, reason = "held for its drop: the server ends with it")]
    server: Guard,
    port: u16,
    folder: TempDir,
}

impl MariaDb {
    /// Makes the data folder and starts the server.
    ///
    /// # Errors
    /// When MariaDB is not installed, or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, for clients that ask for TLS.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_tls(certificate: &Certificate) -> Result<Self> {
        Self::start_with(&[
            format!("--ssl-cert={}", certificate.certificate.display()),
            format!("--ssl-key={}", certificate.key.display()),
        ])
    }

    fn start_with(arguments: &[String]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pyapm-db-").tempdir().context("no temporary folder")?;
        let data = folder.path().join("data");
        let made = Command::new(place::system_program("mariadb-install-db")?)
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            // A server that starts removes what it takes for its own leftovers, also those of a neighbour.
            .arg(format!("--tmpdir={}", folder.path().display()))
            .args(user())
            .stdin(Stdio::null())
            .output()
            .context("could not start `mariadb-install-db`")?;
        if !made.status.success() {
            bail!("`mariadb-install-db` failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let database = Self::serve(folder, arguments)?;
        database.query(
            "CREATE DATABASE shop; CREATE USER shop@'127.0.0.1'; CREATE USER shop@localhost; \
             GRANT ALL ON shop.* TO shop@'127.0.0.1'; GRANT ALL ON shop.* TO shop@localhost",
        )?;
        Ok(database)
    }

    /// Starts the server on a free port, and on another when somebody was faster.
    fn serve(folder: TempDir, arguments: &[String]) -> Result<Self> {
        let log = folder.path().join("log");
        for _ in 0..PORTS {
            let port = free_port()?;
            let mut command = Command::new(place::system_program("mariadbd")?);
            command
                .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"])
                .args(["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"])
                .args(["--innodb-flush-log-at-trx-commit=0", "--performance-schema=off"])
                .arg(format!("--port={port}"))
                .arg(format!("--datadir={}", folder.path().join("data").display()))
                .arg(format!("--tmpdir={}", folder.path().display()))
                .arg(format!("--socket={}", folder.path().join("sock").display()))
                .arg(format!("--pid-file={}", folder.path().join("pid").display()))
                .args(arguments)
                .args(user());
            let mut server = Guard::start(&mut command, &log, None)?;
            let answer = wait::until("MariaDB to answer", || {
                server.check_alive()?;
                Ok(ask(&folder.path().join("sock"), "SELECT 1").ok())
            });
            match answer {
                Ok(_) => return Ok(Self { server, port, folder }),
                Err(_) if server.log().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("{PORTS} ports in a row were taken between finding them free and using them")
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as the server's root, and returns the rows as lines with tabs.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn query(&self, sql: &str) -> Result<String> {
        ask(&self.folder.path().join("sock"), sql)
    }

    /// From now on the server writes down each statement that the shop sends.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn begin_log(&self) -> Result<()> {
        self.query(
            "SET GLOBAL general_log = OFF; SET GLOBAL log_output = 'TABLE'; \
             TRUNCATE mysql.general_log; SET GLOBAL general_log = ON",
        )?;
        Ok(())
    }

    /// Ends the log, and returns the shop's statements in the order in which the server received them.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn end_log(&self) -> Result<Vec<String>> {
        self.query("SET GLOBAL general_log = OFF")?;
        let rows = self.query(
            "SELECT REPLACE(CONVERT(argument USING utf8mb4), '\\n', ' ') FROM mysql.general_log \
             WHERE command_type = 'Query' AND user_host LIKE 'shop%' ORDER BY event_time",
        )?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// The folder of this server, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn ask(socket: &Path, sql: &str) -> Result<String> {
    let output = Command::new(place::system_program("mariadb")?)
        .args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--user=root"])
        .arg(format!("--socket={}", socket.display()))
        .args(["--execute", sql])
        .stdin(Stdio::null())
        .output()
        .context("could not start `mariadb`")?;
    if !output.status.success() {
        bail!("`{sql}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// MariaDB refuses to be root unless it is told so by name.
fn user() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener.local_addr().context("no free port on loopback")?.port())
}
