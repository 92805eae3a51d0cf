//! The only place of this room that knows the strings of `/proc`. Reads one fact at a time about one
//! process and judges nothing. It takes its root as a path, so that tests can hand in a tree of files.
//!
//! Everything read here is hostile: a process writes its own command line, title and environment. Reads are
//! bounded, and what is not text is replaced.

use super::calls::Place;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Longest command line or environment that is read.
const MAX_BYTES: u64 = 256 * 1024;

/// A `/proc`, real or made up.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
}

/// Where `execve` put a program: copied by fork, drawn anew by exec. Equal in two processes of which one is
/// the other's child, it proves that there was no exec in between (address space layout randomisation
/// makes chance equality improbable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub start_code: u64,
    pub start_stack: u64,
    pub start_data: u64,
    pub start_brk: u64,
    pub arg_start: u64,
    pub env_start: u64,
}

/// Parts of `/proc/PID/stat`, `proc(5)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    /// At most 15 bytes; the process may have chosen it.
    pub comm: String,
    /// `R`, `S`, `D`, `Z` (zombie) ...
    pub state: char,
    pub ppid: u32,
    /// Clock ticks.
    pub user_time: u64,
    /// Clock ticks.
    pub system_time: u64,
    /// Clock ticks, of children that it has waited for, and theirs.
    pub children_user_time: u64,
    /// Clock ticks, of children that it has waited for, and theirs.
    pub children_system_time: u64,
    pub threads: u64,
    /// Clock ticks after boot.
    pub start_time: u64,
    pub rss_pages: u64,
    /// `None` for kernel threads and zombies, which have no memory, and where the kernel withholds it from
    /// us: addresses of other users' processes are shown to the privileged only.
    pub layout: Option<Layout>,
    flags: u64,
}

impl Stat {
    /// Ended, and not yet collected by its parent.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        /// `PF_KTHREAD`, include/linux/sched.h.
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }
}

impl Default for ProcFs {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcFs {
    #[must_use]
    pub fn new() -> Self {
        Self::at("/proc")
    }

    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, pid: u32, name: &str) -> PathBuf {
        let mut path = self.root.join(pid.to_string());
        path.push(name);
        path
    }

    fn read(&self, pid: u32, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match File::open(self.path(pid, name))?.take(MAX_BYTES).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // The process ended between open and read.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                Err(io::Error::new(io::ErrorKind::NotFound, error))
            }
            Err(error) => Err(error),
        }
    }

    /// Every process, in ascending order of pid.
    ///
    /// # Errors
    /// When the root cannot be listed.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids: Vec<u32> = std::fs::read_dir(&self.root)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// # Errors
    /// `NotFound` when there is no such process; `InvalidData` for a file of another shape.
    pub fn stat(&self, pid: u32) -> io::Result<Stat> {
        let text = self.read(pid, "stat")?;
        parse_stat(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of stat of process {pid}"))
        })
    }

    /// Pages of the address space without those of private memory that can be written: another number after a library
    /// has been mapped, and the same while only the heap and threads' stacks come and go. In `statm` the first number
    /// without the sixth (`task_statm` in the kernel's `fs/proc/task_mmu.c`, `vm_stat_account` in `mm/mmap.c`).
    ///
    /// # Errors
    /// As [`Self::stat`].
    pub fn mapped_pages(&self, pid: u32) -> io::Result<u64> {
        let text = self.read(pid, "statm")?;
        mapped_pages(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of statm of process {pid}"))
        })
    }

    /// Arguments, or the one title that the process wrote over them. Empty for kernel threads and zombies.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn cmdline(&self, pid: u32) -> io::Result<Vec<String>> {
        Ok(split_at_nul(&self.read(pid, "cmdline")?))
    }

    /// The executable, as the process sees it.
    ///
    /// # Errors
    /// `NotFound` when there is no such process or it is a kernel thread, `PermissionDenied`.
    pub fn exe(&self, pid: u32) -> io::Result<PathBuf> {
        std::fs::read_link(self.path(pid, "exe"))
    }

    /// The working directory, as the process sees it.
    ///
    /// # Errors
    /// `NotFound` when there is no such process, `PermissionDenied`.
    pub fn cwd(&self, pid: u32) -> io::Result<PathBuf> {
        std::fs::read_link(self.path(pid, "cwd"))
    }

    /// Entries of the environment that the program was started with, as the memory is now: a process may have
    /// written a title over it.
    ///
    /// # Errors
    /// `NotFound` when there is no such process, `PermissionDenied`.
    pub fn environment(&self, pid: u32) -> io::Result<Vec<Vec<u8>>> {
        let bytes = self.read(pid, "environ")?;
        let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        Ok(entries.map(<[u8]>::to_vec).collect())
    }

    /// Bytes of the process's memory from this address on, at most `length`, fewer or none where they cannot
    /// be read. The process does not notice.
    #[must_use]
    pub fn memory(&self, pid: u32, address: u64, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt as _;
        const PAGE: u64 = 4096;
        let Ok(file) = File::open(self.path(pid, "mem")) else { return Vec::new() };
        let mut bytes = Vec::new();
        // Page by page: the next one may not be there.
        while bytes.len() < length {
            let Some(at) = address.checked_add(bytes.len() as u64) else { break };
            let in_page = usize::try_from(PAGE - at % PAGE).unwrap_or(0);
            let mut part = vec![0; in_page.min(length - bytes.len())];
            match file.read_at(&mut part, at) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&part[..read]),
                _ => break,
            }
        }
        bytes
    }

    /// One pointer of the process's memory; `None` where it cannot be read.
    #[must_use]
    pub fn read_u64(&self, pid: u32, address: u64) -> Option<u64> {
        Some(u64::from_ne_bytes(self.memory(pid, address, 8).try_into().ok()?))
    }

    /// The process that this thread is of; a process's own pid gives itself (`Tgid` of
    /// `/proc/PID/status`). `/proc` answers for threads too, though it does not list them.
    ///
    /// # Errors
    /// `NotFound` when there is no such process or thread.
    pub fn process_of_thread(&self, tid: u32) -> io::Result<u32> {
        let bytes = self.read(tid, "status")?;
        let text = String::from_utf8_lossy(&bytes);
        let process = text.lines().find_map(|line| line.strip_prefix("Tgid:"));
        process.and_then(|word| word.trim().parse().ok()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of status of {tid}"))
        })
    }

    /// Thread ids, in ascending order.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn tasks(&self, pid: u32) -> io::Result<Vec<u32>> {
        let mut tasks: Vec<u32> = std::fs::read_dir(self.path(pid, "task"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        tasks.sort_unstable();
        Ok(tasks)
    }

    /// As [`Self::stat`], of one thread: `pid` is then its tid, `comm` its name.
    ///
    /// # Errors
    /// As [`Self::stat`].
    pub fn task_stat(&self, pid: u32, tid: u32) -> io::Result<Stat> {
        let text = self.read(pid, &format!("task/{tid}/stat"))?;
        parse_stat(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of stat of thread {tid}"))
        })
    }

    /// Where the kernel has a thread.
    ///
    /// # Errors
    /// `NotFound` when there is no such thread, or the kernel does not tell (`CONFIG_HAVE_ARCH_TRACEHOOK`);
    /// `PermissionDenied`; `InvalidData`.
    pub fn task_place(&self, pid: u32, tid: u32) -> io::Result<Place> {
        let text = self.read(pid, &format!("task/{tid}/syscall"))?;
        Place::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of syscall of {tid}"))
        })
    }

    /// What the kernel calls a thread: at most 15 bytes, which the process may have chosen.
    ///
    /// # Errors
    /// `NotFound` when there is no such thread.
    pub fn thread_name(&self, pid: u32, tid: u32) -> io::Result<String> {
        let bytes = self.read(pid, &format!("task/{tid}/comm"))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// How many files are open.
    ///
    /// # Errors
    /// `NotFound` when there is no such process, `PermissionDenied`.
    pub fn open_files(&self, pid: u32) -> io::Result<u64> {
        Ok(std::fs::read_dir(self.path(pid, "fd"))?.filter(Result::is_ok).map(|_| 1).sum())
    }

    /// Bytes that it has had storage read and write, with those of children that it has waited for (`read_bytes` and
    /// `write_bytes` of `/proc/PID/io`; `wait_task_zombie` in kernel/exit.c adds a child's).
    ///
    /// # Errors
    /// `NotFound` when there is no such process, or the kernel does not count (`CONFIG_TASK_IO_ACCOUNTING`);
    /// `PermissionDenied`; `InvalidData`.
    pub fn storage_bytes(&self, pid: u32) -> io::Result<(u64, u64)> {
        let bytes = self.read(pid, "io")?;
        let text = String::from_utf8_lossy(&bytes);
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        number("read_bytes:").zip(number("write_bytes:")).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of io of process {pid}"))
        })
    }

    /// The pid in each nested pid namespace, outermost first (`NSpid` of `/proc/PID/status`, Linux 4.1).
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn namespace_pids(&self, pid: u32) -> io::Result<Vec<u32>> {
        let bytes = self.read(pid, "status")?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .map(|rest| rest.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
            .unwrap_or_default())
    }
}

/// A title written by the process may leave blanks or NULs behind itself; those are no arguments.
fn mapped_pages(statm: &[u8]) -> Option<u64> {
    let mut fields = std::str::from_utf8(statm).ok()?.split_ascii_whitespace();
    let size: u64 = fields.next()?.parse().ok()?;
    let writable: u64 = fields.nth(4)?.parse().ok()?;
    // Both are read without a lock, and need not be of one moment.
    Some(size.saturating_sub(writable))
}

fn split_at_nul(bytes: &[u8]) -> Vec<String> {
    let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    bytes[..end].split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The name in parentheses may itself hold blanks and parentheses: the last `)` ends it.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `proc(5)` numbers from 1; the first field after the name is number 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // Where access is denied the kernel prints 0, and 1 for the two code addresses (fs/proc/array.c).
    let start_stack = number(28)?;
    let layout = if start_stack == 0 {
        None
    } else {
        Some(Layout {
            start_code: number(26)?,
            start_stack,
            start_data: number(45)?,
            start_brk: number(47)?,
            arg_start: number(48)?,
            env_start: number(50)?,
        })
    };
    Some(Stat {
        pid,
        comm,
        state: fields.first()?.chars().next()?,
        ppid: u32::try_from(number(4)?).ok()?,
        flags: number(9)?,
        user_time: number(14)?,
        system_time: number(15)?,
        children_user_time: number(16)?,
        children_system_time: number(17)?,
        threads: number(20)?,
        start_time: number(22)?,
        rss_pages: number(24)?,
        layout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process() {
        let procfs = ProcFs::new();
        let pid = std::process::id();
        let stat = procfs.stat(pid).unwrap();
        assert_eq!(stat.pid, pid);
        assert_eq!(stat.ppid, std::os::unix::process::parent_id());
        assert!(stat.layout.is_some() && !stat.is_zombie() && !stat.is_kernel_thread());
        assert_eq!(procfs.cmdline(pid).unwrap(), std::env::args().collect::<Vec<_>>());
        assert_eq!(procfs.exe(pid).unwrap(), std::env::current_exe().unwrap());
        assert_eq!(procfs.cwd(pid).unwrap(), std::env::current_dir().unwrap());
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert!(procfs.environment(pid).unwrap().contains(&path.into_bytes()));
        let long = vec![7_u8; 20_000];
        assert_eq!(procfs.memory(pid, long.as_ptr() as u64, long.len()), long);
        let pointer: u64 = 0x0123_4567_89ab_cdef;
        assert_eq!(procfs.read_u64(pid, (&raw const pointer) as u64), Some(pointer));
        assert_eq!(procfs.read_u64(pid, 8), None);
        assert_eq!(procfs.memory(pid, u64::MAX - 3, 100), [0; 0]);
        assert!(procfs.tasks(pid).unwrap().contains(&pid));
        assert!(procfs.open_files(pid).unwrap() >= 3);
        assert!(procfs.storage_bytes(pid).is_ok());
        assert_eq!(procfs.namespace_pids(pid).unwrap().last(), Some(&pid));
        assert!(procfs.pids().unwrap().contains(&pid));
    }

    #[test]
    fn name_with_parentheses_and_blanks() {
        let line = b"7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 1234 1000 55 \
            18446744073709551615 10 11 12 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 20 21 22 23 24 25 26 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state, stat.ppid), (7, "a) b (c", 'S', 1));
        assert_eq!((stat.user_time, stat.system_time, stat.threads), (5, 6, 9));
        assert_eq!((stat.children_user_time, stat.children_system_time), (7, 8));
        assert_eq!((stat.start_time, stat.rss_pages), (1234, 55));
        let layout = stat.layout.unwrap();
        assert_eq!((layout.start_code, layout.start_stack, layout.start_data), (10, 12, 20));
        assert_eq!((layout.start_brk, layout.arg_start, layout.env_start), (22, 23, 25));
    }

    #[test]
    fn garbage() {
        for line in [&b""[..], b"(", b")(", b"1 (x", b"1 (x)", b"1 (x) S", b"x (x) S 1 2 3", &[0xff; 40]] {
            assert_eq!(parse_stat(line), None);
        }
    }

    #[test]
    fn mapped_pages_are_those_that_are_not_private_and_writable() {
        assert_eq!(mapped_pages(b"5000 800 300 1 0 1200 0\n"), Some(3800));
        assert_eq!(mapped_pages(b"5 1 1 1 0 7 0\n"), Some(0));
        for garbage in [&b""[..], b"5", b"5 1 1 1 0", b"x 1 1 1 0 7 0", b"5 1 1 1 0 -7 0", &[0xff; 9]] {
            assert_eq!(mapped_pages(garbage), None);
        }
        let (procfs, pid) = (ProcFs::new(), std::process::id());
        assert!(procfs.mapped_pages(pid).unwrap() > 0);
    }

    #[test]
    fn titles_and_empty_arguments() {
        assert_eq!(split_at_nul(b"python\0-c\0\0"), ["python", "-c"]);
        assert_eq!(split_at_nul(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(split_at_nul(b"gunicorn: master [shop]\0\0\0   \0"), ["gunicorn: master [shop]"]);
        assert_eq!(split_at_nul(b"\0\0"), Vec::<String>::new());
    }

    #[test]
    fn made_up_tree() {
        let directory = tempfile::tempdir().unwrap();
        let process = directory.path().join("12");
        std::fs::create_dir(&process).unwrap();
        std::fs::write(process.join("environ"), b"A=1\0OTEL_SERVICE_NAME=shop\0").unwrap();
        std::fs::write(process.join("status"), b"Name:\tx\nNSpid:\t12\t3\n").unwrap();
        let procfs = ProcFs::at(directory.path());
        assert_eq!(procfs.pids().unwrap(), [12]);
        assert_eq!(procfs.environment(12).unwrap(), [&b"A=1"[..], b"OTEL_SERVICE_NAME=shop"]);
        assert_eq!(procfs.namespace_pids(12).unwrap(), [12, 3]);
        assert_eq!(procfs.stat(12).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
