//! A MariaDB of one's own: data, socket and log in a temporary folder, on a free port of loopback, gone with its
//! guard. What statements it has seen is the truth that spans are compared with.

use crate::guard::Guard;
use crate::{place, wait};
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A running server with the database and user `shop`, without a password.
#[derive(Debug)]
pub struct MariaDb {
    /// Dropped before the folder it runs in.
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
        let folder = tempfile::Builder::new().prefix("pyapm-db-").tempdir().context("no temporary folder")?;
        let data = folder.path().join("data");
        let made = Command::new(place::system_program("mariadb-install-db")?)
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            .args(user())
            .stdin(Stdio::null())
            .output()
            .context("could not start `mariadb-install-db`")?;
        if !made.status.success() {
            bail!("`mariadb-install-db` failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let port = free_port()?;
        let mut command = Command::new(place::system_program("mariadbd")?);
        command
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"])
            .args(["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"])
            .args(["--innodb-flush-log-at-trx-commit=0", "--performance-schema=off"])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.path().join("sock").display()))
            .arg(format!("--pid-file={}", folder.path().join("pid").display()))
            .args(user());
        let server = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let mut database = Self { server, port, folder };
        wait::until("MariaDB to answer", || {
            database.server.check_alive()?;
            Ok(database.query("SELECT 1").ok())
        })?;
        database.query(
            "CREATE DATABASE shop; CREATE USER shop@'127.0.0.1'; CREATE USER shop@localhost; \
             GRANT ALL ON shop.* TO shop@'127.0.0.1'; GRANT ALL ON shop.* TO shop@localhost",
        )?;
        Ok(database)
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
        let output = Command::new(place::system_program("mariadb")?)
            .args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .args(["--execute", sql])
            .stdin(Stdio::null())
            .output()
            .context("could not start `mariadb`")?;
        if !output.status.success() {
            bail!("`{sql}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("sock")
    }

    /// The folder of this server, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
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
