//! `/proc/PID/maps`, as `proc(5)` describes it.

use std::io;
use std::path::{Path, PathBuf};

/// One file, however many paths and mount namespaces lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Major and minor number as the maps file prints them.
    pub device: (u32, u32),
    pub inode: u64,
}

/// One line of the maps file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Offset in the file of the first byte.
    pub offset: u64,
    pub executable: bool,
    pub writable: bool,
    /// `None` for anonymous memory.
    pub file: Option<FileId>,
    /// As the kernel prints it for this reader; empty for anonymous memory.
    pub path: PathBuf,
    /// The file has been unlinked or replaced since it was mapped.
    pub deleted: bool,
}

impl Mapping {
    /// A path by which this very file can be opened from outside the process, whatever its mount
    /// namespace and root, and even when it has been deleted.
    ///
    /// The kernel prints paths as they are from the reader's root, as far as that can reach them (`d_path`, `fs/d_path.c`
    /// of Linux 6.18): in the process's own root the same path may be another file, or none.
    #[must_use]
    pub fn reachable(&self, pid: u32) -> PathBuf {
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let through_its_root = Path::new("/proc").join(pid.to_string()).join("root").join(inside);
        if !self.deleted {
            for path in [&through_its_root, &self.path] {
                if self.is_same_file(path) {
                    return path.clone();
                }
            }
        }
        // Always the right file, but for the privileged only (`proc_pid_map_files(5)`).
        let mapped = PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", self.start, self.end));
        if self.deleted || std::fs::metadata(&mapped).is_ok() { mapped } else { through_its_root }
    }

    /// By the inode: file systems in layers print other device numbers here than `stat(2)` gives.
    fn is_same_file(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let inode = std::fs::metadata(path).ok().map(|found| found.ino());
        inode.is_some() && inode == self.file.map(|file| file.inode)
    }
}

/// The mappings of a process, in address order.
///
/// # Errors
/// As reading the file: `NotFound` when the process does not exist, `PermissionDenied` without privilege.
pub fn mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    let text = std::fs::read(format!("/proc/{pid}/maps"))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// `start-end perms offset major:minor inode path`; `None` for a line of another shape.
fn parse(line: &[u8]) -> Option<Mapping> {
    use std::os::unix::ffi::OsStrExt;
    // Split off five fields by hand: the path may hold blanks, and need not be UTF-8.
    let mut rest = line;
    let mut fields = [&b""[..]; 5];
    for field in &mut fields {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        *field = &rest[..end];
        rest = rest[end..].trim_ascii_start();
    }
    let [range, permissions, offset, device, inode] = fields;
    let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let small_hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let inode: u64 = std::str::from_utf8(inode).ok()?.parse().ok()?;
    let (path, deleted) = match rest.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (rest, false),
    };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(std::str::from_utf8(offset).ok()?)?,
        executable: permissions.get(2) == Some(&b'x'),
        writable: permissions.get(1) == Some(&b'w'),
        file: (inode != 0).then_some(FileId { device: (small_hex(major)?, small_hex(minor)?), inode }),
        path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        deleted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_with_blanks_and_deletion() {
        let mapping =
            parse(b"7f00-7f10 r-xp 00001000 fe:00 1234                       /opt/my app/lib x.so (deleted)")
                .unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x7f00, 0x7f10, 0x1000));
        assert_eq!(mapping.path, Path::new("/opt/my app/lib x.so"));
        assert!(mapping.deleted && mapping.executable && !mapping.writable);
        assert_eq!(mapping.reachable(7), Path::new("/proc/7/map_files/7f00-7f10"));
    }

    #[test]
    fn anonymous_and_garbage() {
        let mapping = parse(b"7f00-7f10 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!(mapping.file, None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"zz"), None);
    }

    #[test]
    fn own_maps_hold_this_binary() {
        let own = std::env::current_exe().unwrap();
        assert!(mappings(std::process::id()).unwrap().iter().any(|m| m.path == own && m.executable));
    }
}
