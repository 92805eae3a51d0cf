//! What a thread that is off the CPU waits for: from the kernel's state of it, the system call that it is in and the
//! kind of the file that it waits on, to a word.

use super::calls::{SystemCall, Waits};

/// What a thread waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It had asked for a time to pass.
    Sleep,
    /// A lock other than the interpreter's: of threads (a futex), of processes (a semaphore), of files.
    Lock,
    Socket,
    Disk,
    Other,
    /// A CPU: it could have run.
    Runnable,
    /// A pipe or FIFO.
    Pipe,
    /// Any of several files: event loops do.
    Events,
    /// A child process.
    Child,
    /// A page of its memory, outside of any system call.
    PageFault,
    /// It was stopped, by a signal or a debugger.
    Stopped,
}

/// A reason, and where in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wait {
    pub reason: Reason,
    /// The system call, as far as it is known and tells more than the reason.
    pub call: Option<&'static str>,
}

/// `fcntl` waits only for locks: `F_SETLKW` and `F_OFD_SETLKW` (kernel `include/uapi/asm-generic/fcntl.h`).
const FCNTL: u64 = 72;
const LOCKS: [u64; 2] = [7, 38];

/// Bits of the kernel's task state (`include/linux/sched.h`).
const TASK_RUNNING: u32 = 0;
const TASK_UNINTERRUPTIBLE: u32 = 2;
const STOPPED: u32 = 4;
const TRACED: u32 = 8;

/// `st_mode` of `inode(7)`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFREG: u16 = 0o100_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFIFO: u16 = 0o010_000;

impl Wait {
    pub const RUNNABLE: Self = Self { reason: Reason::Runnable, call: None };

    /// What a thread waits for that is in this state and call; `mode` is that of the one file that it waits on, 0 where
    /// there is none or it is not known. The interpreter's lock is a lock here.
    #[must_use]
    pub fn of(state: u32, call: Option<&SystemCall>, mode: u16) -> Self {
        if state == TASK_RUNNING {
            return Self::RUNNABLE;
        }
        if state & (STOPPED | TRACED) != 0 {
            return Self { reason: Reason::Stopped, call: None };
        }
        let uninterruptible = state & TASK_UNINTERRUPTIBLE != 0;
        let Some(call) = call else {
            let reason = if uninterruptible { Reason::PageFault } else { Reason::Other };
            return Self { reason, call: None };
        };
        let reason = match call.waits() {
            Waits::Futex | Waits::Lock => Reason::Lock,
            Waits::Time => Reason::Sleep,
            Waits::Child => Reason::Child,
            Waits::Socket => Reason::Socket,
            Waits::Disk => Reason::Disk,
            Waits::Events => Reason::Events,
            Waits::Path if uninterruptible => Reason::Disk,
            Waits::Path | Waits::Other => Reason::Other,
            Waits::Poll => match call.second() {
                0 => Reason::Sleep,
                1 => of_file(mode, uninterruptible).unwrap_or(Reason::Events),
                _ => Reason::Events,
            },
            Waits::Select if call.first() == 0 => Reason::Sleep,
            Waits::Select => Reason::Events,
            Waits::File if call.number == FCNTL && LOCKS.contains(&call.second()) => Reason::Lock,
            Waits::File => of_file(mode, uninterruptible).unwrap_or(Reason::Other),
        };
        Self { reason, call: call.known_name() }
    }
}

/// Disks are waited for without a way to interrupt it; what looks like a file and is waited for otherwise is none that
/// lies on a disk (kernel `fs/anon_inodes.c`).
fn of_file(mode: u16, uninterruptible: bool) -> Option<Reason> {
    match mode & S_IFMT {
        S_IFSOCK => Some(Reason::Socket),
        S_IFIFO => Some(Reason::Pipe),
        S_IFREG | S_IFBLK | S_IFDIR if uninterruptible => Some(Reason::Disk),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u32 = 1;
    const D: u32 = 2;
    /// `TASK_KILLABLE`.
    const K: u32 = 0x102;

    fn of(state: u32, number: u64, arguments: [u64; 3], mode: u16) -> (Reason, Option<&'static str>) {
        let [first, second, third] = arguments;
        let call = SystemCall { number, arguments: [first, second, third, 0, 0, 0] };
        let wait = Wait::of(state, Some(&call), mode);
        (wait.reason, wait.call)
    }

    #[test]
    fn by_call_and_file() {
        for (state, number, arguments, mode, reason, name) in [
            (S, 0, [3, 0, 0], S_IFSOCK | 0o777, Reason::Socket, "read"),
            (S, 0, [3, 0, 0], S_IFIFO, Reason::Pipe, "read"),
            (D, 0, [3, 0, 0], S_IFREG | 0o644, Reason::Disk, "read"),
            (K, 17, [3, 0, 0], S_IFBLK, Reason::Disk, "pread64"),
            (S, 0, [3, 0, 0], S_IFREG, Reason::Other, "read"),
            (S, 0, [3, 0, 0], 0, Reason::Other, "read"),
            (D, 74, [3, 0, 0], S_IFREG, Reason::Disk, "fsync"),
            (D, 257, [0, 0, 0], 0, Reason::Disk, "openat"),
            (S, 257, [0, 0, 0], 0, Reason::Other, "openat"),
            (S, 7, [0, 0, 100], 0, Reason::Sleep, "poll"),
            (S, 7, [9, 1, 100], S_IFSOCK, Reason::Socket, "poll"),
            (S, 7, [9, 1, 100], 0, Reason::Events, "poll"),
            (S, 7, [9, 2, 100], S_IFSOCK, Reason::Events, "poll"),
            (S, 23, [0, 0, 0], 0, Reason::Sleep, "select"),
            (S, 270, [5, 0, 0], 0, Reason::Events, "pselect6"),
            (S, 232, [5, 0, 0], 0, Reason::Events, "epoll_wait"),
            (S, 202, [5, 0, 0], 0, Reason::Lock, "futex"),
            (S, 73, [5, 0, 0], S_IFREG, Reason::Lock, "flock"),
            (S, 72, [5, 7, 0], S_IFREG, Reason::Lock, "fcntl"),
            (S, 61, [5, 0, 0], 0, Reason::Child, "wait4"),
            (S, 288, [5, 0, 0], S_IFSOCK, Reason::Socket, "accept4"),
            (S, 230, [0, 0, 0], 0, Reason::Sleep, "clock_nanosleep"),
        ] {
            assert_eq!(of(state, number, arguments, mode), (reason, Some(name)), "{name} {state} {mode:o}");
        }
        assert_eq!(of(S, 9999, [0; 3], 0), (Reason::Other, None));
    }

    #[test]
    fn outside_of_calls() {
        let reason = |state| Wait::of(state, None, 0).reason;
        assert_eq!((reason(0), reason(S), reason(D)), (Reason::Runnable, Reason::Other, Reason::PageFault));
        assert_eq!((reason(4), reason(8)), (Reason::Stopped, Reason::Stopped));
        // A thread whose time slice ends inside a call waits for nothing.
        assert_eq!(of(0, 0, [3, 0, 0], S_IFSOCK), (Reason::Runnable, None));
    }
}
