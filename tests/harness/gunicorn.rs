//! The Django shop under gunicorn, with its own database, ready when every worker has answered with its pid and has
//! its connection to the database.

use crate::guard::Guard;
use crate::load::{Address, Connection, Counts, Plan, Request, Stream};
use crate::mariadb::MariaDb;
use crate::place::{self, Python};
use crate::wait;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How the shop is served.
#[derive(Clone, Debug)]
pub struct Options {
    pub python: Python,
    pub workers: usize,
    /// `sync`, `gthread`
    pub worker_class: &'static str,
    /// Over a unix socket instead of TCP.
    pub unix: bool,
    /// More of gunicorn's own arguments.
    pub arguments: Vec<String>,
}

impl Options {
    /// Four sync workers over TCP.
    #[must_use]
    pub fn new(python: Python) -> Self {
        Self { python, workers: 4, worker_class: "sync", unix: false, arguments: Vec::new() }
    }
}

/// The running shop.
#[derive(Debug)]
pub struct Gunicorn {
    /// Dropped before the database and the folder.
    master: Guard,
    pub address: Address,
    pub database: MariaDb,
    workers: usize,
    #[expect(
        dead_code,
        reason = "held for its drop: the folder with the socket and the log goes with the server"
    )]
    folder: TempDir,
}

impl Gunicorn {
    /// Starts a database, fills it, starts gunicorn and waits until all workers serve.
    ///
    /// # Errors
    /// When any of these does not start.
    pub fn start(options: &Options) -> Result<Self> {
        let database = MariaDb::start()?;
        let folder =
            tempfile::Builder::new().prefix("pyapm-shop-").tempdir().context("no temporary folder")?;
        for step in [&["migrate", "--verbosity=0"][..], &["seed"][..]] {
            let done = in_shop(
                Command::new(options.python.program("python")).arg("manage.py").args(step),
                &database,
            )
            .stdin(Stdio::null())
            .output()
            .context("could not start `manage.py`")?;
            if !done.status.success() {
                bail!("`manage.py {}` failed: {}", step.join(" "), String::from_utf8_lossy(&done.stderr));
            }
        }
        let socket = folder.path().join("http.sock");
        let bind = if options.unix { format!("unix:{}", socket.display()) } else { "127.0.0.1:0".to_owned() };
        let mut command = Command::new(options.python.program("gunicorn"));
        command
            .args(["shop.wsgi", "--log-level=info", "--bind", &bind])
            // Its control socket would lie in the home folder of whoever runs this.
            .arg("--no-control-socket")
            .args(["--worker-class", options.worker_class, "--workers", &options.workers.to_string()])
            .args(&options.arguments);
        let mut master = Guard::start(in_shop(&mut command, &database), &folder.path().join("log"), None)?;
        let address = if options.unix {
            Address::Unix(socket)
        } else {
            wait::until("gunicorn to listen", || {
                master.check_alive()?;
                Ok(listening_at(&master.log()))
            })?
        };
        let mut shop = Self { master, address, database, workers: options.workers, folder };
        shop.warm_up()?;
        Ok(shop)
    }

    /// Process id of the master.
    #[must_use]
    pub fn master(&self) -> u32 {
        self.master.pid()
    }

    /// Process ids of the master's children.
    ///
    /// # Errors
    /// When the master is gone.
    pub fn workers(&self) -> Result<BTreeSet<u32>> {
        let pid = self.master();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .with_context(|| format!("gunicorn's master {pid} is gone"))?;
        Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }

    /// Sends a signal to the master: HUP, TTIN, TTOU.
    ///
    /// # Errors
    /// When the master is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.master.signal(signal)
    }

    /// Carries out the plan while workers are replaced: by HUP, which reloads them all, and by TTIN and TTOU, which
    /// add one and take one away, eight times in all and evenly over the load.
    ///
    /// # Errors
    /// When the master is gone, or any request failed: gunicorn loses none by these signals.
    pub fn drive_while_replacing(&self, plan: &Plan) -> Result<Counts> {
        let load = Stream::start(&self.address, plan, Some(plan.total));
        let signals = [Signal::SIGHUP, Signal::SIGTTIN, Signal::SIGHUP, Signal::SIGTTOU];
        for (number, signal) in (1..).zip(signals.into_iter().cycle().take(8)) {
            let mark = plan.total * number / 9;
            wait::until("the load to go on", || Ok((load.sent() >= mark).then_some(())))?;
            self.signal(signal)?;
        }
        load.finish().without_failures()
    }

    /// What gunicorn has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.master.log()
    }

    /// Has every worker answer, and open its connection to the database.
    ///
    /// Each round sends as many slow requests at once as there are workers; a busy worker accepts no other.
    ///
    /// # Errors
    /// When the workers do not come.
    pub fn warm_up(&mut self) -> Result<BTreeSet<u32>> {
        let wanted = self.workers;
        let address = self.address.clone();
        let master = &mut self.master;
        let mut seen = BTreeSet::new();
        wait::until("every worker to answer", || {
            master.check_alive()?;
            let round: Vec<_> = (0..wanted)
                .map(|_| {
                    let address = address.clone();
                    std::thread::spawn(move || worker_of(&address).ok())
                })
                .collect();
            seen.extend(round.into_iter().filter_map(|thread| thread.join().ok().flatten()));
            Ok((seen.len() >= wanted).then(|| seen.clone()))
        })
    }
}

fn worker_of(address: &Address) -> Result<u32> {
    let mut connection = Connection::open(address)?;
    let answer = connection.ask(&Request::get("/slow-sql/40").close())?;
    answer.header("x-worker").and_then(|pid| pid.parse().ok()).context("no X-Worker in the answer")
}

/// The environment of everything that belongs to the shop.
fn in_shop<'a>(command: &'a mut Command, database: &MariaDb) -> &'a mut Command {
    command
        .current_dir(place::workloads().join("shop"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SHOP_DB_HOST", "127.0.0.1")
        .env("SHOP_DB_PORT", database.port().to_string())
}

/// Of gunicorn and of uvicorn: `[INFO] Listening at: http://127.0.0.1:34567 (4242)`, `Uvicorn running on http://127.0.0.1:34567 (Press ...`
pub(crate) fn listening_at(log: &str) -> Option<Address> {
    let rest = log.split(" http://").nth(1)?;
    rest.split_whitespace().next()?.parse().ok().map(Address::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_log() {
        let log = "[INFO] Starting gunicorn 27.0.1\n[INFO] Listening at: http://127.0.0.1:34567 (4242)\n";
        let expected = Some(Address::Tcp("127.0.0.1:34567".parse().unwrap()));
        assert_eq!(listening_at(log), expected);
        assert_eq!(listening_at("INFO:     Uvicorn running on http://127.0.0.1:34567 (Press"), expected);
        assert_eq!(listening_at("[INFO] Starting"), None);
    }
}
