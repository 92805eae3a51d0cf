//! Why a process cannot be a target, each in one sentence, with what to try instead.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    #[error("no process has the pid {pid}")]
    NoSuchProcess { pid: u32 },
    #[error("process {pid} (`{name}`) is a thread of the kernel, not a program")]
    KernelThread { pid: u32, name: String },
    #[error("process {pid} is not a Python process: it runs `{exe}`")]
    NotPython { pid: u32, exe: PathBuf },
    #[error("process {pid} ended while it was looked at")]
    Ended { pid: u32 },
    #[error("not permitted to read process {pid}")]
    Denied {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot read process {pid}")]
    Read {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot list processes in `{root}`")]
    List {
        root: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl TargetError {
    /// What to try, as one sentence.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSuchProcess { .. } | Self::KernelThread { .. } | Self::NotPython { .. } => {
                Some("`pyapm ps` lists the Python applications of this host")
            }
            Self::Ended { .. } => Some("attach to the application's master, which lives longer"),
            Self::Denied { .. } => Some("run it as root, for example with `sudo`"),
            Self::Read { .. } | Self::List { .. } => None,
        }
    }

    /// Of a read that failed after the process had been seen.
    pub(super) fn read(pid: u32, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Ended { pid },
            io::ErrorKind::PermissionDenied => Self::Denied { pid, source },
            _ => Self::Read { pid, source },
        }
    }
}
