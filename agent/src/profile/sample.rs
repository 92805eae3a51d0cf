//! What one sample says apart from its stack: what the thread was doing, and which doings a recording is about.

use crate::targets::{Reason, Wait};
use serde::Serialize;

/// Which samples a recording is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Threads on a CPU.
    #[default]
    Cpu,
    /// All time of all threads: on a CPU, and off it with the reason.
    Wall,
    /// Only threads that hold the interpreter's lock, on a CPU or not.
    Gil,
    /// Only the time that threads waited.
    OffCpu,
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Gil => "gil",
            Self::OffCpu => "offcpu",
        }
    }

    /// What its time is called in sentences.
    #[must_use]
    pub fn time(self) -> &'static str {
        match self {
            Self::Cpu => "CPU time",
            Self::Wall => "wall time",
            Self::Gil => "time with the GIL",
            Self::OffCpu => "time off the CPU",
        }
    }

    /// Whether every sample stands for the same time, so that counting samples is measuring time.
    #[must_use]
    pub fn is_counted(self) -> bool {
        self == Self::Cpu
    }

    /// Whether threads on a CPU are sampled.
    #[must_use]
    pub fn samples_cpu(self) -> bool {
        self != Self::OffCpu
    }

    /// Whether the time that threads spend off the CPU is measured.
    #[must_use]
    pub fn follows_waits(self) -> bool {
        self != Self::Cpu
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What a thread was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It ran on a CPU.
    Cpu,
    /// It wanted the interpreter's lock, which another thread held.
    WaitingForGil,
    /// It was off the CPU.
    OffCpu(Wait),
}

impl State {
    /// As outputs name it; append-only.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::WaitingForGil => "gil",
            Self::OffCpu(wait) => match wait.reason {
                Reason::Sleep => "sleep",
                Reason::Lock => "lock",
                Reason::Socket => "socket",
                Reason::Disk => "disk",
                Reason::Other => "other",
                Reason::Runnable => "runnable",
                Reason::Pipe => "pipe",
                Reason::Events => "events",
                Reason::Child => "child",
                Reason::PageFault => "page_fault",
                Reason::Stopped => "stopped",
            },
        }
    }

    /// The system call that it waited in, as far as it is known.
    #[must_use]
    pub fn call(self) -> Option<&'static str> {
        match self {
            Self::OffCpu(wait) => wait.call,
            Self::Cpu | Self::WaitingForGil => None,
        }
    }

    /// The frame that is put on top of a stack to tell time in this state from time on the CPU. With the system call
    /// where that says more.
    #[must_use]
    pub fn mark(self) -> Option<String> {
        let wait = match self {
            Self::Cpu => return None,
            Self::WaitingForGil => return Some("[waits for the GIL]".to_owned()),
            Self::OffCpu(wait) => wait,
        };
        let what = match wait.reason {
            // There is but one way to say these.
            Reason::Sleep => return Some("[sleeps]".to_owned()),
            Reason::Runnable => return Some("[waits for a CPU]".to_owned()),
            Reason::PageFault => return Some("[waits for a page of memory]".to_owned()),
            Reason::Stopped => return Some("[stopped]".to_owned()),
            Reason::Lock => "waits for a lock",
            Reason::Socket => "waits for a socket",
            Reason::Disk => "waits for a disk",
            Reason::Pipe => "waits for a pipe",
            Reason::Events => "waits for events",
            Reason::Child => "waits for a child",
            Reason::Other => "waits",
        };
        Some(match wait.call {
            // What nearly every lock is; the others tell themselves apart.
            None | Some("futex") => format!("[{what}]"),
            Some(call) => format!("[{what}: {call}]"),
        })
    }
}
