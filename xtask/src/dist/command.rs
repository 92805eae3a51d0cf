//! The command: builds, packs, and proves the package in a clean Debian when it is asked to.

use super::{clean_root, deb};
use crate::workspace;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Builds the package; `binary` is packed instead of a new release build; `prove` installs it into a clean Debian and
/// starts the service there, which needs root.
///
/// # Errors
/// When the build, the packing or the proof fails.
pub fn run(binary: Option<&Path>, prove: bool) -> Result<()> {
    let package = package(binary)?;
    eprintln!("wrote {}", package.display());
    if prove { clean_root::prove(&package) } else { Ok(()) }
}

fn package(binary: Option<&Path>) -> Result<PathBuf> {
    let built = workspace::root().join("target/release/pyapm");
    let binary = match binary {
        Some(binary) => binary.to_path_buf(),
        None => {
            workspace::run(workspace::cargo().args(["build", "--release", "--package", "pyapm"]))?;
            built
        }
    };
    let folder = workspace::root().join("target/dist");
    std::fs::create_dir_all(&folder).with_context(|| format!("could not create `{}`", folder.display()))?;
    deb::build(&binary, &folder)
}
