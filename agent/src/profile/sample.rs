//! What one sample says apart from its stack: what the thread was doing, and which doings a recording is about.

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
    /// Only the thread that holds the interpreter's lock.
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
        matches!(self, Self::Cpu | Self::Gil)
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
    OffCpu(Reason),
}

/// What a thread waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It had asked for a time to pass.
    Sleep,
    /// A lock other than the interpreter's.
    Lock,
    Socket,
    Disk,
    Other,
}

impl State {
    /// As outputs name it; append-only.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::WaitingForGil => "gil",
            Self::OffCpu(Reason::Sleep) => "sleep",
            Self::OffCpu(Reason::Lock) => "lock",
            Self::OffCpu(Reason::Socket) => "socket",
            Self::OffCpu(Reason::Disk) => "disk",
            Self::OffCpu(Reason::Other) => "other",
        }
    }

    /// The frame that is put on top of a stack to tell time in this state from time on the CPU.
    #[must_use]
    pub fn mark(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::WaitingForGil => Some("[waits for the GIL]"),
            Self::OffCpu(Reason::Sleep) => Some("[sleeps]"),
            Self::OffCpu(Reason::Lock) => Some("[waits for a lock]"),
            Self::OffCpu(Reason::Socket) => Some("[waits for a socket]"),
            Self::OffCpu(Reason::Disk) => Some("[waits for a disk]"),
            Self::OffCpu(Reason::Other) => Some("[waits]"),
        }
    }
}
