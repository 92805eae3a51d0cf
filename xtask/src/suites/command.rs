//! The command: steps, one after the other, until one fails; then how long each took. It prints what the runners
//! print and counts nothing itself.

use super::{again, fuzz};
use crate::setup::{self, python};
use crate::{bpf, dist, kernels, setup::privilege, tidy, workspace};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::{Duration, Instant};

/// A part of the tests that can be run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Those that need no root
    Unprivileged,
    /// Parsers of what others send, by libFuzzer: part of those that need no root
    Fuzz,
    /// Those that attach: root, or sudo
    Privileged,
    /// 20,000 stacks of each version of CPython at 1,000 Hz, none of them torn: more than a minute, so not part of the others
    Torn,
    /// Other kernels, in virtual machines
    Kernels,
}

type Step = (&'static str, Box<dyn Fn() -> Result<()>>);

/// Runs one suite, or everything; `all` adds the kernels in between.
///
/// # Errors
/// When a step fails; the ones after it are not run.
pub fn run(suite: Option<Suite>, all: bool) -> Result<()> {
    let mut timings: Vec<(&str, Duration)> = Vec::new();
    let mut outcome = Ok(());
    for (name, step) in steps(suite, all) {
        eprintln!("==> {name}");
        let began = Instant::now();
        let done = step();
        timings.push((name, began.elapsed()));
        if let Err(error) = done {
            outcome = Err(error).with_context(|| format!("step `{name}` failed"));
            break;
        }
    }
    eprintln!("==> time per step");
    for (name, duration) in &timings {
        eprintln!("{:>8.1} s  {name}", duration.as_secs_f64());
    }
    for environment in python::not_here() {
        eprintln!("not run: tests on `{environment}`, for which this machine has no interpreter");
    }
    if timings.iter().any(|(name, _)| ["privileged", "torn"].contains(name)) {
        eprintln!("==> interpreters of the tests of stacks");
        for line in harness::interpreter::closing_lines() {
            eprintln!("{line}");
        }
    }
    outcome
}

fn steps(suite: Option<Suite>, all: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // What the others need is more than a compiler.
    if suite != Some(Suite::Fuzz) {
        steps.push(("setup", Box::new(|| setup::command::run(None))));
    }
    if suite.is_none() {
        steps.push(("format", Box::new(format)));
        steps.push(("clippy", Box::new(clippy)));
        steps.push(("tidy", Box::new(tidy::command::run)));
        steps.push(("bpf --check", Box::new(|| bpf::command::run(true))));
    }
    if matches!(suite, None | Some(Suite::Unprivileged)) {
        steps.push(("unprivileged", Box::new(unprivileged)));
    }
    if matches!(suite, None | Some(Suite::Unprivileged | Suite::Fuzz)) {
        steps.push(("fuzz", Box::new(fuzz::run)));
    }
    if matches!(suite, None | Some(Suite::Privileged)) {
        steps.push(("privileged", Box::new(privileged)));
        steps.push(("package", Box::new(package)));
    }
    if suite == Some(Suite::Torn) {
        steps.push(("torn", Box::new(torn)));
    }
    if matches!(suite, None | Some(Suite::Kernels)) {
        steps.push(("kernels", Box::new(move || kernels::run(all))));
    }
    steps
}

/// The package, in a clean Debian.
fn package() -> Result<()> {
    if privilege::is_root() {
        return dist::command::run(None, true);
    }
    let program = std::env::current_exe().context("where is this program?")?;
    workspace::run(privilege::as_root("env")?.arg(program).args(["dist", "--prove"]))
}

fn format() -> Result<()> {
    workspace::run(workspace::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    workspace::run(workspace::cargo().args(arguments))
}

fn unprivileged() -> Result<()> {
    build()?;
    workspace::run(workspace::cargo().args(["test", "--workspace", "--exclude", "pyapm-tests"]))?;
    workspace::run(workspace::cargo().args(["test", "--package", "pyapm-tests", "--lib"]))?;
    workspace::run(workspace::cargo().args(["test", "--package", "pyapm-tests", "--test", "unprivileged"]))
}

fn torn() -> Result<()> {
    prepare()?;
    let test = "pythons::flutter::no_stack_is_torn_and_none_is_lost".to_owned();
    workspace::run(attaching(&[test]).arg("--nocapture").env("PYAPM_TEST_TORN", "1"))
}

/// What the tests that attach need.
fn prepare() -> Result<()> {
    build()?;
    if !privilege::is_root() {
        if !privilege::sudo_works() {
            bail!("the privileged tests need root, and `sudo` does not work here; try again as root");
        }
        eprintln!("not root: the tests run through `sudo`");
    }
    Ok(())
}

fn privileged() -> Result<()> {
    prepare()?;
    let unsteady = again::run(attaching(&[]), attaching, &mut std::io::stdout())?;
    if !unsteady.is_empty() {
        eprintln!("==> UNSTEADY: failed among the others and passed alone: {}", unsteady.join(", "));
    }
    Ok(())
}

/// The tests of these names, or all.
fn attaching(names: &[String]) -> Command {
    let mut command = workspace::cargo();
    command.args(["test", "--package", "pyapm-tests", "--test", "privileged", "--", "--test-threads=1"]);
    if !names.is_empty() {
        command.arg("--exact").args(names);
    }
    if !privilege::is_root() {
        // Cargo itself stays as it is, so that the files it builds do not come to belong to root.
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env --");
    }
    command
}

/// The binary that a user would have; none is built when the variable of [`harness::place::binary`] names one.
pub fn build() -> Result<()> {
    if std::env::var_os("PYAPM_BINARY").is_some() {
        return Ok(());
    }
    workspace::run(workspace::cargo().args(["build", "--release", "--package", "pyapm"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(suite: Option<Suite>) -> Vec<&'static str> {
        steps(suite, false).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn everything_runs_in_the_order_of_ci() {
        let all = [
            "setup",
            "format",
            "clippy",
            "tidy",
            "bpf --check",
            "unprivileged",
            "fuzz",
            "privileged",
            "package",
            "kernels",
        ];
        assert_eq!(names(None), all);
        assert_eq!(names(Some(Suite::Unprivileged)), ["setup", "unprivileged", "fuzz"]);
        assert_eq!(names(Some(Suite::Privileged)), ["setup", "privileged", "package"]);
        assert_eq!(names(Some(Suite::Torn)), ["setup", "torn"]);
    }
}
