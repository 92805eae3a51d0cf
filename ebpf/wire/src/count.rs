//! Counters that the kernel half keeps: the array `COUNTS` has a row of slots for each CPU, and its reader adds
//! up the rows. Every record that
//! was due is counted in `SEEN`, and is then either delivered or counted under exactly one reason:
//! `SEEN = delivered + RING_FULL`. The others say what a delivered record lacks, or what could not be seen.

/// Records that were due.
pub const SEEN: u32 = 0;
/// Records dropped because the ring buffer had no space.
pub const RING_FULL: u32 = 1;
/// Payload bytes that could not be read from the target (page absent).
pub const PAYLOAD_UNREADABLE: u32 = 2;
/// Stacks cut short because a page of the target was absent.
pub const STACK_UNREADABLE: u32 = 3;
/// Stacks deeper than [`crate::python::MAX_FRAMES`].
pub const STACK_TRUNCATED: u32 = 4;
/// Children that could not be followed because the target map was full.
pub const TARGETS_FULL: u32 = 5;
/// Connections that could not be followed because the connection map was full.
pub const CONNECTIONS_FULL: u32 = 6;
/// Driver calls that could not be followed because no scratch space was left for their thread.
pub const SCRATCH_FULL: u32 = 7;
/// Samples of threads without a Python thread state (native threads).
pub const SAMPLE_NOT_PYTHON: u32 = 8;
// 9 was `payload_cut`: bytes left out of large bodies. Retired: leaving them out is no loss, and where framing
// needed them userspace says so (`framing_lost`).

/// System calls whose saved registers were not where they are on every known kernel: not followed.
pub const REGISTERS_UNKNOWN: u32 = 10;
/// Exceptions that left a frame and were not sent, because there were too many of them.
pub const EXCEPTIONS_SUPPRESSED: u32 = 13;
/// Frames that exceptions reached: what the probe costs. Not a loss.
pub const EXCEPTION_HITS: u32 = 14;

/// New contexts whose address was not in the register that it was expected in: not reported.
pub const CONTEXT_UNVERIFIED: u32 = 11;
/// Scopes without all that was to be read (a page was absent, or there is no thread state).
pub const SCOPE_UNREADABLE: u32 = 12;
/// Calls into a TLS library whose end was not seen, because the thread began another: what they moved is lost.
pub const TLS_UNFINISHED: u32 = 22;
/// Calls into a TLS library that claim to have moved more than they had.
pub const TLS_IMPLAUSIBLE: u32 = 23;
/// Calls into a TLS library that could not be followed because a map was full.
pub const TLS_FULL: u32 = 24;

/// Samples whose thread's own registers were not where they are on every known kernel: no native frames.
pub const NATIVE_REGISTERS_UNKNOWN: u32 = 17;
/// Native stacks larger than [`crate::event::NATIVE_CAPTURE`], or cut short by a page that was absent.
pub const NATIVE_STACK_CUT: u32 = 18;

/// Threads that left a CPU and could not be remembered because the map of sleepers was full: the time until they
/// came back is in no record.
pub const SLEEPERS_FULL: u32 = 15;

/// Runs of the probe of exceptions in which the registers did not hold what they hold on its path: not looked at.
pub const EXCEPTION_UNVERIFIED: u32 = 43;

/// Statements of SQLite whose text could not be found, because their process was not known well enough yet.
pub const SQLITE_UNKNOWN: u32 = 31;
/// Calls and statements of SQLite that could not be followed because a map was full.
pub const SQLITE_FULL: u32 = 32;

/// Tasks (Celery, without processes) that began, and whose id or name could not be read: not told.
pub const TASKS_UNREADABLE: u32 = 46;

/// Rows of `COUNTS`; a machine with more CPUs shares them.
pub const CPUS: u32 = 1024;

/// Slots in a row of `COUNTS`.
pub const SLOTS: u32 = 48;

/// Name of each slot as outputs show it; empty for unused slots.
pub const NAMES: [&str; SLOTS as usize] = {
    let mut names = [""; SLOTS as usize];
    names[SEEN as usize] = "seen";
    names[RING_FULL as usize] = "ring_full";
    names[PAYLOAD_UNREADABLE as usize] = "payload_unreadable";
    names[STACK_UNREADABLE as usize] = "stack_unreadable";
    names[STACK_TRUNCATED as usize] = "stack_truncated";
    names[TARGETS_FULL as usize] = "targets_full";
    names[CONNECTIONS_FULL as usize] = "connections_full";
    names[SCRATCH_FULL as usize] = "scratch_full";
    names[SAMPLE_NOT_PYTHON as usize] = "sample_not_python";
    names[REGISTERS_UNKNOWN as usize] = "registers_unknown";
    names[CONTEXT_UNVERIFIED as usize] = "context_unverified";
    names[SCOPE_UNREADABLE as usize] = "scope_unreadable";
    names[NATIVE_REGISTERS_UNKNOWN as usize] = "native_registers_unknown";
    names[NATIVE_STACK_CUT as usize] = "native_stack_cut";
    names[TLS_UNFINISHED as usize] = "tls_unfinished";
    names[TLS_IMPLAUSIBLE as usize] = "tls_implausible";
    names[TLS_FULL as usize] = "tls_full";
    names[EXCEPTIONS_SUPPRESSED as usize] = "exceptions_suppressed";
    names[EXCEPTION_HITS as usize] = "exception_hits";
    names[SQLITE_UNKNOWN as usize] = "sqlite_unknown";
    names[SQLITE_FULL as usize] = "sqlite_full";
    names[SLEEPERS_FULL as usize] = "sleepers_full";
    names[TASKS_UNREADABLE as usize] = "tasks_unreadable";
    names[EXCEPTION_UNVERIFIED as usize] = "exception_unverified";
    names
};
