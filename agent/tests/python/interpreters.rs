//! The interpreters on this machine, and scripts running under them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Where the scripts lie.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}

/// One command for each interpreter of Python 3.8 or later: pyenv's, the distribution's, those that the set-up has
/// unpacked from other suites, and those in the variable `PYAPM_TEST_PYTHONS` (separated by colons).
pub fn all() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for (prefix, minor) in pyenv() {
        if minor >= 8 {
            let without_gil = prefix.join("bin").join(format!("python3.{minor}t"));
            let name = format!("python3.{minor}");
            found.push(if without_gil.exists() { without_gil } else { prefix.join("bin").join(name) });
        }
    }
    found.extend(unpacked());
    found.extend((13..=15).map(|minor| built(minor).join(format!("bin/python3.{minor}t"))));
    found.extend((8..=15).map(|minor| PathBuf::from(format!("/usr/bin/python3.{minor}"))));
    if let Some(more) = std::env::var_os("PYAPM_TEST_PYTHONS") {
        found.extend(std::env::split_paths(&more));
    }
    found.retain(|path| path.exists());
    let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    assert!(names.iter().any(|name| name.contains("3.11")), "no Python 3.11 on this machine: {names:?}");
    found
}

/// Whether this interpreter is run by a C library of its own, through [`python`].
pub fn is_unpacked(interpreter: &Path) -> bool {
    root_of(interpreter).is_some()
}

/// Where `cargo xtask setup --free-threaded` puts what it builds.
fn built(minor: u8) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pyapm/free-threaded");
    folder.join(format!("3.{minor}t"))
}

/// Interpreters in roots of their own below `target/pyapm/pythons`, made by `cargo xtask setup`.
fn unpacked() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pyapm/pythons");
    let Ok(roots) = std::fs::read_dir(folder) else { return Vec::new() };
    let roots: Vec<PathBuf> = roots.filter_map(Result::ok).map(|entry| entry.path()).collect();
    let mut found: Vec<PathBuf> = roots
        .iter()
        .filter(|root| root.join("packages").is_file())
        .flat_map(|root| (8..=15).map(|minor| root.join(format!("usr/bin/python3.{minor}"))))
        .collect();
    found.sort();
    found
}

/// The root that an unpacked interpreter lies in.
fn root_of(interpreter: &Path) -> Option<&Path> {
    let root = interpreter.ancestors().nth(3)?;
    root.join("packages").is_file().then_some(root)
}

/// Prefixes of pyenv's versions of Python 3, with their minor version.
pub fn pyenv() -> Vec<(PathBuf, u8)> {
    let root = std::env::var_os("PYENV_ROOT").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(root.join("versions")) else { return Vec::new() };
    let mut found: Vec<(PathBuf, u8)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let minor = name.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
            Some((entry.path(), minor))
        })
        .collect();
    found.sort_by_key(|(_, minor)| *minor);
    found
}

/// A script that has said `ready`. It is killed when this is dropped.
pub struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { child, stdin, stdout };
        assert_eq!(running.line(), "ready", "{command:?}");
        running
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its output, without the line's end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs one of the scripts, with the environment of this process but for Python's own.
pub fn python(interpreter: &Path, script: &Path) -> Command {
    let Some(root) = root_of(interpreter) else {
        let mut command = Command::new(interpreter);
        command.arg("-I").arg("-B").arg(script);
        return command;
    };
    // Its own dynamic loader runs it, since it may need a newer C library than the machine has: the executable of the
    // process is then the loader. `-I` would leave `PYTHONHOME` out, too.
    let libraries = ["lib", "usr/lib"].map(|folder| root.join(folder).join("x86_64-linux-gnu"));
    let mut command = Command::new(root.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
    let path = std::env::join_paths(&libraries).unwrap();
    command.arg("--library-path").arg(path).arg(interpreter).arg("-s").arg("-B").arg(script);
    command.env("PYTHONHOME", root.join("usr"));
    command
}
