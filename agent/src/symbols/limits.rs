//! How much the room remembers. Bounds alone: what they bound is in `resolver.rs`.

/// How much is remembered, in bytes (estimated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names, files and line tables of code objects.
    pub code_bytes: usize,
    /// Named stacks.
    pub stack_bytes: usize,
    /// Instructions whose lines are remembered: not bytes, but their number.
    pub lines: usize,
    /// Classes of exceptions.
    pub class_bytes: usize,
    /// Processes that are told apart at once.
    pub processes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_bytes: 64 << 20,
            // Some seven thousand of forty frames: the kernel half is told to send one again that was forgotten.
            stack_bytes: 16 << 20,
            lines: 65_536,
            class_bytes: 4 << 20,
            processes: 65_536,
        }
    }
}
