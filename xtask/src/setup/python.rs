//! Virtual environments for the workloads, one per build of Python that is worth telling apart: a shared
//! libpython, Debian's static executable, and 3.13; and folders of packages, for builds that have nothing else: one of
//! those that are Python alone, and one of gevent for each version that is tested with it. It installs no interpreter but the
//! distribution's.

use crate::bpf::sources::hash_bytes;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One build of Python: the name of its environment, and where to look for its interpreter.
struct Build {
    name: &'static str,
    /// `3.11`
    version: &'static str,
    places: Places,
    /// Below `tests/workloads`.
    requirements: &'static str,
    /// Whether a machine that has been set up always has it.
    required: bool,
}

enum Places {
    /// The distribution's own.
    System,
    /// What pyenv has built, else what is on the path.
    Pyenv,
    /// What pyenv has built, else the distribution's.
    Any,
}

const SHOP: &str = "requirements.txt";
const SERVERS: &str = "requirements-servers.txt";
const LOOPS: &str = "requirements-loops.txt";
const AGENTS: &str = "requirements-agents.txt";
const QUEUES: &str = "requirements-queues.txt";
const OLD: &str = "requirements-loops-old.txt";
/// Packages in a folder, without an environment.
struct Site {
    name: &'static str,
    /// Below `tests/workloads`.
    requirements: &'static str,
    /// `3.9`: the Python that the folder is for, where there is more in it than Python.
    version: Option<&'static str>,
}

const GEVENT: &str = "requirements-gevent.txt";
const GEVENT_OLD: &str = "requirements-gevent-3.9.txt";

const SITES: [Site; 4] = [
    Site { name: "site-loops", requirements: "requirements-loops-pure.txt", version: None },
    Site { name: "site-gevent-3.9", requirements: GEVENT_OLD, version: Some("3.9") },
    Site { name: "site-gevent-3.11", requirements: GEVENT, version: Some("3.11") },
    Site { name: "site-gevent-3.13", requirements: GEVENT, version: Some("3.13") },
];
/// What wheels for another Python than the one that installs them may need of the machine: glibc, as old as it gets.
const PLATFORMS: [&str; 3] = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"];

const BUILDS: [Build; 9] = [
    Build { name: "venv-3.11", version: "3.11", places: Places::Pyenv, requirements: SHOP, required: false },
    Build {
        name: "venv-debian-3.11",
        version: "3.11",
        places: Places::System,
        requirements: SHOP,
        required: true,
    },
    Build { name: "venv-3.13", version: "3.13", places: Places::Pyenv, requirements: SHOP, required: false },
    Build {
        name: "venv-servers",
        version: "3.11",
        places: Places::Any,
        requirements: SERVERS,
        required: true,
    },
    Build { name: "venv-agents", version: "3.11", places: Places::Any, requirements: AGENTS, required: true },
    Build { name: "venv-queues", version: "3.11", places: Places::Any, requirements: QUEUES, required: true },
    Build {
        name: "loops-3.11",
        version: "3.11",
        places: Places::Pyenv,
        requirements: LOOPS,
        required: false,
    },
    Build {
        name: "loops-old-3.11",
        version: "3.11",
        places: Places::Pyenv,
        requirements: OLD,
        required: false,
    },
    Build {
        name: "loops-3.13",
        version: "3.13",
        places: Places::Pyenv,
        requirements: LOOPS,
        required: false,
    },
];

/// Where the environments are; the tests look for them there.
#[must_use]
pub fn folder() -> PathBuf {
    workspace::root().join("target/pyapm")
}

/// What pyapm is compared with; it is installed for the bench alone.
const PY_SPY: &str = "py-spy==0.4.3";

/// Where [`install_profilers`] puts it.
#[must_use]
pub fn py_spy() -> PathBuf {
    folder().join("venv-profilers/bin/py-spy")
}

/// Makes the environment of the profilers that pyapm is compared with.
///
/// # Errors
/// When the distribution's Python is missing, or pip fails.
pub fn install_profilers() -> Result<()> {
    let environment = folder().join("venv-profilers");
    let stamp = environment.join("profilers");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == PY_SPY) {
        return Ok(());
    }
    let own = BUILDS.iter().find(|build| build.required).and_then(Build::find);
    let own = own.context("no Python of the distribution; try `cargo xtask setup --only python`")?;
    workspace::run(Command::new(own).args(["-m", "venv"]).arg(&environment))?;
    workspace::run(Command::new(environment.join("bin/python")).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        PY_SPY,
    ]))?;
    std::fs::write(&stamp, PY_SPY).with_context(|| format!("could not write `{}`", stamp.display()))
}

/// Names of the builds that this machine does not have.
#[must_use]
pub fn not_here() -> Vec<&'static str> {
    let gone = |build: &&Build| !folder().join(build.name).join("bin/python").exists();
    BUILDS.iter().filter(gone).map(|build| build.name).collect()
}

/// Makes the environments that are missing or whose requirements have changed.
///
/// # Errors
/// When the distribution's Python is missing, or pip fails.
pub fn install() -> Result<()> {
    for build in &BUILDS {
        let (requirements, text) = required(build.requirements)?;
        let Some(interpreter) = build.find() else {
            anyhow::ensure!(!build.required, "no Python {} of the distribution", build.version);
            eprintln!("setup: no interpreter for {}: tests of it will say so and not run", build.name);
            continue;
        };
        environment(&folder().join(build.name), &interpreter, &requirements, &text)?;
    }
    SITES.iter().try_for_each(Site::install)?;
    receiver()
}

/// A file of requirements, and what it says.
fn required(name: &str) -> Result<(PathBuf, Vec<u8>)> {
    let path = workspace::root().join("tests/workloads").join(name);
    let text = std::fs::read(&path).with_context(|| format!("could not read `{}`", path.display()))?;
    Ok((path, text))
}

impl Site {
    fn install(&self) -> Result<()> {
        let folder = folder().join(self.name);
        let (requirements, text) = required(self.requirements)?;
        let stamp = folder.join("requirements.sha256");
        let wanted = hash_bytes(&text);
        if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("could not remove `{}`", folder.display()))?;
        }
        let mut pip = Command::new(self::folder().join("venv-debian-3.11/bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        if let Some(version) = self.version {
            pip.args(["--only-binary", ":all:", "--python-version", version]);
            PLATFORMS.iter().for_each(|platform| {
                pip.args(["--platform", platform]);
            });
        }
        workspace::run(pip.arg("--target").arg(&folder).arg("--requirement").arg(requirements))?;
        std::fs::write(&stamp, wanted).with_context(|| format!("could not write `{}`", stamp.display()))
    }
}

/// The environment of the OTLP receiver, which is no workload: pyapm never looks at it.
fn receiver() -> Result<()> {
    let requirements = workspace::root().join("tests/workloads/requirements-receiver.txt");
    let text = std::fs::read(&requirements)
        .with_context(|| format!("could not read `{}`", requirements.display()))?;
    environment(&folder().join("venv-receiver"), Path::new("/usr/bin/python3"), &requirements, &text)
}

fn environment(folder: &Path, interpreter: &Path, requirements: &Path, text: &[u8]) -> Result<()> {
    let stamp = folder.join("requirements.sha256");
    let wanted = format!("{}\n{}\n", interpreter.display(), hash_bytes(text));
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("could not remove `{}`", folder.display()))?;
    }
    workspace::run(Command::new(interpreter).args(["-m", "venv"]).arg(folder))?;
    // The driver's wheel would bring a library of its own; the distribution's is the one to be traced.
    workspace::run(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-binary", "mysqlclient", "--requirement"])
            .arg(requirements),
    )?;
    std::fs::write(&stamp, wanted).with_context(|| format!("could not write `{}`", stamp.display()))
}

impl Build {
    fn find(&self) -> Option<PathBuf> {
        let name = format!("python{}", self.version);
        let system = || Some(Path::new("/usr/bin").join(&name)).filter(|file| file.is_file());
        match self.places {
            Places::System => system(),
            Places::Any => self.in_pyenv().or_else(system),
            Places::Pyenv => self.in_pyenv().or_else(|| {
                // The distribution's is another build, with an environment of its own.
                workspace::find_program(&name).filter(|file| !is_below(file, "/usr/bin"))
            }),
        }
    }

    fn in_pyenv(&self) -> Option<PathBuf> {
        let home = std::env::var_os("PYENV_ROOT")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv")))?;
        let entries = std::fs::read_dir(home.join("versions")).ok()?;
        let prefix = format!("{}.", self.version);
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path().join("bin/python3"))
            .filter(|file| file.is_file())
            .collect();
        found.sort();
        found.pop()
    }
}

fn is_below(file: &Path, folder: &str) -> bool {
    std::fs::canonicalize(file).is_ok_and(|real| real.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_with_its_stamp_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = format!("/no/such/python\n{}\n", hash_bytes(b"Django==5\n"));
        std::fs::write(folder.path().join("requirements.sha256"), stamp).unwrap();
        let interpreter = Path::new("/no/such/python");
        environment(folder.path(), interpreter, Path::new("requirements.txt"), b"Django==5\n").unwrap();
        // Other requirements: it would be made anew, which this interpreter cannot do.
        environment(folder.path(), interpreter, Path::new("requirements.txt"), b"Django==6\n").unwrap_err();
    }
}
