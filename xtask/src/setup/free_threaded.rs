//! Free-threaded interpreters (`--disable-gil`), which no suite has a package of: built from the sources of the packages
//! that there are, below the target directory. It takes minutes for each, so it is done when it is asked for
//! (`cargo xtask setup --free-threaded`); the tests take part with what they find. Nothing is installed.

use crate::debian::commands::{stdout_of, tool};
use crate::debian::sources::{self, Archive, Entry};
use crate::debian::suite::{Suite, left_out};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A version, and the suites that its sources are looked for in; the first that gives them is taken.
const WANTED: [(&str, &[&str]); 3] =
    [("3.13", &["trixie", "sid"]), ("3.14", &["sid", "forky"]), ("3.15", &["sid", "forky"])];

/// Little optimisation, which is what takes the time. What is tested does not depend on it.
const FLAGS: &str = "-O1 -g0";

/// Where the builds are, each named as `3.13t`; the tests look for them there.
#[must_use]
pub fn folder() -> PathBuf {
    workspace::root().join("target/pyapm/free-threaded")
}

/// Builds those that are missing. What cannot be had is named.
///
/// # Errors
/// When none can be built, or a build fails.
pub fn install() -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("could not create `{}`", folder.display()))?;
    let mut entries = None;
    let mut remarks = Vec::new();
    let mut found = 0;
    for (version, suites) in WANTED {
        let prefix = folder.join(format!("{version}t"));
        if prefix.join("bin").join(format!("python{version}t")).is_file() {
            found += 1;
            continue;
        }
        let entries = match &entries {
            Some(entries) => entries,
            None => entries.insert(sources::read(Path::new("/etc/apt"))?),
        };
        let scratch = tempfile::tempdir_in(&folder).context("could not create a scratch directory")?;
        let suite = suites.iter().find(|name| match download(version, name, scratch.path(), entries) {
            Ok(()) => true,
            Err(error) => {
                remarks.push(format!("Python {version}t: {}", left_out(name, &error)));
                false
            }
        });
        if let Some(suite) = suite {
            eprintln!("setup: building Python {version} of {suite} without the GIL");
            build(scratch.path(), &prefix)?;
            found += 1;
        }
    }
    for remark in &remarks {
        eprintln!("setup: {remark}");
    }
    if found == 0 {
        bail!("no free-threaded Python could be built");
    }
    Ok(())
}

fn download(version: &str, suite: &'static str, to: &Path, entries: &[Entry]) -> Result<()> {
    let suite = Suite::of_sources(suite, Archive::Main, &folder().with_file_name("apt"), entries);
    suite.update(false)?;
    let package = format!("python{version}");
    if suite.download_source(&package, to).is_err() {
        // The archive may have replaced a package since its list was fetched.
        suite.update(true)?;
        suite.download_source(&package, to)?;
    }
    Ok(())
}

/// Unpacks what was downloaded into `scratch`, and leaves the build in the folder `prefix` when it is complete.
fn build(scratch: &Path, prefix: &Path) -> Result<()> {
    let is_description = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "dsc");
    let description = fs::read_dir(scratch)
        .with_context(|| format!("could not list `{}`", scratch.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(is_description)
        .context("no description among the downloaded sources")?;
    let [tree, objects, root] = ["tree", "objects", "root"].map(|name| scratch.join(name));
    // What they say is told when they fail.
    let quiet = |command: &mut Command| stdout_of(command).map(drop);
    // apt has checked the files; whose signature the description bears is not asked again.
    quiet(Command::new(tool("dpkg-source")?).args(["--no-check", "-x"]).arg(&description).arg(&tree))?;
    fs::create_dir(&objects).context("could not create the folder to build in")?;
    quiet(
        Command::new(tree.join("configure"))
            .current_dir(&objects)
            .arg(format!("--prefix={}", prefix.display()))
            .args(["--disable-gil", "--disable-test-modules", "--without-ensurepip"])
            .args(["CFLAGS=", &format!("OPT={FLAGS}")]),
    )?;
    let make = tool("make")?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    quiet(Command::new(&make).current_dir(&objects).arg(format!("-j{jobs}")))?;
    quiet(
        Command::new(&make).current_dir(&objects).arg("install").arg(format!("DESTDIR={}", root.display())),
    )?;
    let made = root.join(prefix.strip_prefix("/").unwrap_or(prefix));
    if prefix.exists() {
        // Without its interpreter: put there by somebody else, and of no use.
        fs::remove_dir_all(prefix).with_context(|| format!("could not remove `{}`", prefix.display()))?;
    }
    fs::rename(&made, prefix).with_context(|| format!("could not keep `{}`", prefix.display()))
}
