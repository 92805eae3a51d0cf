//! Options as they are used: checked, and free of the command line's types.

use crate::outputs::profile;
use crate::profile::Mode;
use crate::transactions::sql;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// In which form `attach` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The view where stdout is a terminal, else text.
    Auto,
    View,
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// Any process of the application.
    pub pid: u32,
    pub format: Format,
    /// `None`: until interrupted or until the application ends.
    pub duration: Option<Duration>,
    /// On-CPU samples per second and CPU, 1 to 1000.
    pub rate_hz: u32,
    /// Threads tell what they wait for.
    pub waits: bool,
    /// Size of the ring between kernel and daemon: a power of two, 64 KiB to 1 GiB.
    pub ring_bytes: u32,
    /// How much of SQL statements is told.
    pub sql: sql::Mode,
    /// Colours are wanted: stdout is a terminal and `NO_COLOR` is not set.
    pub color: bool,
}

/// Whose time is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Processes that run already.
    Processes(Vec<u32>),
    /// Every process of the applications of this name.
    Application(String),
    /// A program and its arguments, to be started. Not empty.
    Program(Vec<OsString>),
}

/// Where a profile goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    pub subject: Subject,
    /// Children and forks are recorded too.
    pub subprocesses: bool,
    /// `None`: until interrupted or until everything that is recorded has ended.
    pub duration: Option<Duration>,
    /// Samples per second and CPU, 1 to 10,000.
    pub rate_hz: u32,
    pub mode: Mode,
    /// C, C++ and Rust frames too.
    pub native: bool,
    /// Threads that sleep all the time are kept, where waits are recorded.
    pub idle: bool,
    pub destination: Destination,
    pub format: profile::Format,
    pub look: profile::Look,
    /// Patterns of frames that a stack must have one of to be kept; empty for all stacks.
    pub include: Vec<String>,
    /// Patterns of frames that a stack must have none of to be kept.
    pub exclude: Vec<String>,
    /// Folded stacks that a flame graph is compared with.
    pub baseline: Option<PathBuf>,
    /// Size of the ring between kernel and daemon: a power of two, 4 KiB to 1 GiB.
    pub ring_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpOptions {
    pub pid: u32,
    /// All processes of the application that the process is of.
    pub application: bool,
    pub json: bool,
    /// Names and values of local variables too: they may be secret.
    pub locals: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// `None`: there is none, and everything is as by default.
    pub config: Option<PathBuf>,
}

/// The live view of an application that the service watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopOptions {
    pub socket: PathBuf,
    /// By name or number.
    pub application: Option<String>,
    /// Any of its processes.
    pub pid: Option<u32>,
    /// Only write which applications there are.
    pub list: bool,
    /// As for [`AttachOptions`].
    pub color: bool,
}

/// In which form `report` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    Text,
    Json,
    Html,
}

/// A past window, from the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportOptions {
    /// Wall clock.
    pub since_ns: u64,
    pub until_ns: u64,
    /// The window that it is compared with, since and until.
    pub compare: Option<(u64, u64)>,
    /// `None`: all.
    pub application: Option<String>,
    pub format: ReportFormat,
    /// `None`: to stdout.
    pub output: Option<PathBuf>,
    /// In each table.
    pub rows: usize,
    /// `None`: the configuration's.
    pub history: Option<PathBuf>,
    /// As for [`RunOptions`].
    pub config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PsOptions {
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoctorOptions {
    /// `None`: the host alone.
    pub pid: Option<u32>,
    pub json: bool,
}
