//! `workloads/servers/app.py` under any server, and the client that speaks TLS to it.

use crate::certificate::Certificate;
use crate::guard::Guard;
use crate::load::Address;
use crate::place::{self, Python};
use crate::wait;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    process: Guard,
    /// What stands in front of it.
    front: Option<Guard>,
    pub port: u16,
    pub certificate: Certificate,
    folder: TempDir,
}

/// What a server is started with.
#[derive(Debug)]
pub struct Setting<'a> {
    pub python: &'a Python,
    /// A port that was free a moment ago.
    pub port: u16,
    pub certificate: &'a Certificate,
    /// Goes with the server.
    pub folder: &'a Path,
}

impl Setting<'_> {
    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A program of the environment, run beside the application.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.python.program(name));
        command.current_dir(place::workloads().join("servers")).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

impl Server {
    /// Starts what `command` makes, and waits until somebody listens on the port.
    ///
    /// # Errors
    /// When it ends before.
    pub fn start(command: impl FnOnce(&Setting<'_>) -> Command) -> Result<Self> {
        Self::start_behind(command, |_| Ok(None))
    }

    /// The same behind another server, which is the one that listens on the port. Both start together.
    ///
    /// # Errors
    /// When one ends before, or cannot be started.
    pub fn start_behind(
        command: impl FnOnce(&Setting<'_>) -> Command,
        front: impl FnOnce(&Setting<'_>) -> Result<Option<Command>>,
    ) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-server-").tempdir().context("no temporary folder")?;
        // nginx's workers are another user's.
        open_to_all(folder.path())?;
        let certificate = Certificate::make(folder.path())?;
        let python = Python::with_servers()?;
        let port = free_port()?;
        let setting = Setting { python: &python, port, certificate: &certificate, folder: folder.path() };
        let process = Guard::start(&mut command(&setting), &folder.path().join("log"), None)?;
        let front = front(&setting)?
            .map(|mut command| Guard::start(&mut command, &folder.path().join("front.log"), None))
            .transpose()?;
        let mut server = Self { process, front, port, certificate, folder };
        wait::until("the server to listen", || {
            server.process.check_alive()?;
            if let Some(front) = &mut server.front {
                front.check_alive()?;
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(server)
    }

    /// Of the server's first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The folder of this server, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a client that speaks TLS, which is not the server's: `clients` threads, `count` requests each.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tls_client(&self, clients: u32, count: u32, way: &str, paths: &[&str]) -> Result<TlsClient> {
        let python = Python::with_servers()?;
        let output = self.folder.path().join(format!("client-{way}-{count}"));
        let file = std::fs::File::create(&output).context("no file for the client's output")?;
        let child = Command::new(python.program("python"))
            .arg(place::workloads().join("servers/tls_load.py"))
            .arg(self.port.to_string())
            .arg(&self.certificate.certificate)
            .args([clients.to_string(), count.to_string(), way.to_owned()])
            .args(paths)
            .stdin(Stdio::piped())
            .stderr(file.try_clone().context("could not duplicate a file")?)
            .stdout(file)
            .spawn()
            .context("could not start the client")?;
        Ok(TlsClient { child, output })
    }
}

/// A running `tls_load.py`.
#[derive(Debug)]
pub struct TlsClient {
    child: Child,
    output: PathBuf,
}

/// One answer that a client had that asks on and on: no other has its path.
#[derive(Clone, Debug)]
pub struct Numbered {
    pub path: String,
    pub status: u16,
    /// By the wall clock, in nanoseconds, as it began to ask and once it had the answer.
    pub asked_ns: u64,
    pub answered_ns: u64,
}

/// How often each path was answered with each status.
pub type PathCounts = BTreeMap<(String, u16), u64>;

impl TlsClient {
    /// Waits until all of its connections are open.
    ///
    /// # Errors
    /// When it ends before.
    pub fn ready(&mut self) -> Result<()> {
        wait::until("the client to be ready", || {
            if self.log().lines().any(|line| line == "ready") {
                return Ok(Some(()));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the client ended with {status}: {}", self.log());
            }
            Ok(None)
        })
    }

    /// Has it go on, if it waits, and returns what it was answered.
    ///
    /// # Errors
    /// When any request failed.
    pub fn finish(self) -> Result<PathCounts> {
        let mut counts = PathCounts::new();
        for line in self.end()?.lines() {
            if let Some((path, status)) = line.split_once(' ') {
                *counts.entry((path.to_owned(), status.parse().context("no status")?)).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Ends one that asks on and on (`numbered`), and returns what it was answered.
    ///
    /// # Errors
    /// When any request failed.
    pub fn finish_numbered(self) -> Result<Vec<Numbered>> {
        let log = self.end()?;
        let answers = log.lines().filter(|line| line.starts_with('/')).map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().context("an answer lacks something");
            Ok(Numbered {
                path: word()?.to_owned(),
                status: word()?.parse()?,
                asked_ns: word()?.parse()?,
                answered_ns: word()?.parse()?,
            })
        });
        answers.collect()
    }

    /// What it has printed to its end.
    fn end(mut self) -> Result<String> {
        if let Some(mut stdin) = self.child.stdin.take() {
            // One that waits for nothing may have ended.
            let _gone = stdin.write_all(b"go\n");
        }
        let status = self.child.wait().context("could not wait for the client")?;
        let log = self.log();
        ensure!(status.success() && log.ends_with("done\n"), "the client failed: {log}");
        Ok(log)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for TlsClient {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn open_to_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("could not open `{}` to all", folder.display()))
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener.local_addr().context("no free port on loopback")?.port())
}
