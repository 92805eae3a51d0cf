//! Whether an interpreter runs machine code of its own making (`PYTHON_JIT`, from 3.13 on). Its frames are where they
//! always are, but the instruction in them is only brought up to date at some places: a line may be one that ran before.

use super::version::Version;
use crate::binaries::Mapping;
use crate::targets::ProcFs;

/// The first minor version that can be built with the compiler.
const SINCE: u8 = 13;

/// What is said of a process in which it may be on.
pub const JIT_NOTE: &str = "its JIT compiler is on, or other code made at run time is mapped: functions are right, but \
     the line of a frame that runs compiled code may be one that ran shortly before";

/// Whether the compiler is on, as far as can be seen from outside: it was asked for, or there is code that is of no file,
/// which may be another compiler's too.
#[must_use]
pub fn may_be_compiled(pid: u32, version: Version, mappings: &[Mapping]) -> bool {
    version.minor >= SINCE
        && (is_asked_for(&ProcFs::new().environment(pid).unwrap_or_default())
            || mappings.iter().any(|mapping| mapping.executable && mapping.path.as_os_str().is_empty()))
}

/// As `Python/pylifecycle.c` of CPython 3.13 has it: set, not empty and not beginning with `0`.
fn is_asked_for(environment: &[Vec<u8>]) -> bool {
    let values = environment.iter().filter_map(|entry| entry.strip_prefix(b"PYTHON_JIT="));
    values.into_iter().any(|value| value.first().is_some_and(|first| *first != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for() {
        let environment =
            |entries: &[&str]| entries.iter().map(|entry| entry.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(is_asked_for(&environment(&["HOME=/root", "PYTHON_JIT=1"])));
        for entries in [&["PYTHON_JIT=0"][..], &["PYTHON_JIT="], &["PYTHON_JITTER=1"], &[]] {
            assert!(!is_asked_for(&environment(entries)), "{entries:?}");
        }
    }
}
