//! The numbers of tracepoints, from tracefs. Where the host has it mounted, from there; else from an instance
//! of our own that is attached to no directory (`fsopen(2)`, Linux 5.2), so that the host stays as it is.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Where distributions mount it.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

#[derive(Debug)]
pub(super) enum TraceFs {
    Mounted(PathBuf),
    Detached(OwnedFd),
}

impl TraceFs {
    pub(super) fn open() -> io::Result<Self> {
        let mounted = MOUNTED.iter().map(Path::new).find(|path| path.join("events").is_dir());
        match mounted {
            Some(path) => Ok(Self::Mounted(path.to_owned())),
            None => detached().map(Self::Detached),
        }
    }

    /// The number of a tracepoint, for `perf_event_open`.
    pub(super) fn number(&self, category: &str, name: &str) -> io::Result<u64> {
        let path = format!("events/{category}/{name}/id");
        let mut file = match self {
            Self::Mounted(root) => File::open(root.join(path))?,
            Self::Detached(root) => {
                use nix::fcntl::{OFlag, openat};
                let file = openat(
                    root,
                    path.as_str(),
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    nix::sys::stat::Mode::empty(),
                )?;
                File::from(file)
            }
        };
        let mut text = String::new();
        file.by_ref().take(64).read_to_string(&mut text)?;
        text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
    }
}

fn detached() -> io::Result<OwnedFd> {
    /// `FSCONFIG_CMD_CREATE` of the kernel's `include/uapi/linux/mount.h`.
    const CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is a C string; the call takes no other pointer.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOEXEC) })?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the command `CREATE` takes neither key nor value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, null, null, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no pointer.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) })
}

/// A new descriptor from a system call's result.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
