//! The command line: one file per command; no clap type goes past this room.

mod options;

pub use options::{AttachOptions, DoctorOptions, Format, PsOptions};

use std::process::ExitCode;

/// Entry point of the binary.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
