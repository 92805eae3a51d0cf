//! The command: which parts there are, and in which order they are installed.

use super::{free_threaded, interpreters, linker, packages, python};
use crate::bpf::toolchain::Toolchain;
use anyhow::Result;

/// A part of the set-up that can be installed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The compiler and linker for the kernel half
    Bpf,
    /// MariaDB, wrk and tmux, for the tests and the demo
    Services,
    /// Virtual environments for the workloads, and interpreters of other versions
    Python,
    /// What boots other kernels
    Kernels,
}

const ALL: [Part; 4] = [Part::Bpf, Part::Services, Part::Python, Part::Kernels];

/// Builds interpreters without the GIL, with what that takes.
///
/// # Errors
/// When something is missing and cannot be installed, or none can be built.
pub fn free_threaded() -> Result<()> {
    packages::install(&packages::FREE_THREADED)?;
    free_threaded::install()?;
    eprintln!("setup: free-threaded interpreters are in `{}`", free_threaded::folder().display());
    Ok(())
}

/// Installs one part, or all.
///
/// # Errors
/// When something is missing and cannot be installed.
pub fn run(only: Option<Part>) -> Result<()> {
    let parts = only.map_or_else(|| ALL.to_vec(), |part| vec![part]);
    let mut wanted: Vec<&str> = Vec::new();
    for part in &parts {
        match part {
            // An ordinary rustup nightly does as well as the distribution's compiler.
            Part::Bpf if Toolchain::find().is_ok() => {}
            Part::Bpf => wanted.extend(packages::BPF),
            Part::Services => wanted.extend(packages::SERVICES),
            Part::Python => wanted.extend(packages::PYTHON),
            Part::Kernels => wanted.extend(packages::KERNELS),
        }
    }
    packages::install(&wanted)?;
    if parts.contains(&Part::Bpf) {
        linker::install()?;
    }
    if parts.contains(&Part::Python) {
        python::install()?;
        interpreters::install()?;
    }
    eprintln!("setup: everything is there");
    Ok(())
}
