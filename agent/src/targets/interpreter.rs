//! Is there a CPython interpreter in a process? Told by what the mapped files hold, never by a name: an
//! executable called `python` may be a shell script's, and uwsgi is Python by the library it maps.

use crate::binaries::{FileId, Image, ImageError, Mapping, mappings};
use std::collections::HashMap;
use std::io;

/// Files whose answers are kept; beyond that the memory starts anew.
const MAX_FILES: usize = 16_384;

/// Answers for files, kept for as long as this lives: hundreds of processes map the same few dozen.
#[derive(Debug, Default)]
pub struct Interpreters {
    files: HashMap<FileId, bool>,
}

impl Interpreters {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// As reading the process's mappings: `NotFound` when it has ended, `PermissionDenied`.
    pub fn is_python(&mut self, pid: u32) -> io::Result<bool> {
        Ok(self.find(pid, &mappings(pid)?).is_some())
    }

    /// The mapping of the file that holds the interpreter.
    pub fn find<'a>(&mut self, pid: u32, mappings: &'a [Mapping]) -> Option<&'a Mapping> {
        let mut seen: Vec<FileId> = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.executable) {
            let Some(file) = mapping.file else { continue };
            // A file has several mappings, mostly neighbours.
            if seen.contains(&file) {
                continue;
            }
            seen.push(file);
            let holds = match self.files.get(&file) {
                Some(known) => *known,
                None => {
                    let Some(answer) = holds_interpreter(pid, mapping) else { continue };
                    if self.files.len() == MAX_FILES {
                        self.files.clear();
                    }
                    self.files.insert(file, answer);
                    answer
                }
            };
            if holds {
                return Some(mapping);
            }
        }
        None
    }
}

/// `_PyRuntime` is exported by every CPython since 3.7 (Include/internal/pycore_runtime.h); the section is
/// there since 3.13 (Python/pylifecycle.c). `None` when the file could not be opened now.
fn holds_interpreter(pid: u32, mapping: &Mapping) -> Option<bool> {
    match Image::open(&mapping.reachable(pid)) {
        Ok(image) => Some(image.exported("_PyRuntime").is_some() || image.section(".PyRuntime").is_some()),
        Err(ImageError::Parse { .. }) => Some(false),
        Err(ImageError::Open { .. }) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_not_python() {
        assert!(!Interpreters::new().is_python(std::process::id()).unwrap());
        assert!(Interpreters::new().is_python(u32::MAX).is_err());
    }
}
