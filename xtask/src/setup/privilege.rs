//! Commands that need root: run as they are by root, through `sudo` by others. It never asks for a password
//! where nobody can type one.

use anyhow::{Result, bail};
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command for `program` that will run as root.
///
/// # Errors
/// When this process is not root and `sudo` does not work either.
pub fn as_root(program: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !sudo_works() {
        bail!("`{program}` needs root, and `sudo` does not work here; try again as root");
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env=DEBIAN_FRONTEND", "--", program]);
    Ok(command)
}

/// Whether `sudo` works: without a password, or with one that can be typed.
#[must_use]
pub fn sudo_works() -> bool {
    let silent = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match silent {
        Ok(status) => status.success() || std::io::stdin().is_terminal(),
        Err(_) => false,
    }
}
