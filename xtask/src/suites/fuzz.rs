//! Every parser of bytes that others make, for a fixed number of cases by libFuzzer, guided by coverage: the same seed and the
//! same inputs to begin with each time. It needs no nightly toolchain: instrumentation is a matter of stable options
//! (`tests/fuzz/instrumented`), and no sanitizer is asked for, since what is looked for are panics and broken promises.
//! `tests/fuzz/README.md` tells how to go on for longer.

use crate::workspace;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Of each target.
const CASES: u32 = 1000;
/// Bytes of the longest input.
const LONGEST: u32 = 16_384;

/// Packages as for the unprivileged tests, so that what is there for them is not built again.
const PACKAGES: [&str; 3] = ["--workspace", "--exclude", "pyapm-tests"];

/// Builds the targets and runs each.
///
/// # Errors
/// When something cannot be built, or an input breaks a target: it is kept in `target/pyapm/fuzz/found`.
pub fn run() -> Result<()> {
    let folder = workspace::root().join("target/pyapm/fuzz");
    let (seeds, found) = (folder.join("seeds"), folder.join("found"));
    if seeds.is_dir() {
        std::fs::remove_dir_all(&seeds).with_context(|| format!("could not remove `{}`", seeds.display()))?;
    }
    std::fs::create_dir_all(&found).with_context(|| format!("could not make `{}`", found.display()))?;
    // What each target begins with, one folder for each.
    let writer = ["--lib", "transactions::fuzz::tests::seeds"];
    workspace::run(
        workspace::cargo().arg("test").args(PACKAGES).args(writer).env("PYAPM_FUZZ_SEEDS", &seeds),
    )?;
    let wrapper = workspace::root().join("tests/fuzz/instrumented");
    let target = ["--bin", "target"];
    workspace::run(
        workspace::cargo().arg("build").args(PACKAGES).args(target).env("RUSTC_WORKSPACE_WRAPPER", wrapper),
    )?;
    let targets = targets(&seeds)?;
    ensure!(!targets.is_empty(), "nobody has written seeds to `{}`", seeds.display());
    for target in targets {
        workspace::run(&mut one(&seeds, &found, &target))?;
    }
    Ok(())
}

/// The names of the folders.
fn targets(seeds: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(seeds)
        .with_context(|| format!("nobody has written seeds to `{}`", seeds.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn one(seeds: &Path, found: &Path, target: &str) -> Command {
    let mut command = Command::new(workspace::root().join("target/debug/target"));
    command
        .env("PYAPM_FUZZ_TARGET", target)
        .args([format!("-runs={CASES}"), format!("-max_len={LONGEST}")])
        .args(["-seed=1", "-keep_seed=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/{target}-", found.display()))
        // What is found on the way goes beside the seeds, which are written anew each time.
        .arg(seeds.join(target));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_a_target() {
        let folder = tempfile::tempdir().unwrap();
        assert!(targets(&folder.path().join("nothing")).is_err());
        for name in ["mysql", "amqp"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(targets(folder.path()).unwrap(), ["amqp", "mysql"]);
    }

    #[test]
    fn always_the_same_cases() {
        let command = one(Path::new("/seeds"), Path::new("/found"), "sql");
        let arguments: Vec<&str> = command.get_args().filter_map(std::ffi::OsStr::to_str).collect();
        assert!(["-runs=1000", "-seed=1", "/seeds/sql"].iter().all(|one| arguments.contains(one)));
    }
}
