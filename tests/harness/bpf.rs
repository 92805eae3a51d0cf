//! Which BPF programs and links a process holds, and whether they still exist: by number, so that programs of
//! anybody else on the machine do not matter.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// `enum bpf_cmd` of include/uapi/linux/bpf.h.
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const LINK_GET_FD_BY_ID: libc::c_long = 30;

/// Numbers of BPF objects, and how many perf events there are beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub programs: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
    pub perf_events: usize,
}

impl Held {
    /// What a process holds through its descriptors.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn by(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        for entry in
            std::fs::read_dir(format!("/proc/{pid}/fdinfo")).with_context(|| format!("no process {pid}"))?
        {
            let entry = entry.context("could not list descriptors")?;
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            let link = number(&text, "link_id:");
            // A link's entry names its program too.
            held.programs.extend(number(&text, "prog_id:"));
            held.links.extend(link);
            let target =
                std::fs::read_link(format!("/proc/{pid}/fd/{}", entry.file_name().to_string_lossy()));
            held.perf_events +=
                usize::from(target.is_ok_and(|target| target.ends_with("anon_inode:[perf_event]")));
        }
        Ok(held)
    }

    /// Those that still exist in the kernel.
    ///
    /// # Errors
    /// When the kernel does not let us ask.
    pub fn still_there(&self) -> Result<Self> {
        let mut left = Self::default();
        for id in &self.programs {
            if exists(PROG_GET_FD_BY_ID, *id)? {
                left.programs.insert(*id);
            }
        }
        for id in &self.links {
            if exists(LINK_GET_FD_BY_ID, *id)? {
                left.links.insert(*id);
            }
        }
        Ok(left)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.links.is_empty() && self.perf_events == 0
    }
}

fn number(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.trim().parse().ok())
}

fn exists(command: libc::c_long, id: u32) -> Result<bool> {
    // `union bpf_attr` for these commands: the number, then `next_id` and `open_flags`, which are not used.
    let attributes: [u32; 4] = [id, 0, 0, 0];
    // SAFETY: the kernel reads `attributes` for the length given and writes nothing for these commands.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), std::mem::size_of_val(&attributes))
    };
    if answer >= 0 {
        let descriptor = RawFd::try_from(answer).context("a descriptor out of range")?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(false),
        _ => bail!("could not ask the kernel for BPF object {id}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_fdinfo() {
        let text = "pos:\t0\nlink_type:\tperf_event\nlink_id:\t28\nprog_tag:\tabc\nprog_id:\t57\n";
        assert_eq!((number(text, "link_id:"), number(text, "prog_id:")), (Some(28), Some(57)));
        assert_eq!(number("pos:\t0\n", "link_id:"), None);
    }

    #[test]
    fn this_process_holds_nothing() {
        assert!(Held::by(std::process::id()).unwrap().is_empty());
    }
}
