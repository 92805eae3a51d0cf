//! A process that does not outlive its guard: it leads a process group of its own, which is killed as a whole when
//! the guard is dropped, and it gets a SIGKILL when the thread that started it dies. What it writes goes to a file.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running process and its group.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Guard {
    /// Starts the command; its stdout and stderr go to `log`, unless the caller has directed stdout elsewhere.
    ///
    /// The calling thread must live as long as the process shall.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &Path, stdout: Option<Stdio>) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(log).with_context(|| format!("could not make `{}`", log.display()))?;
        let same = file.try_clone().context("could not duplicate a file")?;
        command.stdin(Stdio::null()).stderr(file).stdout(stdout.unwrap_or_else(|| Stdio::from(same)));
        command.process_group(0);
        die_with_this_thread(command);
        let child = command.spawn().with_context(|| format!("could not start `{name}`"))?;
        Ok(Self { child, name, log: log.to_path_buf() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipe from its stdout, when the caller has asked for one.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(self.nix_pid(), signal)
            .with_context(|| format!("could not send {signal} to `{}` ({})", self.name, self.pid()))
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("could not wait for `{}`", self.name))
    }

    /// An error with the end of the log when the process is no longer there.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("`{}` ended with {status}; it wrote:\n{}", self.name, last_lines(&self.log(), 30));
        }
        Ok(())
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("`{}` to end", self.name);
        crate::wait::until(&what, || self.ended())
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The leader is not reaped before this, so the group's number cannot belong to anybody else, and an
        // error can only mean that the whole group is gone.
        let _gone = killpg(self.nix_pid(), Signal::SIGKILL);
        let _ended = self.child.wait();
    }
}

/// Has the kernel kill the process when the thread that starts it ends, however that comes about.
pub fn die_with_this_thread(command: &mut Command) {
    let set = || nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL)).map_err(std::io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call, and neither allocates nor locks.
    unsafe {
        command.pre_exec(set);
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_group_outlives_the_guard() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let guard = Guard::start(&mut command, &folder.path().join("log"), None).unwrap();
        let inner: u32 = crate::wait::until("the inner pid", || Ok(guard.log().trim().parse().ok())).unwrap();
        assert!(Path::new(&format!("/proc/{inner}")).exists());
        drop(guard);
        // Its parent is gone too: whoever reaps orphans does so when it likes, so a zombie is an end as well.
        crate::wait::until("the inner process to end", || {
            let stat = std::fs::read_to_string(format!("/proc/{inner}/stat")).unwrap_or_default();
            Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn an_early_end_is_told_with_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 4"]);
        let mut guard = Guard::start(&mut command, &folder.path().join("log"), None).unwrap();
        guard.wait().unwrap();
        let error = guard.check_alive().unwrap_err().to_string();
        assert!(error.contains("no such luck") && error.contains('4'), "{error}");
    }
}
