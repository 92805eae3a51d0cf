//! Which BPF programs and links a process holds, and whether they still exist: by number, so that programs of
//! anybody else on the machine do not matter.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// `enum bpf_cmd` of include/uapi/linux/bpf.h.
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// `struct bpf_prog_info` up to the end of `name`, and where that is.
const PROG_INFO: usize = 80;
const NAME: std::ops::Range<usize> = 64..PROG_INFO;

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

    /// Names of the programs that still exist, as the kernel cuts them, at 15 bytes.
    ///
    /// # Errors
    /// When the kernel does not let us ask.
    pub fn names(&self) -> Result<BTreeSet<String>> {
        let programs = self.programs.iter().filter_map(|id| open(PROG_GET_FD_BY_ID, *id).transpose());
        programs.map(|program| name_of(&program?)).collect()
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
    Ok(open(command, id)?.is_some())
}

/// `union bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Asked {
    descriptor: RawFd,
    length: u32,
    info: *mut u8,
}

fn name_of(program: &OwnedFd) -> Result<String> {
    let mut info = [0_u8; PROG_INFO];
    let asked = Asked {
        descriptor: program.as_raw_fd(),
        length: PROG_INFO.try_into().context("a length out of range")?,
        info: info.as_mut_ptr(),
    };
    // SAFETY: the kernel reads `asked` for the length given, and writes at most `length` bytes to `info`, which has them.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const asked, std::mem::size_of_val(&asked))
    };
    if answer < 0 {
        bail!("could not ask the kernel for a program's name: {}", std::io::Error::last_os_error());
    }
    let name = info.get(NAME).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn open(command: libc::c_long, id: u32) -> Result<Option<OwnedFd>> {
    // `union bpf_attr` for these commands: the number, then `next_id` and `open_flags`, which are not used.
    let attributes: [u32; 4] = [id, 0, 0, 0];
    // SAFETY: the kernel reads `attributes` for the length given and writes nothing for these commands.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), std::mem::size_of_val(&attributes))
    };
    if answer >= 0 {
        let descriptor = RawFd::try_from(answer).context("a descriptor out of range")?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }));
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(None),
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
