//! System calls that threads wait in: their names, and what each waits for. Numbers of x86-64
//! (`arch/x86/entry/syscalls/syscall_64.tbl` of the kernel).

/// What a system call waits for, and how its arguments say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// A file, whose descriptor is the first argument.
    File,
    /// Files in an array of `struct pollfd`, first argument, of the length in the second.
    Poll,
    /// Files in bit sets; the first argument is the length.
    Select,
    /// A futex, whose address is the first argument.
    Futex,
    /// Time to pass.
    Time,
    /// A child process to change.
    Child,
    /// A socket, whose descriptor is the first argument.
    Socket,
    /// What was written to a file to be on the disk; its descriptor is the first argument.
    Disk,
    /// A lock of a file, whose descriptor is the first argument.
    Lock,
    /// Any event of a set of files, whose descriptor is the first argument.
    Events,
    /// A folder or what lies in it, given by its path.
    Path,
    Other,
}

const CALLS: [(u64, &str, Waits); 96] = [
    (0, "read", Waits::File),
    (1, "write", Waits::File),
    (2, "open", Waits::Path),
    (3, "close", Waits::File),
    (4, "stat", Waits::Path),
    (5, "fstat", Waits::File),
    (6, "lstat", Waits::Path),
    (7, "poll", Waits::Poll),
    (8, "lseek", Waits::File),
    (9, "mmap", Waits::Other),
    (10, "mprotect", Waits::Other),
    (11, "munmap", Waits::Other),
    (12, "brk", Waits::Other),
    (16, "ioctl", Waits::File),
    (17, "pread64", Waits::File),
    (18, "pwrite64", Waits::File),
    (19, "readv", Waits::File),
    (20, "writev", Waits::File),
    (21, "access", Waits::Path),
    (23, "select", Waits::Select),
    (24, "sched_yield", Waits::Other),
    (26, "msync", Waits::Other),
    (28, "madvise", Waits::Other),
    (34, "pause", Waits::Other),
    (35, "nanosleep", Waits::Time),
    (40, "sendfile", Waits::File),
    (42, "connect", Waits::Socket),
    (43, "accept", Waits::Socket),
    (44, "sendto", Waits::Socket),
    (45, "recvfrom", Waits::Socket),
    (46, "sendmsg", Waits::Socket),
    (47, "recvmsg", Waits::Socket),
    (56, "clone", Waits::Other),
    (57, "fork", Waits::Other),
    (58, "vfork", Waits::Child),
    (59, "execve", Waits::Other),
    (60, "exit", Waits::Other),
    (61, "wait4", Waits::Child),
    (65, "semop", Waits::Other),
    (70, "msgrcv", Waits::Other),
    (72, "fcntl", Waits::File),
    (73, "flock", Waits::Lock),
    (74, "fsync", Waits::Disk),
    (75, "fdatasync", Waits::Disk),
    (76, "truncate", Waits::Path),
    (77, "ftruncate", Waits::File),
    (78, "getdents", Waits::File),
    (82, "rename", Waits::Path),
    (83, "mkdir", Waits::Path),
    (84, "rmdir", Waits::Path),
    (85, "creat", Waits::Path),
    (86, "link", Waits::Path),
    (87, "unlink", Waits::Path),
    (88, "symlink", Waits::Path),
    (89, "readlink", Waits::Path),
    (128, "rt_sigtimedwait", Waits::Other),
    (130, "rt_sigsuspend", Waits::Other),
    (162, "sync", Waits::Path),
    (202, "futex", Waits::Futex),
    (208, "io_getevents", Waits::Other),
    (217, "getdents64", Waits::File),
    (219, "restart_syscall", Waits::Other),
    (220, "semtimedop", Waits::Other),
    (230, "clock_nanosleep", Waits::Time),
    (231, "exit_group", Waits::Other),
    (232, "epoll_wait", Waits::Events),
    (247, "waitid", Waits::Child),
    (257, "openat", Waits::Path),
    (258, "mkdirat", Waits::Path),
    (262, "newfstatat", Waits::Path),
    (263, "unlinkat", Waits::Path),
    (264, "renameat", Waits::Path),
    (267, "readlinkat", Waits::Path),
    (269, "faccessat", Waits::Path),
    (270, "pselect6", Waits::Select),
    (271, "ppoll", Waits::Poll),
    (275, "splice", Waits::File),
    (277, "sync_file_range", Waits::Disk),
    (281, "epoll_pwait", Waits::Events),
    (285, "fallocate", Waits::File),
    (288, "accept4", Waits::Socket),
    (295, "preadv", Waits::File),
    (296, "pwritev", Waits::File),
    (299, "recvmmsg", Waits::Socket),
    (306, "syncfs", Waits::Disk),
    (307, "sendmmsg", Waits::Socket),
    (316, "renameat2", Waits::Path),
    (327, "preadv2", Waits::File),
    (328, "pwritev2", Waits::File),
    (332, "statx", Waits::Path),
    (426, "io_uring_enter", Waits::File),
    (435, "clone3", Waits::Other),
    (437, "openat2", Waits::Path),
    (439, "faccessat2", Waits::Path),
    (441, "epoll_pwait2", Waits::Events),
    (449, "futex_waitv", Waits::Other),
];

/// A system call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    pub number: u64,
    pub arguments: [u64; 6],
}

/// Where the kernel has a thread (`/proc/PID/task/TID/syscall`, `proc(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a CPU, or ready for one.
    Running,
    Call(SystemCall),
    /// Blocked, but not in a system call.
    Kernel,
}

impl SystemCall {
    #[must_use]
    pub fn name(&self) -> String {
        self.known_name().map_or_else(|| format!("system call {}", self.number), str::to_owned)
    }

    /// Its name, if it is one of those that threads wait in.
    #[must_use]
    pub fn known_name(&self) -> Option<&'static str> {
        self.known().map(|(_, name, _)| *name)
    }

    #[must_use]
    pub fn waits(&self) -> Waits {
        self.known().map_or(Waits::Other, |(_, _, waits)| *waits)
    }

    fn known(&self) -> Option<&'static (u64, &'static str, Waits)> {
        CALLS.binary_search_by_key(&self.number, |(number, _, _)| *number).ok().and_then(|at| CALLS.get(at))
    }

    #[must_use]
    pub fn first(&self) -> u64 {
        let [first, ..] = self.arguments;
        first
    }

    #[must_use]
    pub fn second(&self) -> u64 {
        let [_, second, ..] = self.arguments;
        second
    }
}

impl Place {
    /// `None` for a text of another shape.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let first = words.next()?;
        if first == "running" {
            return Some(Self::Running);
        }
        let number: i64 = first.parse().ok()?;
        let Ok(number) = u64::try_from(number) else { return Some(Self::Kernel) };
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self::Call(SystemCall { number, arguments }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel() {
        assert_eq!(Place::parse("running\n"), Some(Place::Running));
        assert_eq!(Place::parse("-1 0x7ffc 0x7f00\n"), Some(Place::Kernel));
        let text = "202 0x5555 0x189 0x0 0x0 0x0 0xffffffff 0x7ffc 0x7f00\n";
        let Some(Place::Call(call)) = Place::parse(text) else { panic!() };
        assert_eq!((call.name().as_str(), call.waits(), call.first()), ("futex", Waits::Futex, 0x5555));
        let other = SystemCall { number: 9999, arguments: [0; 6] };
        assert_eq!((other.name().as_str(), other.waits()), ("system call 9999", Waits::Other));
        for text in ["", "x", "1", "1 2", "0 0x1 0x2 0x3 0x4 0x5", "0 0xg 0x2 0x3 0x4 0x5 0x6"] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn table_is_in_order() {
        assert!(CALLS.is_sorted_by(|(a, _, _), (b, _, _)| a < b));
    }
}
