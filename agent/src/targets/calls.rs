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
    Other,
}

const CALLS: [(u64, &str, Waits); 61] = [
    (0, "read", Waits::File),
    (1, "write", Waits::File),
    (2, "open", Waits::Other),
    (3, "close", Waits::File),
    (7, "poll", Waits::Poll),
    (8, "lseek", Waits::File),
    (9, "mmap", Waits::Other),
    (11, "munmap", Waits::Other),
    (16, "ioctl", Waits::File),
    (17, "pread64", Waits::File),
    (18, "pwrite64", Waits::File),
    (19, "readv", Waits::File),
    (20, "writev", Waits::File),
    (23, "select", Waits::Select),
    (28, "madvise", Waits::Other),
    (34, "pause", Waits::Other),
    (35, "nanosleep", Waits::Time),
    (40, "sendfile", Waits::File),
    (42, "connect", Waits::File),
    (43, "accept", Waits::File),
    (44, "sendto", Waits::File),
    (45, "recvfrom", Waits::File),
    (46, "sendmsg", Waits::File),
    (47, "recvmsg", Waits::File),
    (57, "fork", Waits::Other),
    (58, "vfork", Waits::Child),
    (59, "execve", Waits::Other),
    (61, "wait4", Waits::Child),
    (65, "semop", Waits::Other),
    (70, "msgrcv", Waits::Other),
    (72, "fcntl", Waits::File),
    (73, "flock", Waits::File),
    (74, "fsync", Waits::File),
    (75, "fdatasync", Waits::File),
    (82, "rename", Waits::Other),
    (87, "unlink", Waits::Other),
    (128, "rt_sigtimedwait", Waits::Other),
    (130, "rt_sigsuspend", Waits::Other),
    (202, "futex", Waits::Futex),
    (208, "io_getevents", Waits::Other),
    (219, "restart_syscall", Waits::Other),
    (220, "semtimedop", Waits::Other),
    (230, "clock_nanosleep", Waits::Time),
    (232, "epoll_wait", Waits::File),
    (247, "waitid", Waits::Child),
    (257, "openat", Waits::Other),
    (270, "pselect6", Waits::Select),
    (271, "ppoll", Waits::Poll),
    (275, "splice", Waits::File),
    (277, "sync_file_range", Waits::File),
    (281, "epoll_pwait", Waits::File),
    (288, "accept4", Waits::File),
    (295, "preadv", Waits::File),
    (296, "pwritev", Waits::File),
    (299, "recvmmsg", Waits::File),
    (307, "sendmmsg", Waits::File),
    (327, "preadv2", Waits::File),
    (328, "pwritev2", Waits::File),
    (426, "io_uring_enter", Waits::File),
    (441, "epoll_pwait2", Waits::File),
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
        self.known().map_or_else(|| format!("system call {}", self.number), |(_, name, _)| (*name).to_owned())
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
