//! Starts the program that shall be recorded. It is forked and waits on a pipe until it is watched, and only then
//! becomes the program: no debugger interface, no signal.

use anyhow::Context;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread::JoinHandle;

/// A fork of this process that waits.
pub(super) struct Held {
    pub(super) pid: u32,
    name: String,
    gate: PipeWriter,
    spawning: JoinHandle<io::Result<Child>>,
}

/// Forks. The child becomes the program when [`Held::release`] is called, and ends when the `Held` is dropped.
pub(super) fn hold(program: &[OsString]) -> anyhow::Result<Held> {
    let (first, arguments) = program.split_first().context("no program was given")?;
    let name = first.to_string_lossy().into_owned();
    let (mut told, tell) = io::pipe().context("cannot make a pipe")?;
    let (wait, gate) = io::pipe().context("cannot make a pipe")?;
    let mut command = Command::new(first);
    command.args(arguments);
    // SAFETY: between fork and exec the closure makes system calls only; it neither allocates nor locks.
    unsafe {
        command.pre_exec(held_back(tell, wait, gate.as_raw_fd()));
    }
    // The spawning call returns only once the program runs, or could not be run.
    let spawning = std::thread::spawn(move || {
        let child = command.spawn();
        drop(command);
        child
    });
    let mut pid = [0; 4];
    if told.read_exact(&mut pid).is_err() {
        let error = spawning.join().map_err(|_| anyhow::anyhow!("the spawning thread panicked"))?;
        error.with_context(|| format!("cannot start `{name}`"))?;
        anyhow::bail!("cannot start `{name}`: its fork said nothing");
    }
    Ok(Held { pid: u32::from_ne_bytes(pid), name, gate, spawning })
}

/// Says its pid, and waits for a byte. Without one, the other end has gone: there is nothing to start.
fn held_back(
    mut tell: PipeWriter,
    mut wait: PipeReader,
    gate: i32,
) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    move || {
        // SAFETY: closes this process's copy of a descriptor, so that only the recorder holds the gate open; the
        // closure runs in the forked child alone, which uses the descriptor for nothing else.
        unsafe { libc::close(gate) };
        tell.write_all(&std::process::id().to_ne_bytes())?;
        wait.read_exact(&mut [0])
    }
}

impl Held {
    /// Lets it become the program.
    pub(super) fn release(self) -> anyhow::Result<Child> {
        let Self { name, mut gate, spawning, .. } = self;
        // That nobody reads means that the fork has ended, which the spawning call tells better.
        let _told_by_spawning = gate.write_all(&[1]);
        let child = spawning.join().map_err(|_| anyhow::anyhow!("the spawning thread panicked"))?;
        child.with_context(|| format!("cannot start `{name}`"))
    }
}

/// The exit code that a shell would give: the program's own, or 128 and the number of the signal that ended it.
pub(super) fn exit_code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn runs_when_it_is_let_go() {
        let held = hold(&words("sleep 0")).unwrap();
        assert_ne!(held.pid, std::process::id());
        let pid = held.pid;
        let mut child = held.release().unwrap();
        assert_eq!(child.id(), pid);
        child.wait().unwrap();
    }

    #[test]
    fn exit_codes() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
            let program = ["sh", "-c", script].map(OsString::from);
            let status = hold(&program).unwrap().release().unwrap().wait().unwrap();
            assert_eq!(exit_code(status), code, "{script}");
        }
    }

    #[test]
    fn what_cannot_be_started() {
        let held = hold(&words("/nowhere/python")).unwrap();
        let error = held.release().unwrap_err();
        assert!(
            format!("{error:#}").starts_with("cannot start `/nowhere/python`: No such file"),
            "{error:#}"
        );
    }

    #[test]
    fn dropped_before_it_was_let_go() {
        let held = hold(&words("sleep 1000")).unwrap();
        let Held { gate, spawning, .. } = held;
        drop(gate);
        assert!(spawning.join().unwrap().is_err());
    }
}
