//! For tests: real Python processes. Each builds one tree, says so by printing its pids, and ends with the
//! test, its whole process group.

use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};

/// A process group that ends with the test.
pub(super) struct Tree {
    child: Child,
    pub(super) directory: tempfile::TempDir,
    /// Pids that the program printed on its line.
    pub(super) pids: Vec<u32>,
}

impl Tree {
    /// Runs `python3 NAME.py`, which prints one line of pids once its tree stands.
    pub(super) fn python(name: &str, program: &str) -> Self {
        Self::run(name, program, |_| {})
    }

    pub(super) fn run(name: &str, program: &str, adapt: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(format!("{name}.py")), program).unwrap();
        let mut command = Command::new("python3");
        command.arg(format!("{name}.py"));
        Self::start(directory, command, adapt)
    }

    pub(super) fn start(
        directory: tempfile::TempDir,
        mut command: Command,
        adapt: impl FnOnce(&mut Command),
    ) -> Self {
        use std::os::unix::process::CommandExt as _;
        command.current_dir(directory.path()).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env_remove("OTEL_SERVICE_NAME").env_remove("OTEL_RESOURCE_ATTRIBUTES");
        adapt(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pids = line.split_ascii_whitespace().map(|word| word.parse().unwrap()).collect();
        Self { child, directory, pids }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
