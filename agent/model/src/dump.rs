//! What every thread of some processes is doing at one moment: the shape of `pyapm dump --json`, one object.
//! Names are append-only; `null` is unknown, never zero or empty.

use crate::line::Frame;
use serde::{Deserialize, Serialize};

/// The whole output of one dump.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Dump {
    /// Wall clock when the dump began, nanoseconds since the Unix epoch.
    pub taken_ns: u64,
    pub application: String,
    /// The one that was asked for; of a whole application the master first.
    pub processes: Vec<Process>,
    /// What was not as it should be, each one sentence. Empty when everything was had.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Process {
    pub pid: u32,
    /// As the process shows it: text that it may have written itself.
    pub command: Vec<String>,
    /// `3.11.7`; `None` when the interpreter is not understood, `problem` then says why.
    pub python: Option<String>,
    /// Why there is nothing to see.
    pub problem: Option<String>,
    /// `None` when the lock could not be read.
    pub gil: Option<Gil>,
    /// The main thread first, then in ascending order of tid.
    pub threads: Vec<Thread>,
    /// Suspended tasks of `asyncio` on the loops of threads whose stack was read while they did not run. `None` where
    /// they cannot be told: before Python 3.14, or without `asyncio`.
    pub tasks: Option<Vec<Task>>,
}

/// The global interpreter lock of the main interpreter, at the moment at which it was read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Gil {
    pub held: bool,
    /// The holder; `None` when nobody holds it, or the holder is not a thread that was found.
    pub holder: Option<u32>,
    /// False in a free-threaded build, unless something has switched the lock on: then no thread needs it.
    #[serde(default = "always")]
    pub enabled: bool,
}

/// Of what was written before there were others.
fn always() -> bool {
    true
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Thread {
    /// In the initial pid namespace.
    pub tid: u32,
    pub name: Option<String>,
    /// Who gave the name.
    pub name_source: NameSource,
    /// The thread that the process began with.
    pub is_main: bool,
    pub state: State,
    /// The task of `asyncio` that the thread is in; `None` when there is none, or it cannot be told.
    pub task: Option<String>,
    /// Whether this thread held its interpreter's lock when the stack was taken; `None` when unknown.
    pub holds_gil: Option<bool>,
    /// How `frames` came about.
    pub stack: Stack,
    /// Innermost first.
    pub frames: Vec<DumpFrame>,
    /// Frames in the middle of a very deep stack that are not in `frames`, with the place where they are
    /// missing; `None` when the stack is whole.
    pub left_out: Option<LeftOut>,
}

/// Where frames are missing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct LeftOut {
    /// Frames given before the gap.
    pub after: usize,
    /// `None`: more than were given, how many is not known.
    pub frames: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// `threading.Thread.name`.
    Python,
    /// The kernel's name of the thread, at most 15 bytes.
    Kernel,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Stack {
    /// Read while the thread provably did not run.
    Parked,
    /// Taken by the thread itself as it ran.
    Sampled,
    /// The thread runs no Python code.
    NoPython,
    /// The thread ran whenever it was looked at, and no sample met it.
    Unreadable,
}

/// What a thread is doing.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// A sample met it on a CPU.
    OnCpu,
    /// It runs or wants to, by the kernel's word.
    Running,
    /// Waits for the global interpreter lock.
    Gil,
    /// Waits for any other lock, semaphore or condition.
    Lock {
        call: String,
    },
    /// Sleeps for a time that it chose.
    Sleep {
        call: String,
    },
    /// Waits in a system call for a file or several.
    Io {
        call: String,
        /// Of a call that waits for one file.
        fd: Option<u64>,
        /// `tcp 127.0.0.1:4242 -> 127.0.0.1:3306`, `pipe`, `/srv/app/data.db`; `None` when unknown.
        file: Option<String>,
    },
    /// Waits for a child process.
    Child {
        call: String,
    },
    /// Waits in another system call.
    Call {
        call: String,
    },
    /// Waits in the kernel outside any system call: for a page of memory, mostly.
    Kernel,
    /// Stopped by a signal or a debugger.
    Stopped,
    Unknown,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DumpFrame {
    #[serde(flatten)]
    pub frame: Frame,
    /// `None` when they were not asked for, or cannot be read of a thread that runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub locals: Option<Vec<Local>>,
}

/// A local variable that is bound.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Local {
    pub name: String,
    /// Short, in the manner of `repr`; `?` when it could not be read.
    pub value: String,
}

/// A task of `asyncio` that waits.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Task {
    pub name: String,
    /// The thread whose loop it is on.
    pub tid: u32,
    /// What it awaits, innermost first.
    pub frames: Vec<Frame>,
    /// Names of the tasks that await it.
    pub awaited_by: Vec<String>,
}
