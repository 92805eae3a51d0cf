//! Processes that cannot be watched: each gets one clear line.

use crate::interpreters::Running;
use pyapm::python::{PythonError, inspect};
use std::path::PathBuf;
use std::process::Command;

/// The versions before 3.8 that this machine has, said by their names.
#[test]
fn versions_that_are_too_old() {
    let root = PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".pyenv/versions");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().into_string().unwrap();
        if !["2.", "3.6", "3.7"].iter().any(|old| name.starts_with(old)) {
            continue;
        }
        let mut command = Command::new(entry.path().join("bin/python"));
        command.arg("-c").arg("import sys; print('ready'); sys.stdout.flush(); sys.stdin.read()");
        let running = Running::start(command);
        let error = inspect(running.pid()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PythonError::Unsupported { .. }), "{name}: {text}");
        assert!(text.contains(&format!("Python {name} ")) && text.contains("3.8 to 3.15"), "{text}");
        seen.push(name);
    }
    println!("too old: {seen:?}");
}

#[test]
fn not_python_at_all() {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg("echo ready; read line");
    let running = Running::start(command);
    let error = inspect(running.pid()).unwrap_err();
    assert!(matches!(error, PythonError::NotPython { .. }), "{error}");
    let pid = running.pid();
    drop(running);
    assert!(matches!(inspect(pid), Err(PythonError::NoSuchProcess { .. })));
}
