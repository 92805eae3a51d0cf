//! A file that is put aside when it is large or old: `name.1` is the last one, higher numbers are older. Whole lines
//! alone are written, each by one system call, so that no reader meets half a line.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How often it is looked whether the file was taken away by somebody else, such as logrotate.
const LOOK: Duration = Duration::from_secs(1);

/// When a file is put aside; 0 for never.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rotation {
    pub bytes: u64,
    pub age: Duration,
    /// Files that are kept beside the current one.
    pub keep: u32,
}

#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: std::fs::File,
    bytes: u64,
    /// Device and inode.
    identity: (u64, u64),
    /// Since when it is written to.
    begun: SystemTime,
    looked: Instant,
}

impl File {
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let open = Some(Open::at(&path)?);
        Ok(Self { path, rotation, open })
    }

    /// Writes a line, to a new file when it is time for one.
    ///
    /// # Errors
    /// When it cannot be written; the next line is tried anew.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let is_due = self.open.as_ref().is_some_and(|open| self.rotation.is_due(open, line.len()));
        if is_due {
            self.open = None;
            self.put_aside()?;
        }
        let mut open = match self.open.take() {
            Some(open) if !open.was_taken_away(&self.path) => open,
            _ => Open::at(&self.path)?,
        };
        if open.looked.elapsed() >= LOOK {
            open.looked = Instant::now();
        }
        open.file.write_all(line)?;
        open.bytes = open.bytes.saturating_add(line.len() as u64);
        self.open = Some(open);
        Ok(())
    }

    fn put_aside(&self) -> io::Result<()> {
        if self.rotation.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.rotation.keep).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name: OsString = self.path.clone().into();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Rotation {
    fn is_due(&self, open: &Open, more: usize) -> bool {
        let is_large =
            self.bytes > 0 && open.bytes > 0 && open.bytes.saturating_add(more as u64) > self.bytes;
        let is_old = !self.age.is_zero() && open.begun.elapsed().is_ok_and(|age| age >= self.age);
        is_large || is_old
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        // What was begun before the service started is as old as it is, where the file system knows that.
        let begun = metadata.created().unwrap_or_else(|_unknown| SystemTime::now());
        Ok(Self {
            file,
            bytes: metadata.len(),
            identity: (metadata.dev(), metadata.ino()),
            begun,
            looked: Instant::now(),
        })
    }

    fn was_taken_away(&self, path: &Path) -> bool {
        self.looked.elapsed() >= LOOK
            && !std::fs::metadata(path)
                .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, bytes: u64, keep: u32) -> File {
        let rotation = Rotation { bytes, age: Duration::ZERO, keep };
        File::open(folder.join("log"), rotation).unwrap()
    }

    fn read(folder: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(folder.join(name)).ok()
    }

    #[test]
    fn no_line_is_cut_and_so_many_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path(), 20, 2);
        for number in 0..10 {
            file.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        // Two lines of seven bytes fit, a third does not.
        assert_eq!(read(folder.path(), "log").as_deref(), Some("line 8\nline 9\n"));
        assert_eq!(read(folder.path(), "log.1").as_deref(), Some("line 6\nline 7\n"));
        assert_eq!(read(folder.path(), "log.2").as_deref(), Some("line 4\nline 5\n"));
        assert_eq!(read(folder.path(), "log.3"), None);
        let mode = std::fs::metadata(folder.path().join("log")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_line_larger_than_a_file_has_one_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path(), 4, 1);
        for line in ["longer than four\n", "the next\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        assert_eq!(read(folder.path(), "log").as_deref(), Some("the next\n"));
        assert_eq!(read(folder.path(), "log.1").as_deref(), Some("longer than four\n"));
    }

    #[test]
    fn one_that_is_there_is_gone_on_with_and_an_old_one_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log"), "before\n").unwrap();
        let mut file = file(folder.path(), 0, 1);
        file.write(b"after\n").unwrap();
        assert_eq!(read(folder.path(), "log").as_deref(), Some("before\nafter\n"));
        file.rotation.age = Duration::from_nanos(1);
        file.write(b"new\n").unwrap();
        assert_eq!(read(folder.path(), "log").as_deref(), Some("new\n"));
        assert_eq!(read(folder.path(), "log.1").as_deref(), Some("before\nafter\n"));
    }

    #[test]
    fn one_that_was_taken_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path(), 0, 1);
        file.write(b"one\n").unwrap();
        std::fs::rename(folder.path().join("log"), folder.path().join("mine")).unwrap();
        // As if a second had passed.
        file.open.as_mut().unwrap().looked -= LOOK;
        file.write(b"two\n").unwrap();
        assert_eq!(read(folder.path(), "mine").as_deref(), Some("one\n"));
        assert_eq!(read(folder.path(), "log").as_deref(), Some("two\n"));
    }
}
