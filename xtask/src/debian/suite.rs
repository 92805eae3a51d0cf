//! One suite: its lists of packages or of their sources, which version it has of a package, and downloads from it. Not here: what its line in
//! `sources.list` is made from (`sources`).

use super::commands::{stdout_of, text_of, tool};
use super::sources::{Archive, Entry, derived_line};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// How long a suite's package list is used before it is fetched again.
const LISTS_KEPT: Duration = Duration::from_secs(12 * 3600);

/// One suite's own corner of apt: nothing of the system's lists, cache or preferences is used or changed.
#[derive(Clone)]
pub struct Suite<'a> {
    pub name: &'static str,
    archive: Archive,
    home: PathBuf,
    entries: &'a [Entry],
    of_sources: bool,
}

impl<'a> Suite<'a> {
    /// The suite with its lists in a folder of its name below `home`.
    #[must_use]
    pub fn new(name: &'static str, archive: Archive, home: &Path, entries: &'a [Entry]) -> Self {
        Self { name, archive, home: home.join(name), entries, of_sources: false }
    }

    /// The same for the sources of its packages.
    #[must_use]
    pub fn of_sources(name: &'static str, archive: Archive, home: &Path, entries: &'a [Entry]) -> Self {
        Self { name, archive, home: home.join(format!("{name}-sources")), entries, of_sources: true }
    }

    /// Fetches the package list if it is old or `refresh` is set.
    ///
    /// # Errors
    /// When no apt source of this machine is of that archive, or apt fails.
    pub fn update(&self, refresh: bool) -> Result<()> {
        let stamp = self.home.join("updated");
        let age = fs::metadata(&stamp)
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if !refresh && age.is_some_and(|age| age < LISTS_KEPT) {
            return Ok(());
        }
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = self.home.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("failed to create `{}`", directory.display()))?;
        }
        let line = derived_line(self.entries, self.archive, self.name)?;
        let line = if self.of_sources { line.replacen("deb ", "deb-src ", 1) } else { line };
        self.write("sources.list", &line)?;
        self.write("apt.conf", &configuration(&self.home))?;
        stdout_of(self.apt("apt-get")?.arg("update"))?;
        self.write("updated", "")
    }

    /// The version that this suite has of a package.
    ///
    /// # Errors
    /// When it has none.
    pub fn version(&self, package: &str) -> Result<String> {
        let record = text_of(self.apt("apt-cache")?.args(["show", "--no-all-versions", package]))?;
        let version = record
            .lines()
            .find_map(|line| line.strip_prefix("Version:"))
            .with_context(|| format!("apt-cache gives no version for `{package}`"))?;
        Ok(version.trim().to_owned())
    }

    /// Downloads these packages alone into the folder `debs`, which exists.
    ///
    /// # Errors
    /// When apt fails.
    pub fn download(&self, packages: &[String], debs: &Path) -> Result<()> {
        stdout_of(self.apt("apt-get")?.current_dir(debs).arg("download").args(packages)).map(drop)
    }

    /// Downloads these packages, and all that they depend on, into the folder `debs`, which exists.
    ///
    /// # Errors
    /// When apt fails.
    pub fn download_with_dependencies(&self, packages: &[&str], debs: &Path) -> Result<()> {
        let partial = debs.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("failed to create `{}`", partial.display()))?;
        let archives = format!("Dir::Cache::archives={}", debs.display());
        // To apt nothing is installed here, so that everything is wanted; nor will it be, so nothing is locked.
        let mut install = self.apt("apt-get")?;
        install.args(["install", "--download-only", "--yes", "--no-install-recommends"]);
        install.args(["-o", "Debug::NoLocking=true", "-o", &archives]);
        stdout_of(install.args(packages)).map(drop)
    }

    /// Downloads the sources of a package into the folder `to`, which exists. apt checks what it downloads against the
    /// signed list.
    ///
    /// # Errors
    /// When apt fails.
    pub fn download_source(&self, package: &str, to: &Path) -> Result<()> {
        let mut source = self.apt("apt-get")?;
        stdout_of(source.current_dir(to).args(["source", "--download-only", "--only-source", package]))
            .map(drop)
    }

    /// A command of apt's on this suite.
    ///
    /// # Errors
    /// When apt is not here.
    pub fn apt(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(tool(name)?);
        command.env("LC_ALL", "C").arg("-c").arg(self.home.join("apt.conf"));
        Ok(command)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.home.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))
    }
}

/// Unpacks all packages of the folder `debs` into `root`.
///
/// # Errors
/// When one cannot be unpacked.
pub fn unpack(debs: &Path, root: &Path) -> Result<()> {
    for deb in fs::read_dir(debs).with_context(|| format!("failed to list `{}`", debs.display()))? {
        let deb = deb?.path();
        if deb.extension().is_some_and(|ending| ending == "deb") {
            stdout_of(Command::new(tool("dpkg-deb")?).arg("-x").arg(deb).arg(root))?;
        }
    }
    Ok(())
}

/// On one line: apt explains itself on several.
#[must_use]
pub fn left_out(suite: &str, error: &anyhow::Error) -> String {
    let why = format!("{error:#}");
    format!("suite `{suite}` is left out: {}", why.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// apt.conf(5), apt 2.6. Read after the system's own configuration, so proxies and credentials still hold,
/// while the system's hooks after an update are cleared: they would tidy and reindex the system's own lists.
fn configuration(home: &Path) -> String {
    let home = home.display();
    format!(
        "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         Dir::Etc::sourcelist \"{home}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::State \"{home}\";\nDir::State::lists \"{home}/lists\";\nDir::State::status \"/dev/null\";\n\
         Dir::Cache \"{home}/cache\";\n\
         APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Default-Release \"\";\n\
         APT::Sandbox::User \"\";\nAPT::Update::Error-Mode \"any\";\n\
         Acquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n\
         Acquire::http::Timeout \"30\";\nAcquire::https::Timeout \"30\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
    )
}
