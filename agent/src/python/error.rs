//! Why a process could not be understood as a Python interpreter: one clear line each.

use super::version::Version;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    #[error("no process with pid {pid}")]
    NoSuchProcess { pid: u32 },
    #[error("no permission to look into process {pid} (run as root)")]
    Permission { pid: u32 },
    #[error("process {pid} (`{executable}`) is not a CPython process: nothing mapped into it defines `_PyRuntime`", executable = executable.display())]
    NotPython { pid: u32, executable: PathBuf },
    #[error("process {pid} runs Python {version} (`{file}`), which is not supported: 3.8 to 3.15 are", file = file.display())]
    Unsupported { pid: u32, version: Version, file: PathBuf },
    #[error("the version of the interpreter of process {pid} (`{file}`) cannot be told", file = file.display())]
    VersionUnknown { pid: u32, file: PathBuf },
    #[error("Python {version} in process {pid} is not initialised yet (try again in a moment)")]
    NotInitialised { pid: u32, version: Version },
    #[error("the interpreter's state in process {pid} cannot be read")]
    Memory {
        pid: u32,
        #[source]
        source: super::memory::MemoryError,
    },
    #[error("cannot read the memory mappings of process {pid}")]
    Mappings {
        pid: u32,
        #[source]
        source: std::io::Error,
    },
}
