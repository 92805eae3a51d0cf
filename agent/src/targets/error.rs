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
    NotPython {
        pid: u32,
        exe: PathBuf,
        /// The nearest Python process that it, or a child of it, has started.
        below: Option<u32>,
    },
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
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotPython { below: Some(below), .. } => {
                return Some(format!("process {below}, which it started, is Python: try `--pid {below}`"));
            }
            Self::NoSuchProcess { .. } | Self::KernelThread { .. } | Self::NotPython { .. } => {
                "`pyapm ps` lists the Python applications of this host"
            }
            Self::Ended { .. } => "give the application's master, which lives longer than its workers",
            Self::Denied { .. } => {
                "run it as root, for example with `sudo`; a process that holds more capabilities than pyapm is \
                 closed even to root"
            }
            Self::Read { .. } | Self::List { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// Of a read that failed after the process had been seen.
    pub(crate) fn reading(pid: u32, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Ended { pid },
            io::ErrorKind::PermissionDenied => Self::Denied { pid, source },
            _ => Self::Read { pid, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_fail_midway() {
        let of = |kind: io::ErrorKind| TargetError::reading(7, kind.into());
        assert!(matches!(of(io::ErrorKind::NotFound), TargetError::Ended { pid: 7 }));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), TargetError::Denied { pid: 7, .. }));
        assert!(matches!(of(io::ErrorKind::InvalidData), TargetError::Read { pid: 7, .. }));
    }
}
