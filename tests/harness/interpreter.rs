//! Every interpreter that can be had: those that the set-up unpacks from other suites of the distribution, each in a
//! root of its own, the machine's own, what pyenv and uv have built, and free-threaded builds wherever they are from. And
//! scripts that run under them.

use crate::guard::Guard;
use crate::place::{root, workloads};
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Versions that a machine that has been set up always has, with a static and with a shared interpreter.
pub const GUARANTEED: [u8; 5] = [9, 11, 13, 14, 15];
/// All versions that pyapm understands.
pub const ALL: std::ops::RangeInclusive<u8> = 8..=15;
/// Of these, those that can be built without the GIL.
pub const FREE_THREADED: std::ops::RangeInclusive<u8> = 13..=15;

/// A build of Python 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// 13 of `3.13`.
    pub minor: u8,
    /// Whether the interpreter is in a libpython, not in the executable.
    pub shared: bool,
    /// Whether it was built without the GIL.
    pub free_threaded: bool,
    /// Where it is from: `trixie-3.13.5-2`, `pyenv-3.8.18`.
    pub origin: String,
    home: Home,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    /// On this machine, as it is.
    Machine { program: PathBuf },
    /// In a root of its own, to be run in a mount namespace of its own: `program` is the path there.
    Root { root: PathBuf, program: PathBuf },
}

impl std::fmt::Display for Interpreter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let build = if self.shared { "shared" } else { "static" };
        let threads = if self.free_threaded { "t" } else { "" };
        write!(formatter, "3.{}{threads} {build} ({})", self.minor, self.origin)
    }
}

impl Interpreter {
    /// Every interpreter of this machine, by version.
    ///
    /// # Errors
    /// When one of the [`GUARANTEED`] is not here.
    pub fn all() -> Result<Vec<Self>> {
        let found = found();
        for minor in GUARANTEED {
            for shared in [false, true] {
                ensure!(
                    found.iter().any(|one| one.is(minor, shared, false)),
                    "no {} Python 3.{minor}; try `cargo xtask setup --only python`",
                    if shared { "shared" } else { "static" }
                );
            }
        }
        Ok(found)
    }

    fn is(&self, minor: u8, shared: bool, free_threaded: bool) -> bool {
        (self.minor, self.shared, self.free_threaded) == (minor, shared, free_threaded)
    }

    /// The machine's own, whose executable holds the interpreter.
    ///
    /// # Errors
    /// When it is not here.
    pub fn of_machine() -> Result<Self> {
        let own = found().into_iter().find(|one| one.origin == OF_MACHINE);
        own.context("no Python of the distribution; try `cargo xtask setup --only python`")
    }

    /// The executable, as it is seen from outside.
    #[must_use]
    pub fn executable(&self) -> PathBuf {
        match &self.home {
            Home::Machine { program } => program.clone(),
            Home::Root { root, program } => root.join(program.strip_prefix("/").unwrap_or(program)),
        }
    }

    /// The root that it lives in, where that is not the machine's.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        match &self.home {
            Home::Machine { .. } => None,
            Home::Root { root, .. } => Some(root),
        }
    }

    /// A command that runs a script of `workloads/pythons`, which is given the folder `scratch` as it sees it. The
    /// process that is started becomes the interpreter.
    #[must_use]
    pub fn command(&self, script: &str, scratch: &Path) -> Command {
        match &self.home {
            Home::Machine { program } => {
                let mut command = Command::new(program);
                command.arg("-B").arg(workloads().join("pythons").join(script)).arg(scratch);
                command
            }
            Home::Root { root, program } => {
                let mut command = in_root(root, scratch, &[]);
                command.arg(program).arg("-B").arg(Path::new("/mnt").join(script)).arg("/tmp");
                command
            }
        }
    }
}

const OF_MACHINE: &str = "the machine's own";

/// Runs what is appended in this root, in a mount namespace of its own (and others, by options of `unshare(1)`), with
/// `workloads/pythons` at `/mnt` and `scratch` at `/tmp`. Nothing is left mounted when it has ended.
#[must_use]
pub fn in_root(root: &Path, scratch: &Path, options: &[&str]) -> Command {
    const ENTER: &str = "set -e; mount -t proc proc \"$1/proc\"; mount --rbind /dev \"$1/dev\"\n\
        mount --bind \"$2\" \"$1/mnt\"; mount --bind \"$3\" \"$1/tmp\"\n\
        root=$1; shift 3; exec chroot \"$root\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).args(options);
    command.args(["sh", "-c", ENTER, "sh"]);
    command.arg(root).arg(workloads().join("pythons")).arg(scratch);
    // Of this process's environment only the path means something there.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// What is on this machine, sorted by version.
#[must_use]
pub fn found() -> Vec<Interpreter> {
    let mut found = Vec::new();
    for (folder, name) in entries(&root().join("target/pyapm/pythons")) {
        let Some(minor) = name.split_once("-3.").and_then(|(_, rest)| minor(rest)) else { continue };
        if !folder.join("packages").is_file() {
            continue;
        }
        for (shared, ending) in [(false, ""), (true, "-shared")] {
            let program = PathBuf::from(format!("/usr/bin/python3.{minor}{ending}"));
            let home = Home::Root { root: folder.clone(), program };
            found.push(Interpreter { minor, shared, free_threaded: false, origin: name.clone(), home });
        }
    }
    for minor in ALL {
        let program = PathBuf::from(format!("/usr/bin/python3.{minor}"));
        if program.is_file() {
            found.push(Interpreter {
                minor,
                shared: false,
                free_threaded: false,
                origin: OF_MACHINE.to_owned(),
                home: Home::Machine { program },
            });
        }
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let pyenv = std::env::var_os("PYENV_ROOT").map_or_else(|| home.join(".pyenv"), PathBuf::from);
    for (builder, folder) in [
        ("pyenv", pyenv.join("versions")),
        ("uv", home.join(".local/share/uv/python")),
        ("built", root().join("target/pyapm/free-threaded")),
    ] {
        for (folder, name) in entries(&folder) {
            let version = name.strip_prefix("cpython-").unwrap_or(&name);
            let Some(minor) = version.strip_prefix("3.").and_then(minor) else { continue };
            // Builds without the GIL have a name of their own, and the other one as well.
            let free_threaded = folder.join(format!("bin/python3.{minor}t")).is_file();
            let threads = if free_threaded { "t" } else { "" };
            let program = folder.join(format!("bin/python3.{minor}{threads}"));
            // A link to another version's folder would be the same build again.
            if !program.is_file() || folder.is_symlink() {
                continue;
            }
            // pyenv links the executable to the library where it builds one; uv's executables hold it all.
            let library = folder.join(format!("lib/libpython3.{minor}{threads}.so.1.0"));
            let shared = builder == "pyenv" && library.is_file();
            let origin = format!("{builder}-{name}");
            found.push(Interpreter { minor, shared, free_threaded, origin, home: Home::Machine { program } });
        }
    }
    let more = std::env::var_os("PYAPM_TEST_PYTHONS").unwrap_or_default();
    for program in std::env::split_paths(&more) {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(minor) = name.strip_prefix("python3.").and_then(minor) else { continue };
        let free_threaded = name.ends_with('t');
        if free_threaded && program.is_file() {
            let origin = program.display().to_string();
            found.push(Interpreter {
                minor,
                shared: false,
                free_threaded,
                origin,
                home: Home::Machine { program },
            });
        }
    }
    found.retain(|one| ALL.contains(&one.minor));
    let order = |one: &Interpreter| (one.minor, one.free_threaded, one.shared, one.origin.clone());
    found.sort_by_key(order);
    found
}

/// One line for each version and kind of build, for the end of a run of tests: which builds took part, and which there
/// are not.
#[must_use]
pub fn closing_lines() -> Vec<String> {
    let found = found();
    let line = |minor: u8, free_threaded: bool| {
        let [of_static, of_shared] = [false, true].map(|shared| {
            let origins: Vec<&str> = found
                .iter()
                .filter(|one| one.is(minor, shared, free_threaded))
                .map(|one| one.origin.as_str())
                .collect();
            if origins.is_empty() { "not found".to_owned() } else { origins.join(", ") }
        });
        let version = format!("3.{minor}{}", if free_threaded { "t" } else { "" });
        format!("Python {version:<5} static: {of_static}; shared: {of_shared}")
    };
    ALL.map(|minor| line(minor, false)).chain(FREE_THREADED.map(|minor| line(minor, true))).collect()
}

fn entries(folder: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned())).collect()
}

/// 13 of `13.5-2`.
fn minor(text: &str) -> Option<u8> {
    text.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
}

/// A script of `workloads/pythons` that has said `ready`. It is killed when this is dropped.
#[derive(Debug)]
pub struct Script {
    process: Guard,
    folder: TempDir,
}

impl Script {
    /// Starts the script.
    ///
    /// # Errors
    /// When it ends before it is ready.
    pub fn start(interpreter: &Interpreter, script: &str) -> Result<Self> {
        Self::start_with(script, |scratch| Ok(interpreter.command(script, scratch)))
    }

    /// Starts the script under each interpreter. None works on before all are ready: they would take the time from those
    /// that are still to come.
    ///
    /// # Errors
    /// When one ends before it is ready.
    pub fn start_all(interpreters: &[Interpreter], script: &str) -> Result<Vec<Self>> {
        let scripts = Self::start_all_paused(interpreters, script)?;
        scripts.iter().try_for_each(Self::resume)?;
        Ok(scripts)
    }

    /// As [`Script::start_all`], and leaves all of them paused.
    ///
    /// # Errors
    /// When one ends before it is ready.
    pub fn start_all_paused(interpreters: &[Interpreter], script: &str) -> Result<Vec<Self>> {
        let paused = |interpreter: &Interpreter| {
            let script = Self::start(interpreter, script)?;
            script.pause()?;
            Ok(script)
        };
        interpreters.iter().map(paused).collect()
    }

    /// Has it stand still, so that others have the CPUs for themselves.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Has it go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Starts a command that is made for the folder that the script may write to.
    ///
    /// # Errors
    /// When it ends before it is ready, or the command cannot be made.
    pub fn start_with(what: &str, command: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-script-").tempdir().context("no temporary folder")?;
        let mut command = command(folder.path())?;
        let process = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let mut script = Self { process, folder };
        wait::until(&format!("`{what}` to be ready"), || {
            let ready = script.process.log().lines().any(|line| line == "ready");
            if !ready {
                script.process.check_alive()?;
            }
            Ok(ready.then_some(()))
        })?;
        Ok(script)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The folder that it may write to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.process.ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(minor("13.5-2+deb13u5"), Some(13));
        assert_eq!(minor("9"), Some(9));
        assert_eq!(minor("x"), None);
    }

    #[test]
    fn each_version_has_its_closing_line() {
        let lines = closing_lines();
        assert_eq!(lines.len(), 11);
        assert!(lines[0].starts_with("Python 3.8 ") && lines[7].starts_with("Python 3.15 "), "{lines:?}");
        assert!(lines[8].starts_with("Python 3.13t ") && lines[10].starts_with("Python 3.15t "), "{lines:?}");
    }
}
