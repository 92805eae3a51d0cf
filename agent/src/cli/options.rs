//! Options as they are used: checked, and free of the command line's types.

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
    /// Size of the ring between kernel and daemon: a power of two, 64 KiB to 1 GiB.
    pub ring_bytes: u32,
    /// Colours are wanted: stdout is a terminal and `NO_COLOR` is not set.
    pub color: bool,
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
