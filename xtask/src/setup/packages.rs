//! Packages of the distribution, by `apt-get`. Knows their names and whether they are installed; builds nothing.

use super::privilege;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// A compiler with the sources of `core`, and what `bpf-linker` is built with and needs when it runs.
pub const BPF: [&str; 8] =
    ["rustc-web", "cargo-web", "rust-web-src", "llvm-22", "llvm-22-dev", "libpolly-22-dev", "gcc", "g++"];
/// The database of the shop, the servers that the drivers' tests ask, the load generator of the benches, the
/// terminal of the live view's test, the debugger that native frames are compared with, the server in front of
/// uwsgi, the maker of certificates, the judge of the service's unit, and who reads the metrics.
pub const SERVICES: [&str; 16] = [
    "mariadb-server",
    "mariadb-client",
    "postgresql",
    "redis-server",
    "memcached",
    "rabbitmq-server",
    "nginx-light",
    "openssl",
    "wrk",
    "tmux",
    "bpftool",
    "gdb",
    "systemd",
    "util-linux",
    "prometheus",
    "curl",
];
/// The distribution's interpreter, and what the database drivers are compiled with.
pub const PYTHON: [&str; 7] =
    ["python3", "python3-dev", "python3-venv", "libmariadb-dev", "libpq-dev", "pkg-config", "gcc"];
/// What an interpreter is built with, and the libraries that the tests need it to have.
pub const FREE_THREADED: [&str; 5] = ["dpkg-dev", "gcc", "make", "zlib1g-dev", "libffi-dev"];
/// A machine to boot kernels in, and what its disk is made with.
pub const KERNELS: [&str; 6] =
    ["qemu-system-x86", "busybox-static", "kmod", "squashfs-tools", "cpio", "zstd"];

/// invoke-rc.d and deb-systemd-invoke ask this program whether they may start a service; 101 is "no".
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs those that are missing; touches nothing when none is.
///
/// # Errors
/// When this is not a Debian, there is no root, or `apt-get` fails.
pub fn install(wanted: &[&str]) -> Result<()> {
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("setup: installing {}", missing.join(" "));
    apt_get(&["update"])?;
    let guard = NoServices::begin()?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    let installed = apt_get(&arguments);
    let ended = guard.end();
    installed?;
    ended?;
    for (package, unit) in [("mariadb-server", "mariadb.service"), ("prometheus", "prometheus.service")] {
        if missing.contains(&package) && Path::new("/run/systemd/system").is_dir() {
            // The tests start servers of their own; the machine's next boot shall not start another.
            workspace::run(privilege::as_root("systemctl")?.args(["disable", unit]))?;
        }
    }
    Ok(())
}

fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("could not ask `dpkg-query` what is installed; `cargo xtask setup` knows Debian only")?;
    // It ends with 1 when any name is unknown, and still prints the others.
    Ok(without_installed(wanted, &String::from_utf8_lossy(&output.stdout)))
}

fn without_installed<'a>(wanted: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed: BTreeSet<&str> =
        listing.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    let missing: BTreeSet<&str> = wanted.iter().copied().filter(|name| !installed.contains(name)).collect();
    missing.into_iter().collect()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = privilege::as_root("apt-get")?;
    workspace::run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// While it is held, packages do not start their services.
struct NoServices {
    /// The machine may have a policy of its own, which then stays as it is.
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            let answer = Command::new(POLICY).args(["mariadb", "start"]).status();
            if !answer.is_ok_and(|status| status.code() == Some(101)) {
                bail!(
                    "`{POLICY}` of this machine lets packages start services; install mariadb-server by hand"
                );
            }
            return Ok(Self { ours: false });
        }
        let script = "#!/bin/sh\nexit 101\n";
        let file = tempfile::NamedTempFile::new().context("could not make a temporary file")?;
        std::fs::write(file.path(), script).context("could not write a temporary file")?;
        workspace::run(privilege::as_root("install")?.args(["-m", "0755"]).arg(file.path()).arg(POLICY))?;
        Ok(Self { ours: true })
    }

    fn end(mut self) -> Result<()> {
        let ours = std::mem::take(&mut self.ours);
        if ours { remove_policy() } else { Ok(()) }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = remove_policy()
        {
            eprintln!("warning: `{POLICY}` is left behind: {error:#}");
        }
    }
}

fn remove_policy() -> Result<()> {
    workspace::run(privilege::as_root("rm")?.args(["-f", POLICY]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_not_missing_and_nothing_is_asked_for_twice() {
        let listing = "gcc installed\nwrk config-files\ntmux installed\n";
        assert_eq!(without_installed(&["wrk", "gcc", "kmod", "wrk"], listing), ["kmod", "wrk"]);
    }

    #[test]
    fn a_fresh_machine_lacks_everything() {
        assert_eq!(without_installed(&KERNELS, "").len(), KERNELS.len());
    }
}
