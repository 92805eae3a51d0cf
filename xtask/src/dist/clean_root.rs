//! A Debian without anything but dpkg and a shell, unpacked from the archive: the package is installed into it, and its
//! service started by the command line of its unit, as systemd would but without its sandbox (`systemd-analyze` judges
//! that, and `tests/privileged/capabilities.rs` what it may do). Nothing of this machine is changed: mounts are of a
//! namespace of their own.

use crate::debian::commands::{text_of, tool};
use crate::debian::sources::{self, Archive};
use crate::debian::suite::{Suite, unpack};
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use harness::guard::Guard;
use harness::wait;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SUITE: &str = "bookworm";
/// What dpkg itself asks for, and what the package depends on.
const PACKAGES: [&str; 8] =
    ["dpkg", "dash", "coreutils", "tar", "diffutils", "libc-bin", "libc6", "libgcc-s1"];
const CONFIGURATION: &str = "etc/pyapm/pyapm.toml";

/// Installs, starts, asks, stops and removes.
///
/// # Errors
/// When any of it fails; what was said is in the error.
pub(super) fn prove(package: &Path) -> Result<()> {
    let home = workspace::root().join("target/pyapm");
    let scratch = tempfile::tempdir_in(&home).context("could not create a scratch directory")?;
    let root = scratch.path().join("root");
    make(&root, &home)?;
    fs::copy(package, root.join("pyapm.deb")).context("could not copy the package")?;
    let installed = inside(&root, &["dpkg", "--install", "/pyapm.deb"])?;
    eprintln!("{}", installed.trim_end());
    brought(&root)?;
    inside(&root, &["pyapm", "config", "check"])?;
    quieten(&root)?;
    serve(&root)?;
    inside(&root, &["dpkg", "--remove", "pyapm"])?;
    ensure!(!root.join("usr/bin/pyapm").exists(), "the binary is left behind");
    ensure!(
        root.join(CONFIGURATION).is_file(),
        "the configuration was removed, which is the administrator's"
    );
    eprintln!("installed, started, asked, stopped and removed in a clean Debian {SUITE}");
    Ok(())
}

fn make(root: &Path, home: &Path) -> Result<()> {
    for folder in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "run", "tmp", "dev"] {
        fs::create_dir_all(root.join(folder)).context("could not prepare the root")?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).context("could not prepare the root")?;
    }
    let debs = root.with_file_name("debs");
    fs::create_dir(&debs).context("could not create the folder of downloads")?;
    let entries = sources::read(Path::new("/etc/apt"))?;
    let suite = Suite::new(SUITE, Archive::Main, &home.join("apt"), &entries);
    suite.update(false)?;
    if suite.download_with_dependencies(&PACKAGES, &debs).is_err() {
        // The archive may have replaced a package since its list was fetched.
        suite.update(true)?;
        suite.download_with_dependencies(&PACKAGES, &debs)?;
    }
    unpack(&debs, root)?;
    // Its own installation would make this link.
    if !root.join("bin/sh").exists() {
        symlink("dash", root.join("bin/sh")).context("could not prepare the root")?;
    }
    // What dpkg goes by: these are here, and nothing else.
    let mut status = String::new();
    for deb in fs::read_dir(&debs)?.filter_map(|deb| Some(deb.ok()?.path())) {
        if deb.extension().is_some_and(|ending| ending == "deb") {
            let control = text_of(Command::new(tool("dpkg-deb")?).arg("--field").arg(&deb))?;
            status.push_str(&format!("{}\nStatus: install ok installed\n\n", control.trim_end()));
        }
    }
    let dpkg = root.join("var/lib/dpkg");
    for folder in ["info", "updates"] {
        fs::create_dir_all(dpkg.join(folder)).context("could not prepare dpkg's folder")?;
    }
    fs::write(dpkg.join("status"), status).context("could not write dpkg's list")
}

/// Everything that the package is to bring is there, and what a shell reads is what it understands.
fn brought(root: &Path) -> Result<()> {
    const FILES: [&str; 8] = [
        "usr/lib/systemd/system/pyapm.service",
        "usr/share/man/man1/pyapm.1.gz",
        "usr/share/man/man1/pyapm-run.1.gz",
        "usr/share/man/man1/pyapm-top.1.gz",
        "usr/share/bash-completion/completions/pyapm",
        "usr/share/zsh/vendor-completions/_pyapm",
        "usr/share/fish/vendor_completions.d/pyapm.fish",
        "usr/share/doc/pyapm/copyright",
    ];
    for file in FILES {
        let length = fs::metadata(root.join(file)).with_context(|| format!("`{file}` is missing"))?.len();
        ensure!(length > 100, "`{file}` is empty");
    }
    let completions = root.join("usr/share/bash-completion/completions/pyapm");
    text_of(Command::new("bash").arg("-n").arg(completions)).map(drop)
}

/// The administrator's own change: the servers of this machine are none of the proof's business.
fn quieten(root: &Path) -> Result<()> {
    let path = root.join(CONFIGURATION);
    let text = fs::read_to_string(&path).context("there is no configuration")?;
    let changed = text.replace("#every_server = true", "every_server = false");
    ensure!(changed != text, "the configuration does not show `every_server`");
    fs::write(&path, changed).context("could not change the configuration")
}

fn serve(root: &Path) -> Result<()> {
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/pyapm.service")).context("no unit")?;
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).context("no `ExecStart=`")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let notices = UnixDatagram::bind(root.join("run/notify")).context("no socket for notices")?;
    notices.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut command = entering(root, &words);
    command.env("NOTIFY_SOCKET", "/run/notify");
    let mut service = Guard::start(&mut command, &root.with_file_name("log"), None)?;
    let mut told = String::new();
    let mut buffer = [0; 4096];
    wait::until("the service to be ready", || {
        service.check_alive()?;
        while let Ok(count) = notices.recv(&mut buffer) {
            told.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        }
        Ok(told.contains("READY=1").then_some(()))
    })?;
    let listed = inside(root, &["pyapm", "top", "--list"])?;
    ensure!(listed.starts_with("NUMBER") || listed.contains("NUMBER"), "`pyapm top --list` wrote: {listed}");
    service.signal(Signal::SIGTERM)?;
    let status = service.wait()?;
    if !status.success() {
        bail!("the service ended with {status}; it wrote:\n{}", service.log());
    }
    eprintln!("the service said:\n{}", service.log().trim_end());
    ensure!(!root.join("run/pyapm/pyapm.sock").exists(), "the socket is left behind");
    Ok(())
}

fn inside(root: &Path, words: &[&str]) -> Result<String> {
    text_of(&mut entering(root, words))
}

/// A command with this root, and the kernel's file systems in it. `exec` all the way: a signal reaches the program itself.
fn entering(root: &Path, words: &[&str]) -> Command {
    const SCRIPT: &str = "mount --rbind /proc \"$0/proc\" && mount --rbind /sys \"$0/sys\" && \
                          mount --rbind /dev \"$0/dev\" && exec chroot \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT]).arg(root).args(words);
    command
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
}
