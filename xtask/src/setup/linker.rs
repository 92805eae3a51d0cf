//! `bpf-linker`, built by cargo against the LLVM that the compiler for the kernel half uses too.

use crate::workspace;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

const VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

/// Builds and installs it when it is missing or another version.
///
/// # Errors
/// When cargo cannot build it.
pub fn install() -> Result<()> {
    if let Some(program) = workspace::find_program("bpf-linker") {
        let found = workspace::read(Command::new(&program).arg("--version"))?;
        if found == format!("bpf-linker {VERSION}") {
            return Ok(());
        }
        eprintln!("setup: `{}` is {found}, wanted {VERSION}", program.display());
    }
    let mut command = workspace::cargo();
    command.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"]);
    if Path::new(LLVM).is_dir() {
        command.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM);
    }
    workspace::run(&mut command)
}
