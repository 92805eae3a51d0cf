//! Where things are: the workspace, the workloads, the built binary, the Python environments of the set-up.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// `tests/workloads`.
#[must_use]
pub fn workloads() -> PathBuf {
    root().join("tests/workloads")
}

/// The `pyapm` that is tested: `PYAPM_BINARY`, else the release build.
///
/// # Errors
/// When it has not been built.
pub fn binary() -> Result<PathBuf> {
    let file = std::env::var_os("PYAPM_BINARY").map_or_else(|| target().join("release/pyapm"), PathBuf::from);
    if !file.is_file() {
        bail!("no `{}`; try `cargo build --release --package pyapm`", file.display());
    }
    Ok(file)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where `cargo xtask setup` makes its environments, or those that are tested instead: `PYAPM_TEST_ENVIRONMENTS`.
#[must_use]
pub fn environments() -> PathBuf {
    std::env::var_os("PYAPM_TEST_ENVIRONMENTS").map_or_else(|| root().join("target/pyapm"), PathBuf::from)
}

/// A Python environment that `cargo xtask setup` has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// `venv-3.11`
    pub name: String,
    folder: PathBuf,
}

impl Python {
    /// All environments that are here, and to stderr the names of those that are not.
    ///
    /// # Errors
    /// When there is none at all.
    pub fn all() -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for name in ["venv-3.11", "venv-debian-3.11", "venv-3.13"] {
            match Self::named(name) {
                Ok(python) => found.push(python),
                Err(error) => eprintln!("NOT RUN on {name}: {error}"),
            }
        }
        if found.is_empty() {
            bail!("no Python environment at all; try `cargo xtask setup --only python`");
        }
        Ok(found)
    }

    /// The first environment that is here.
    ///
    /// # Errors
    /// When there is none.
    pub fn first() -> Result<Self> {
        Self::all()?.into_iter().next().context("no Python environment")
    }

    /// The environment that is in the variable `PYAPM_TEST_VENV`, else the first that is here.
    ///
    /// # Errors
    /// When there is none.
    pub fn chosen() -> Result<Self> {
        match std::env::var_os("PYAPM_TEST_VENV") {
            Some(folder) => Ok(Self { name: "chosen".to_owned(), folder: PathBuf::from(folder) }),
            None => Self::first(),
        }
    }

    /// The environment with all servers.
    ///
    /// # Errors
    /// When it is not here.
    pub fn with_servers() -> Result<Self> {
        Self::named("venv-servers")
    }

    /// The environment with queues and their clients.
    ///
    /// # Errors
    /// When it is not here.
    pub fn with_queues() -> Result<Self> {
        Self::named("venv-queues")
    }

    /// One environment.
    ///
    /// # Errors
    /// When it is not here.
    pub fn named(name: &str) -> Result<Self> {
        let folder = environments().join(name);
        if !folder.join("requirements.sha256").is_file() {
            bail!("no environment `{}`; try `cargo xtask setup --only python`", folder.display());
        }
        Ok(Self { name: name.to_owned(), folder })
    }

    /// A program of the environment: `python`, `gunicorn`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}

/// Interpreters of Python 3.8 to 3.15 on this machine, and those without the GIL, for workloads that need nothing but the standard library: pyenv's,
/// the distribution's, what `cargo xtask setup --free-threaded` has built, and those in the variable
/// `PYAPM_TEST_PYTHONS` (separated by colons). To stderr the versions that are not here.
///
/// # Errors
/// When there is none at all.
pub fn interpreters() -> Result<Vec<PathBuf>> {
    let pyenv = std::env::var_os("PYENV_ROOT").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv"),
        PathBuf::from,
    );
    let folders = [pyenv.join("versions"), environments().join("free-threaded")];
    let versions: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let mut found = Vec::new();
    let with_gil = (8..=15).map(|minor| format!("3.{minor}"));
    for version in with_gil.chain((13..=15).map(|minor| format!("3.{minor}t"))) {
        let name = format!("python{version}");
        let is_free_threaded = |folder: &Path| folder.join("bin").join(format!("{name}t")).is_file();
        let mut candidates: Vec<PathBuf> = versions
            .iter()
            // A build without the GIL has both names.
            .filter(|folder| !is_free_threaded(folder))
            .map(|version| version.join("bin").join(&name))
            .collect();
        candidates.push(Path::new("/usr/bin").join(&name));
        let more = std::env::var_os("PYAPM_TEST_PYTHONS").unwrap_or_default();
        candidates.extend(
            std::env::split_paths(&more)
                .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy() == name)),
        );
        candidates.retain(|path| path.is_file());
        if candidates.is_empty() {
            eprintln!("NOT RUN on Python {version}: no interpreter found");
        }
        found.extend(candidates);
    }
    if found.is_empty() {
        bail!("no Python 3.8 to 3.15 at all; try `cargo xtask setup`");
    }
    Ok(found)
}

/// A program of the system, also where the path of ordinary users lacks `sbin`.
///
/// # Errors
/// When it is nowhere.
pub fn system_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("no `{name}` on this machine; try `cargo xtask setup`"))
}
