//! The command line: one file per command; no clap type goes past `args`. Data goes to stdout, everything else to
//! stderr.

mod args;
mod checks;
mod configuration;
mod dispatch;
mod doctor;
mod failure;
mod inspect;
mod options;
mod ps;
mod recording;
mod report;
mod reporting;
mod tls;

pub use dispatch::main;
pub use failure::Advice;
pub use inspect::{Inspection, Instruments};
pub use options::{
    AttachOptions, Destination, DoctorOptions, DumpOptions, Format, PsOptions, RecordOptions, ReportFormat,
    ReportOptions, RunOptions, Subject, TopOptions,
};
