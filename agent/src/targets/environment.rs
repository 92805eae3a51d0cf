//! Variables of a process's environment. `/proc/PID/environ` shows the memory in which the program found them
//! when it started, and a title (gunicorn and Celery with `setproctitle`) is written over just that memory.
//! The C library's own list, `environ(7)`, still has them then: it is read from outside, bounded.

use super::procfs::ProcFs;
use crate::binaries::{FileId, Image, mappings};
use std::collections::HashMap;

/// Variables looked at, and bytes of each.
const MAX_VARIABLES: usize = 4096;
const MAX_LENGTH: usize = 4096;
/// Files whose answers are kept; beyond that the memory starts anew.
const MAX_FILES: usize = 1024;

/// Reads variables; remembers which files keep the list.
#[derive(Debug, Default)]
pub(super) struct Environments {
    /// Address, before relocation, of the exported `environ`, where the file has one.
    lists: HashMap<FileId, Option<u64>>,
}

impl Environments {
    /// The first of these variables that is set and not empty, with its place among `names`. What cannot be
    /// read is not set.
    pub(super) fn first(&mut self, procfs: &ProcFs, pid: u32, names: &[&str]) -> Option<(usize, String)> {
        let at_start = procfs.environment(pid).ok()?;
        if let Some(found) = first_of(&at_start, names) {
            return Some(found);
        }
        // Every entry of an environment has a `=`. One without was written over.
        let overwritten = at_start.iter().any(|entry| !entry.contains(&b'=')) || at_start.is_empty();
        if !overwritten {
            return None;
        }
        let now = self.current(procfs, pid)?;
        first_of(&now, names)
    }

    /// The C library's list as it is now. `None` when there is no C library to be found, as in a statically
    /// linked executable.
    fn current(&mut self, procfs: &ProcFs, pid: u32) -> Option<Vec<Vec<u8>>> {
        let mut pointer = procfs.read_u64(pid, self.list_address(pid)?)?;
        let mut entries = Vec::new();
        for _ in 0..MAX_VARIABLES {
            let entry = procfs.read_u64(pid, pointer).filter(|entry| *entry != 0);
            let Some(entry) = entry else { break };
            let bytes = procfs.memory(pid, entry, MAX_LENGTH);
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            entries.push(bytes[..end].to_vec());
            pointer = pointer.checked_add(8)?;
        }
        Some(entries)
    }

    /// The first file in address order that defines `environ`: an executable that refers to it holds the
    /// one that counts (a copy relocation), and lies before the libraries; else it is the C library's.
    fn list_address(&mut self, pid: u32) -> Option<u64> {
        for mapping in mappings(pid).ok()?.iter().filter(|mapping| mapping.executable) {
            let Some(file) = mapping.file else { continue };
            if self.lists.get(&file) == Some(&None) {
                continue;
            }
            let Ok(image) = Image::open(&mapping.reachable(pid)) else { continue };
            let list = image.exported("environ").map(|symbol| symbol.address);
            if self.lists.len() == MAX_FILES {
                self.lists.clear();
            }
            self.lists.insert(file, list);
            if let Some(list) = list {
                return Some(list.wrapping_add(image.bias(mapping)?));
            }
        }
        None
    }
}

fn first_of(entries: &[Vec<u8>], names: &[&str]) -> Option<(usize, String)> {
    names.iter().enumerate().find_map(|(place, name)| {
        let value = entries.iter().find_map(|entry| {
            entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").filter(|value| !value.is_empty())
        })?;
        Some((place, String::from_utf8_lossy(value).into_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::live::Tree;

    /// Overwrites the memory of its own environment as a title does, and keeps one variable elsewhere.
    const OVERWRITES: &str = "
import ctypes, os, time
with open('/proc/self/stat') as file:
    fields = file.read().rsplit(')', 1)[1].split()
start, end = int(fields[47]), int(fields[48])
os.environ['PYAPM_TEST_KEPT'] = 'till'
ctypes.memset(start, 0, end - start)
print(os.getpid(), flush=True)
time.sleep(600)
";

    #[test]
    fn read_although_a_title_was_written_over_it() {
        let tree = Tree::python("titled", OVERWRITES);
        let procfs = ProcFs::new();
        let mut environments = Environments::default();
        assert!(procfs.environment(tree.pid()).unwrap().iter().all(|entry| !entry.contains(&b'=')));
        for _ in 0..2 {
            let found = environments.first(&procfs, tree.pid(), &["PYAPM_TEST_NONE", "PYAPM_TEST_KEPT"]);
            assert_eq!(found, Some((1, "till".to_owned())));
        }
        assert_eq!(environments.first(&procfs, tree.pid(), &["PYAPM_TEST_NONE"]), None);
    }

    #[test]
    fn of_this_process() {
        let mut environments = Environments::default();
        let found = environments.first(&ProcFs::new(), std::process::id(), &["PATH"]);
        assert_eq!(found, std::env::var("PATH").ok().map(|value| (0, value)));
        assert_eq!(environments.first(&ProcFs::new(), u32::MAX, &["PATH"]), None);
    }

    #[test]
    fn order_of_names_decides_and_empty_is_not_set() {
        let entries = [&b"B=2"[..], b"A=1", b"C=", b"=", b"AB=3"].map(<[u8]>::to_vec);
        assert_eq!(first_of(&entries, &["A", "B"]), Some((0, "1".to_owned())));
        assert_eq!(first_of(&entries, &["C", "B"]), Some((1, "2".to_owned())));
        assert_eq!(first_of(&entries, &["C", "D"]), None);
    }
}
