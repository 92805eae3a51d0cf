//! The command: set-up, build, shop, visitors, attach; then everything in the reverse order.

use super::interrupt;
use super::visitors::Visitors;
use crate::setup::command::{Part, run as set_up};
use crate::setup::privilege;
use crate::suites::command::build;
use anyhow::{Context, Result, bail};
use harness::guard::die_with_this_thread;
use harness::gunicorn::{Gunicorn, Options};
use harness::place::{self, Python};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::IsTerminal as _;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How long the text report runs where there is no terminal for the view.
const SECONDS: &str = "30";
const INTERVAL: Duration = Duration::from_millis(50);

/// Runs the demo until the view is left, the report has ended, or a signal comes.
///
/// # Errors
/// When anything that it needs cannot be installed, built or started.
pub fn run() -> Result<()> {
    interrupt::catch()?;
    if !privilege::is_root() {
        if !privilege::sudo_works() {
            bail!("pyapm needs root to attach, and `sudo` does not work here; try again as root");
        }
        eprintln!("not root: pyapm will be attached through `sudo`");
    }
    set_up(Some(Part::Services))?;
    set_up(Some(Part::Python))?;
    build()?;
    if interrupt::seen() {
        return Ok(());
    }
    eprintln!("starting MariaDB and the shop under gunicorn, 4 workers ...");
    let mut options = Options::new(Python::first()?);
    // As any site would run it: workers are renewed now and then.
    options.arguments = vec!["--max-requests=2000".to_owned(), "--max-requests-jitter=500".to_owned()];
    let shop = Gunicorn::start(&options)?;
    let visitors = Visitors::start(&shop.address);
    eprintln!("the shop serves; attaching to gunicorn's master {}", shop.master());
    let mut attach = Attach::start(shop.master())?;
    let status = attach.watch()?;
    if status.is_none() {
        // Interrupted. What sudo has started cannot be signalled by everybody, but it ends with its application.
        attach.end();
    }
    drop(visitors);
    drop(shop);
    let status = match status {
        Some(status) => status,
        None => attach.wait()?,
    };
    if !status.success() && !interrupt::seen() {
        bail!("`pyapm attach` ended with {status}");
    }
    Ok(())
}

/// `pyapm attach` in the foreground of the terminal: it reads the keys, so it stays in this process's group.
struct Attach {
    child: Child,
}

impl Attach {
    fn start(pid: u32) -> Result<Self> {
        let binary = place::binary()?;
        let mut command = privilege::as_root(&binary.to_string_lossy())?;
        command.args(["attach", "--pid", &pid.to_string()]);
        if !std::io::stdout().is_terminal() {
            command.args(["--duration", SECONDS]);
        }
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        die_with_this_thread(command);
        Ok(Self { child: command.spawn().context("could not start pyapm")? })
    }

    /// Until it ends, or a signal comes: then `None`.
    fn watch(&mut self) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait().context("could not wait for pyapm")? {
                return Ok(Some(status));
            }
            if interrupt::seen() {
                return Ok(None);
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn end(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        // It fails when pyapm has had the same Ctrl-C and is gone, or is root's and we are not.
        let _sent = kill(pid, Signal::SIGTERM);
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().context("could not wait for pyapm")
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
            let _ended = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_told_to_end_when_the_demo_fails() {
        let attach = Attach::spawn(Command::new("sleep").arg("1000")).unwrap();
        let pid = attach.child.id();
        drop(attach);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
