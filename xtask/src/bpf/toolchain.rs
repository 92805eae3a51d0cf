//! The compiler that can build for the BPF target: it needs the sources of `core`, because nobody ships
//! `core` compiled for BPF. Finds one; installs nothing (that is `cargo xtask setup`).

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler, its cargo and the linker, with the versions that the record names.
#[derive(Clone, Debug)]
pub struct Toolchain {
    kind: Kind,
    pub sysroot: PathBuf,
    pub linker: PathBuf,
    /// `llvm-objcopy`: takes the DWARF out, which is nine tenths of the object and which nobody reads.
    pub objcopy: PathBuf,
    pub rustc_version: String,
    pub cargo_version: String,
    pub linker_version: String,
    pub objcopy_version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Debian's `rustc-web cargo-web rust-web-src`: a stable compiler that is told to act as a nightly.
    Debian,
    /// rustup's nightly with the component `rust-src`.
    Nightly,
}

impl Toolchain {
    /// Debian's packages when they are there, else rustup's nightly.
    ///
    /// # Errors
    /// When neither has the sources of `core`, or there is no `bpf-linker`.
    pub fn find() -> Result<Self> {
        let linker = workspace::find_program("bpf-linker")
            .context("no `bpf-linker` on the path; try `cargo xtask setup --only bpf`")?;
        let linker_version = workspace::read(Command::new(&linker).arg("--version"))?;
        for kind in [Kind::Debian, Kind::Nightly] {
            let Ok(sysroot) = workspace::read(kind.rustc().args(["--print", "sysroot"])) else { continue };
            let sysroot = PathBuf::from(sysroot);
            if !has_core_sources(&sysroot) {
                continue;
            }
            let objcopy = find_objcopy(&sysroot)
                .context("no `llvm-objcopy`: it is in LLVM and in rustup's component `llvm-tools`")?;
            let objcopy_version = workspace::read(Command::new(&objcopy).arg("--version"))?;
            return Ok(Self {
                kind,
                objcopy_version: llvm_version(&objcopy_version),
                objcopy,
                sysroot,
                rustc_version: workspace::read(kind.rustc().arg("--version"))?,
                cargo_version: workspace::read(kind.cargo().arg("--version"))?,
                linker_version,
                linker,
            });
        }
        bail!(
            "no Rust toolchain with the sources of `core`: neither /usr/bin/rustc with `rust-web-src` nor rustup's \
             nightly with `rust-src`; try `cargo xtask setup --only bpf`"
        )
    }

    /// This toolchain's cargo, with an environment in which nothing of the calling cargo is left.
    #[must_use]
    pub fn cargo(&self) -> Command {
        self.kind.cargo()
    }
}

impl Kind {
    fn rustc(self) -> Command {
        let mut command = match self {
            Self::Debian => Command::new("/usr/bin/rustc"),
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "rustc"]);
                command
            }
        };
        clean(&mut command);
        command
    }

    fn cargo(self) -> Command {
        let mut command = match self {
            Self::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                clean(&mut command);
                // A stable compiler takes `-Z build-std` only when told so.
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                return command;
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
        };
        clean(&mut command);
        command
    }
}

/// Takes out what the calling cargo and rustup left in the environment: it would select their compiler, or
/// change the flags and with them the bytes of the object.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let keep = ["CARGO_HOME", "RUSTUP_HOME", "CARGO_HTTP", "CARGO_NET", "CARGO_REGISTR", "CARGO_SOURCE"];
        let owned = text.starts_with("CARGO") || text.starts_with("RUST");
        if owned && !keep.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// LLVM's own folder, then what rustup's component brings, then the path.
fn find_objcopy(sysroot: &Path) -> Option<PathBuf> {
    let tools = "lib/rustlib/x86_64-unknown-linux-gnu/bin/llvm-objcopy";
    let known = [PathBuf::from("/usr/lib/llvm-22/bin/llvm-objcopy"), sysroot.join(tools)];
    known.into_iter().find(|file| file.is_file()).or_else(|| workspace::find_program("llvm-objcopy"))
}

/// The line of `--version` that holds the version; the others are a name and a licence.
fn llvm_version(text: &str) -> String {
    let line = text.lines().find(|line| line.contains("version")).unwrap_or(text);
    format!("llvm-objcopy {}", line.split("version").nth(1).unwrap_or(line).trim())
}

fn has_core_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
}
