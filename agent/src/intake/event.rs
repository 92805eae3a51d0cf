//! Records of the ring as typed events that borrow the ring's bytes. Times are `CLOCK_MONOTONIC`
//! nanoseconds; pids and tids are those of the initial pid namespace.

use super::task::{TaskBegun, TaskDone, TaskLeft};
use pyapm_wire::event::FAMILY_PIPE;
use pyapm_wire::scope::Scope;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Unique for the life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A stack that was announced by a [`Body::Stack`] event of the same process; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u64);

/// One exception on its way; unique for the life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExceptionId(pub u64);

/// What one thread of a target did.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// Who ran on the thread; all zeros where it was not looked at.
    pub scope: Scope,
    pub body: Body<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// `Event::pid` is the parent.
    Fork {
        child: u32,
    },
    Exec,
    /// The last thread of the process has ended.
    Exit,
    /// A process that may be no target has become another program.
    Started,
    /// A process that may be no target has begun to listen on a socket.
    Listens,
    ConnectionOpened {
        connection: ConnectionId,
        fd: u32,
        local: Endpoint,
        peer: Endpoint,
        /// `None` where there is no TCP.
        sequence: Option<Sequence>,
        /// How long what the first call read had waited to be read; `None` where there is no TCP, and when it was written
        /// to first.
        unread_ns: Option<u64>,
    },
    ConnectionClosed {
        connection: ConnectionId,
    },
    /// Plaintext of a TLS session is about to come, as [`Io`] of the connection `session`.
    TlsSession {
        session: ConnectionId,
        /// The connection that carries it; `None` when the library does not itself move the bytes.
        carrier: Option<ConnectionId>,
    },
    Io(Io<'a>),
    Statement(Statement<'a>),
    StatementStep(StatementStep),
    Sample {
        stack: Option<StackId>,
        status: StackStatus,
        /// The thread held the lock of its interpreter.
        holds_gil: bool,
    },
    OffCpu(OffCpu),
    /// The thread turns an event loop.
    LoopSeen,
    /// A turn of the thread's event loop that began then has ended, and was long.
    LoopBlocked {
        started_ns: u64,
    },
    Context(Context),
    Greenlet(Greenlet),
    /// Directly before the sample that it belongs to.
    Native(Native<'a>),
    /// An exception has left the frame that raised it, or belongs to one that has.
    Exception(Box<Exception>),
    /// An exception that was told has reached one more frame.
    ExceptionPassed {
        id: ExceptionId,
        frame: pyapm_wire::python::Frame,
    },
    /// The thread has had a write on this connection put off; [`Event::scope`] says who asked for it.
    Queued {
        connection: ConnectionId,
    },
    /// A connection that the process asked for is there.
    Connected {
        started_ns: u64,
        fd: u32,
        peer: Endpoint,
    },
    LookedUp(LookedUp),
    /// The thread begins with a task.
    TaskBegun(Box<TaskBegun>),
    /// The thread has done with one.
    TaskDone(Box<TaskDone>),
    /// An exception has left one.
    TaskLeft(Box<TaskLeft>),
    /// A pool's thread has woken the one that reads requests: it has done, or could not write all of an answer.
    HandedBack,
    /// The reader hands on whole stacks, whatever parts they come in.
    Stack {
        stack: StackId,
        /// Innermost first.
        frames: Vec<pyapm_wire::python::Frame>,
        /// For each frame, how often C code called the interpreter between it and the frame that it called (of the
        /// innermost one: calls whose frames have ended already), at most 3.
        entries: Vec<u8>,
        gap: Option<Gap>,
        status: StackStatus,
    },
    /// One of several records that a deep stack comes in.
    StackPart(StackPart),
}

/// Frames that are missing in the middle of a stack, which was too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// Frames before it.
    pub after: usize,
    /// Frames that are missing.
    pub frames: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackPart {
    pub stack: StackId,
    pub frames: Vec<pyapm_wire::python::Frame>,
    /// For each frame, how often C code called the interpreter between it and its caller.
    pub entries: Vec<u8>,
    /// The same inward of the whole stack's innermost frame.
    pub top_entries: u8,
    /// Frames in the parts before this one.
    pub before: usize,
    /// Frames in all parts.
    pub kept: usize,
    pub gap: Option<Gap>,
    pub status: StackStatus,
}

impl StackPart {
    /// All of its stack, when this part is the only one, or all others have been added to it.
    pub(super) fn whole(self) -> Body<'static> {
        let mut entries = self.entries;
        // From "between a frame and its caller" to "between a frame and the one that it called".
        entries.insert(0, self.top_entries);
        entries.truncate(self.frames.len());
        Body::Stack { stack: self.stack, frames: self.frames, entries, gap: self.gap, status: self.status }
    }
}

/// TCP's numbers of the bytes at offset 0 of a connection's directions: the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub sent: u32,
    pub received: u32,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Inet {
        address: IpAddr,
        port: u16,
    },
    Unix,
    /// No socket at all: one end of a pipe.
    Pipe,
    /// An address family that is none of these.
    Other(u16),
}

impl Endpoint {
    /// From the wire's family, address bytes (network order) and port (host order).
    #[must_use]
    pub fn new(family: u16, address: [u8; 16], port: u16) -> Self {
        if family == FAMILY_PIPE {
            return Self::Pipe;
        }
        match i32::from(family) {
            libc::AF_INET => {
                let [a, b, c, d, ..] = address;
                Self::Inet { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port }
            }
            libc::AF_INET6 => {
                let address = Ipv6Addr::from(address);
                let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
                Self::Inet { address, port }
            }
            libc::AF_UNIX => Self::Unix,
            _ => Self::Other(family),
        }
    }
}

/// The thread has looked up the addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedUp {
    pub started_ns: u64,
    /// The name was itself an address: nobody was asked.
    pub literal: bool,
    /// Not all of them, if there were many; none if it failed.
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// Bytes that one system call moved on a socket, or one call of a TLS library in a session, or a part of them.
/// `Event::time_ns` is the call's return.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Io<'a> {
    pub connection: ConnectionId,
    pub direction: Direction,
    /// Stream position of the first byte, in this direction, counted from when the connection was first
    /// seen. A jump against the position expected means that records were lost in between.
    pub offset: u64,
    /// Bytes that moved.
    pub moved: u32,
    /// The first of those bytes; may be fewer than `moved`, or none.
    pub head: &'a [u8],
    /// The last of those bytes, not overlapping `head`; empty when `head` has them all.
    pub tail: &'a [u8],
    /// The peer closed its side (`moved` is 0).
    pub end_of_stream: bool,
    /// The call failed in a way that ends the connection (`moved` is 0).
    pub failed: bool,
    /// Of an outgoing call; `None` when it was not taken, see `status`.
    pub stack: Option<StackId>,
    pub status: StackStatus,
}

/// The thread has made a `PyContext`: whatever was known of its address was of another one. Addresses in the target,
/// good for comparing only; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub context: u64,
    /// The thread's current one; the new one is a copy of it, unless `empty`.
    pub parent: u64,
    /// The one that was current before `parent` was entered.
    pub grandparent: u64,
    pub empty: bool,
}

/// The thread makes a greenlet: whatever was known of its address was of another one. Addresses in the target, good for
/// comparing only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greenlet {
    pub greenlet: u64,
    /// The greenlet that runs; 0 when that is the thread's first one, or not known.
    pub maker: u64,
    /// It stands for a thread.
    pub is_thread: bool,
}

/// A database client library was asked to run a statement; it has not been sent yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statement<'a> {
    pub library: Library,
    /// The client library's connection handle.
    pub handle: u64,
    /// The first bytes of the text.
    pub text: &'a [u8],
    /// Bytes of the whole text.
    pub text_len: u32,
    pub stack: Option<StackId>,
    pub status: StackStatus,
}

/// How a statement of an embedded database goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementStep {
    /// As in its [`Statement`].
    pub handle: u64,
    /// Rows that it has given so far.
    pub rows: u64,
    pub step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first row is there.
    Row,
    /// It is over. `changes` is what the database counts as changed by the latest statement that changes any.
    Done { changes: Option<u64> },
    /// It has failed, with this (extended) result code of the library.
    Failed { code: u32 },
    /// It was given up before it was over.
    Left,
}

/// A thread comes back to a CPU; `Event::time_ns` is when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffCpu {
    /// How long it was away; `None` when it was not seen to leave: it was away before the probe was attached, or it
    /// is new.
    pub duration_ns: Option<u64>,
    /// The last part of that time, in which it waited for a CPU.
    pub queued_ns: u64,
    pub left: Left,
}

/// How a thread left the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub stack: Option<StackId>,
    pub status: StackStatus,
    /// The kernel's task state; 0: it could have gone on.
    pub state: u32,
    /// Number of the system call that it is in; `None` outside of any.
    pub call: Option<u64>,
    /// The first three arguments of that.
    pub arguments: [u64; 3],
    /// The descriptor that it waits on, if it waits on one; of some calls, another number.
    pub fd: Option<u32>,
    /// `st_mode` of that descriptor's file; 0 when unknown.
    pub mode: u16,
    pub holds_gil: bool,
    /// It sleeps inside the lock of its interpreter.
    pub waits_for_gil: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    Mysql,
    Sqlite,
}

/// What a thread's native frames can be found from: its registers in its own code, and a copy of its stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Native<'a> {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// From `sp` upwards.
    pub stack: &'a [u8],
    /// The stack goes on beyond what was copied.
    pub cut: bool,
}

/// What the kernel half could copy of an exception while it was there.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    pub id: ExceptionId,
    pub relation: Relation,
    /// Address of its class.
    pub class: u64,
    /// `tp_name` of its class, perhaps cut.
    pub class_name: String,
    /// How many of its kind at its place were not told since the last that was.
    pub suppressed: u32,
    /// By what the kernel half keeps its rate; `None` where it was not asked.
    pub place: Option<u64>,
    /// How many arguments it has.
    pub arguments: u32,
    /// The first two arguments, as far as there are any.
    pub values: [Option<Value>; 2],
    /// What an `OSError` keeps as its file's name. Only meaningful for one.
    pub file_name: Option<Value>,
    /// Its traceback so far, outermost first, as Python prints it.
    pub frames: Vec<pyapm_wire::python::Frame>,
    /// The traceback has more frames, further in.
    pub frames_cut: bool,
    /// There are more causes and contexts.
    pub chain_cut: bool,
}

/// To an exception that was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    None,
    /// This is the other's `__cause__`.
    CauseOf(ExceptionId),
    /// This is the other's `__context__`.
    ContextOf(ExceptionId),
    /// This goes on with the other's traceback.
    Continues(ExceptionId),
}

/// An argument of an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Address of its class.
    pub class: u64,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A string, or its beginning.
    Text {
        text: String,
        cut: bool,
    },
    /// An int's words behind the object's head, as the version lays them out.
    Int([u64; 3]),
    Other,
}

/// See `pyapm_wire::python::status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackStatus {
    Complete,
    NoLayout,
    NoThreadState,
    NoFrame,
    Unreadable,
    Truncated,
    NotAsked,
}
