//! One build of the kernel half, in any copy of the workspace, to bytes that do not depend on where the copy
//! lies. It writes nothing outside the target folder it is given.

use super::toolchain::Toolchain;
use crate::workspace;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that is built.
pub const PACKAGE: &str = "pyapm-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// The release profile of the host unwinds and is not linked as one; the kernel's programs need the contrary.
/// Cargo has no profile per target, so the profile is set from the environment of this one build.
const PROFILE: [(&str, &str); 8] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
];

/// `debuginfo=2` is what the linker makes the BTF from; `--btf` makes it do so.
const FLAGS: [&str; 4] = ["-C", "debuginfo=2", "-C", "link-arg=--btf"];

/// Everything about the build that is not a path, as text for the hash of the sources.
#[must_use]
pub fn recipe() -> String {
    let profile: Vec<String> = PROFILE.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{TARGET} {} {}", profile.join(" "), FLAGS.join(" "))
}

/// Builds the workspace at `root` into `target` and returns the object's bytes.
///
/// # Errors
/// When cargo fails (its own words are on stderr) or the object cannot be read.
pub fn object(toolchain: &Toolchain, root: &Path, target: &Path) -> Result<Vec<u8>> {
    let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    // Paths are in the debug information and in panic messages; the later of two that match wins.
    let core = toolchain.sysroot.join("lib/rustlib/src/rust");
    let cargo_home = workspace::cargo_home()?;
    let mut remapped = vec![(cargo_home.clone(), "/cargo"), (root.to_path_buf(), "/pyapm"), (core, "/rust")];
    remapped.extend(unpacked(&cargo_home).into_iter().map(|folder| (folder, "/crates")));
    for (path, name) in remapped {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    let mut command = toolchain.cargo();
    command
        .current_dir(root)
        .args(["build", "--release", "--package", PACKAGE, "--target", TARGET, "-Z", "build-std=core"])
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .envs(PROFILE);
    if let Some(folder) = toolchain.linker.parent() {
        // The linker is called by its name.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).context("a folder on the path has a colon in it")?);
    }
    workspace::run(&mut command)?;
    let built = target.join(TARGET).join("release").join(PACKAGE);
    // The BTF has been made from the DWARF by now, and stays.
    let stripped = built.with_extension("stripped");
    workspace::run(Command::new(&toolchain.objcopy).arg("--strip-debug").args([&built, &stripped]))?;
    std::fs::read(&stripped).with_context(|| format!("could not read `{}`", stripped.display()))
}

/// The folders of cargo's home into which it unpacks crates: one per registry, named after it and by a hash.
fn unpacked(cargo_home: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(cargo_home.join("registry/src")) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}
