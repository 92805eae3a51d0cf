//! What the commands want to know of a process beyond its place in an application. The functions behind these
//! types are handed in: `ps` and `doctor` need no interpreter and no kernel to be tested.

use crate::targets::{Libraries, Library, LibraryUser, TargetError};

/// What was found out about the interpreter of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// `3.11.7`; `None` when it could not be told.
    pub version: Option<String>,
    /// By which route a thread finds its thread state, or why its stacks cannot be read.
    pub thread_state: Result<String, String>,
    /// What is unusual about it, each a sentence.
    pub notes: Vec<String>,
    /// What of its event loops can be followed; `Err` when not all can. `None` when it has none.
    pub loops: Option<Result<String, String>>,
}

/// What the commands are given to look into processes with.
#[derive(Clone, Copy)]
pub struct Instruments<'a> {
    pub inspect: &'a dyn Fn(u32) -> Inspection,
    /// Loads the programs without attaching any; `None` leaves that check out of the doctor's report.
    pub load_programs: Option<&'a dyn Fn() -> anyhow::Result<()>>,
}

/// Native libraries that a process maps.
pub(super) fn libraries_of(libraries: &mut Libraries, pid: u32) -> Result<Vec<Library>, TargetError> {
    let mappings = crate::binaries::mappings(pid).map_err(|source| TargetError::reading(pid, source))?;
    Ok(libraries.find(pid, &mappings))
}

/// Files of a process that hold or call TLS libraries, among those that [`libraries_of`] has looked at.
pub(super) fn tls_users_of(libraries: &Libraries, pid: u32) -> Vec<LibraryUser> {
    // One that has ended meanwhile has none.
    crate::binaries::mappings(pid).map(|mappings| libraries.tls_users(pid, &mappings)).unwrap_or_default()
}
