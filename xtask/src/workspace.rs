//! Where the workspace is, and how commands are run in it. It knows no command of its own.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The root of the workspace: the folder above this package's.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Cargo's home: where `cargo install` puts binaries and where sources of dependencies are unpacked.
///
/// # Errors
/// When neither `CARGO_HOME` nor `HOME` is set.
pub fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = std::env::var_os("HOME").context("neither `CARGO_HOME` nor `HOME` is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// The cargo that runs this task: the same toolchain builds the rest.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo told this package about itself is not for the build it starts.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Writes the command to stderr and runs it with this task's own stdin, stdout and stderr.
///
/// # Errors
/// When it cannot be started or ends with anything but 0.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs the command silently and returns its stdout, trimmed.
///
/// # Errors
/// When it cannot be started or ends with anything but 0; its stderr is in the error.
pub fn read(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output: Output =
        command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first file of this name on `PATH` or in cargo's own folder of binaries.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = cargo_home().ok().map(|home| home.join("bin"));
    std::env::split_paths(&path).chain(own).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// All regular files below `folder`, as paths relative to it, sorted; `skip` names folders to leave out.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(folder: &Path, skip: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let here = folder.join(&relative);
        let entries =
            std::fs::read_dir(&here).with_context(|| format!("could not list `{}`", here.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("could not list `{}`", here.display()))?;
            let kind = entry.file_type().with_context(|| format!("could not read `{}`", here.display()))?;
            let path = relative.join(entry.file_name());
            if kind.is_dir() {
                if !skip.iter().any(|name| entry.file_name() == *name) {
                    open.push(path);
                }
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_lock_file() {
        assert!(root().join("Cargo.lock").is_file());
    }

    #[test]
    fn files_are_sorted_and_skipped_folders_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("b/target")).unwrap();
        for file in ["b/z.rs", "a.rs", "b/target/x"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let files = files_below(folder.path(), &["target"]).unwrap();
        assert_eq!(files, [PathBuf::from("a.rs"), PathBuf::from("b/z.rs")]);
    }

    #[test]
    fn a_failing_command_is_named_with_its_words() {
        let error = read(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("why") && error.contains('3'), "{error}");
    }
}
