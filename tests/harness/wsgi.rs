//! A small application under gunicorn, without a database: one of several on a host, with a name of its own that no other
//! test's has.

use crate::guard::Guard;
use crate::load::{Address, Connection, Request};
use crate::place::Python;
use crate::wait;
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Says which worker answered. `/held` has no answer before [`Site::release`].
const MODULE: &str = "import os, time
def app(environ, start):
    if environ['PATH_INFO'] == '/spin':
        end = time.perf_counter() + 0.005
        while time.perf_counter() < end:
            pass
    if environ['PATH_INFO'] == '/held':
        while not os.path.exists(os.path.join(os.path.dirname(__file__), 'released')):
            time.sleep(0.01)
    body = environ['PATH_INFO'].encode()
    start('200 OK', [('Content-Length', str(len(body))), ('X-Worker', str(os.getpid()))])
    return [body]
";

/// Where it is, and what it is called: outlives the server, so that it can be started again.
#[derive(Debug)]
pub struct Site {
    pub name: String,
    python: Python,
    folder: TempDir,
    /// Whose it is; `None`: of whoever runs the tests.
    user: Option<u32>,
    /// What gunicorn is started through.
    before: Vec<String>,
}

/// The running server.
#[derive(Debug)]
pub struct Wsgi {
    master: Guard,
    pub address: Address,
}

impl Site {
    /// `name` becomes part of its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(name: &str, python: Python) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-site-").tempdir().context("no temporary folder")?;
        let name = format!("{name}{}", std::process::id());
        std::fs::write(folder.path().join(format!("{name}.py")), MODULE)?;
        Ok(Self { name, python, folder, user: None, before: Vec::new() })
    }

    /// With an application of one's own in place of the usual one; it is called `app`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with_module(name: &str, python: Python, module: &str) -> Result<Self> {
        let site = Self::new(name, python)?;
        std::fs::write(site.folder.path().join(format!("{}.py", site.name)), module)?;
        Ok(site)
    }

    /// The same, started through a program that is given the command line of the server: `env`, `unshare`.
    #[must_use]
    pub fn through(mut self, before: &[&str]) -> Self {
        self.before = before.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One that belongs to another user, in a folder that nobody else may enter, with a copy of the system's TLS library
    /// there that it uses.
    ///
    /// # Errors
    /// When it cannot be written, or there is no such library.
    pub fn private(name: &str, python: Python, user: u32) -> Result<Self> {
        let site = Self::new(name, python)?;
        let folder = site.folder.path();
        std::fs::copy("/usr/lib/x86_64-linux-gnu/libssl.so.3", folder.join("libssl.so.3"))
            .context("no libssl of the system")?;
        std::fs::write(folder.join(format!("{}.py", site.name)), format!("import ssl\n{MODULE}"))?;
        std::os::unix::fs::chown(folder, Some(user), Some(user)).context("cannot give the folder away")?;
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { user: Some(user), ..site })
    }

    /// Lets the requests for `/held` go on.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn release(&self) -> Result<()> {
        std::fs::write(self.folder.path().join("released"), "").context("cannot write to the site's folder")
    }

    /// A pattern of its command line, for rules.
    #[must_use]
    pub fn pattern(&self) -> String {
        format!("*{}*", self.name)
    }

    /// Starts gunicorn and waits until it answers; that is one request.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve(&self, arguments: &[&str]) -> Result<Wsgi> {
        let mut wsgi = self.launch(arguments)?;
        let address = wsgi.address.clone();
        wait::until("the site to answer", || {
            wsgi.master.check_alive()?;
            let ask = || Connection::open(&address)?.ask(&Request::get("/first").close());
            Ok(ask().is_ok().then_some(()))
        })?;
        Ok(wsgi)
    }

    /// Starts gunicorn and waits for nothing but its port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn launch(&self, arguments: &[&str]) -> Result<Wsgi> {
        let server = self.python.program("gunicorn");
        let mut words = self.before.iter().map(PathBuf::from).chain([server]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words);
        command
            .arg(format!("{}:app", self.name))
            .args(["--bind", "127.0.0.1:0", "--workers", "2", "--no-control-socket"])
            .args(arguments)
            .current_dir(self.folder.path());
        if let Some(user) = self.user {
            command
                .uid(user)
                .gid(user)
                .env("LD_LIBRARY_PATH", self.folder.path())
                .env("HOME", "/nonexistent");
        }
        let mut master = Guard::start(&mut command, &self.folder.path().join("log"), None)?;
        let address = wait::until("gunicorn to listen", || {
            master.check_alive()?;
            Ok(crate::gunicorn::listening_at(&master.log()))
        })?;
        Ok(Wsgi { master, address })
    }

    /// A Python process of this name that is no server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn bystander(&self) -> Result<Guard> {
        let mut command = Command::new(self.python.program("python"));
        command.args(["-c", "import time\nprint('ready', flush=True)\ntime.sleep(1000)", &self.name]);
        let mut guard = Guard::start(&mut command, &self.folder.path().join("bystander"), None)?;
        wait::until("the bystander", || {
            guard.check_alive()?;
            Ok(guard.log().contains("ready").then_some(()))
        })?;
        Ok(guard)
    }
}

impl Wsgi {
    /// Process id of the master.
    #[must_use]
    pub fn master(&self) -> u32 {
        self.master.pid()
    }

    /// SIGTERM, and the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<()> {
        self.master.signal(nix::sys::signal::Signal::SIGTERM)?;
        self.master.wait()?;
        Ok(())
    }
}
