//! What a process is called here: never by its bare pid, because pids are used again.

/// One process for the life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    pub pid: u32,
    /// Clock ticks after boot at which it was forked: field 22 of `/proc/PID/stat`, `proc(5)`. It survives
    /// exec.
    pub start_time: u64,
}

impl std::fmt::Display for ProcessKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.pid)
    }
}
