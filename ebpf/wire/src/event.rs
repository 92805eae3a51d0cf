//! Records in the ring buffer, kernel to userspace. Each starts with a [`Header`]; `kind` says which
//! struct follows it, and after that struct comes the variable part, up to `Header::len`.
//!
//! Order: records of one thread come in the order in which that thread made them, because ring space is
//! reserved by the thread itself. A parent's `FORK` comes before anything of its child. Nothing more is
//! promised about order between threads.
//!
//! Numbers are never reused; a retired kind keeps its line with a note.

use crate::scope::Scope;
use bytemuck::{Pod, Zeroable};

/// Values of [`Header::kind`].
pub mod kind {
    pub const FORK: u16 = 1;
    pub const EXEC: u16 = 2;
    pub const EXIT: u16 = 3;
    pub const CONNECTION_OPENED: u16 = 4;
    pub const CONNECTION_CLOSED: u16 = 5;
    pub const IO: u16 = 6;
    pub const STATEMENT: u16 = 7;
    pub const SAMPLE: u16 = 8;
    pub const STACK: u16 = 9;
    pub const CONTEXT: u16 = 10;
    pub const NATIVE: u16 = 16;
    pub const WRITE_QUEUED: u16 = 11;
    pub const TLS_SESSION: u16 = 22;
    /// A process, target or not, has become another program by exec: a bare [`super::Header`].
    pub const STARTED: u16 = 27;
    /// A process, target or not, has begun to listen on a socket: a bare [`super::Header`].
    pub const LISTENS: u16 = 28;
    /// See [`crate::exception::Exception`].
    pub const EXCEPTION: u16 = 12;
    /// See [`crate::exception::Passed`].
    pub const EXCEPTION_PASSED: u16 = 13;
    pub const OFF_CPU: u16 = 14;
    pub const LOOP_BLOCKED: u16 = 41;
    /// A thread has been met that turns an event loop: a bare [`super::Header`].
    pub const LOOP_SEEN: u16 = 42;
    /// See [`super::HandedBack`].
    pub const HANDED_BACK: u16 = 38;
    pub const STATEMENT_STEP: u16 = 32;
    /// See [`super::Connected`].
    pub const CONNECTED: u16 = 53;
    /// See [`super::LookedUp`].
    pub const LOOKED_UP: u16 = 54;
    /// See [`crate::greenlet::Greenlet`].
    pub const GREENLET: u16 = 56;
    /// These three: see [`crate::task`].
    pub const TASK_BEGUN: u16 = 58;
    pub const TASK_DONE: u16 = 59;
    pub const TASK_LEFT: u16 = 64;
}

/// Common start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// Meaning depends on the kind; see the constants beside each record.
    pub flags: u16,
    /// Bytes of the whole record, this header included.
    pub len: u32,
    /// `CLOCK_MONOTONIC` nanoseconds (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
}

/// `FORK`: `Header::tgid` is the parent. The child is a target from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Fork {
    pub header: Header,
    pub child_tgid: u32,
    pub padding: u32,
}

/// `EXEC`, `EXIT` (the whole process has gone): the header says it all.
pub type Bare = Header;

/// Flags of a `CONNECTION_OPENED` record.
pub mod opened {
    /// `sent` and `received` are known: the connection is TCP's.
    pub const SEQUENCE: u16 = 1;
    /// `unread_us` is known.
    pub const UNREAD: u16 = 2;
}
/// Not a socket. Families are small numbers (kernel `include/linux/socket.h`, `AF_MAX`).
pub const FAMILY_PIPE: u16 = u16::MAX;

/// `CONNECTION_OPENED`: the first socket call of a target on this descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ConnectionOpened {
    pub header: Header,
    /// Unique for the life of the daemon; never 0.
    pub connection: u64,
    pub fd: u32,
    /// `AF_INET`, `AF_INET6`, `AF_UNIX` or whatever the socket says; [`FAMILY_PIPE`] for one end of a pipe.
    pub family: u16,
    /// Host byte order; 0 for unix sockets.
    pub local_port: u16,
    /// Host byte order; 0 for unix sockets.
    pub peer_port: u16,
    pub padding: u16,
    /// How long ago the latest bytes had come in, when the first call read some, in microseconds and to the kernel's
    /// tick: so long they had waited for somebody to read them.
    pub unread_us: u32,
    /// TCP's sequence number of the byte at offset 0 of each direction, as `IO` counts them: the same number on both
    /// sides of the connection, whenever each was first seen.
    pub sent: u32,
    pub received: u32,
    /// Network byte order; IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    pub peer_address: [u8; 16],
}

/// `CONNECTION_CLOSED`: close, dup2 over it, or the process's exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ConnectionClosed {
    pub header: Header,
    pub connection: u64,
}

/// `TLS_SESSION`: plaintext is about to be seen on a TLS session for the first time, or the connection below
/// has become known. The session has a connection id of its own, under which its `IO` records come; it ends
/// with a `CONNECTION_CLOSED`, if the library says so.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TlsSession {
    pub header: Header,
    /// The session's id, of the same numbers as those of connections.
    pub connection: u64,
    /// The connection that carries its bytes; 0 when the library was not seen to touch one.
    pub carrier: u64,
}

/// Flags of an `IO` record.
pub mod io {
    /// Bytes went out of the process (write, send ...); otherwise they came in.
    pub const OUT: u16 = 1;
    /// The peer closed its side: an inbound call returned 0.
    pub const END_OF_STREAM: u16 = 2;
    /// The call failed with an error that ends the connection (reset, broken pipe).
    pub const FAILED: u16 = 4;
    /// Plaintext that went through a TLS library. The connection is then the TLS session's.
    pub const TLS: u16 = 8;
}

/// `IO`: bytes moved on a socket by one system call. `Header::time_ns` is the call's return.
///
/// Payload: `head` bytes from the start of what was moved, directly after this struct, then `tail` bytes
/// from its end when `head < moved`. One call may give several records (each at its own `offset`) when it
/// moved more than one record may carry; `moved` is then the part that this record speaks of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Io {
    pub header: Header,
    pub connection: u64,
    /// Position of the first byte in this direction's stream since the connection was first seen.
    pub offset: u64,
    pub moved: u32,
    pub head: u32,
    pub tail: u32,
    /// Bytes that were wanted for `head` and `tail` and could not be read (page absent).
    pub unreadable: u32,
    pub scope: Scope,
    /// Stack at an outgoing call; 0 when there was none or it was not asked for, see `stack_status`.
    pub stack: u64,
    /// One of [`crate::python::status`].
    pub stack_status: u16,
    pub padding: u16,
    pub padding_2: u32,
}

/// Values of [`Statement::library`]: which C client carried it.
pub mod library {
    /// `mysql_real_query` / `mysql_send_query` of libmariadb or libmysqlclient.
    pub const MYSQL: u16 = 1;
    /// The first `sqlite3_step` of a statement, or a `sqlite3_prepare` that failed.
    pub const SQLITE: u16 = 2;
}

/// `STATEMENT`: a database client library was asked to run this text, which follows the struct.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Statement {
    pub header: Header,
    /// Stack at the call; 0 when there was none, see `stack_status`.
    pub stack: u64,
    /// The client library's handle (`MYSQL *`), the same for every call on one connection.
    pub handle: u64,
    /// Bytes of the whole text in the target.
    pub text_len: u32,
    /// Bytes of it that follow.
    pub captured: u32,
    pub library: u16,
    /// One of [`crate::python::status`].
    pub stack_status: u16,
    pub padding: u32,
    pub scope: Scope,
}

/// Values of [`StatementStep::step`].
pub mod step {
    /// The first row is there; more may come.
    pub const ROW: u32 = 1;
    /// It is over: `result` says how.
    pub const OVER: u32 = 2;
    /// It was reset or finalized before it was over.
    pub const LEFT: u32 = 3;
}

/// `STATEMENT_STEP`: how a statement of an embedded database goes on, after the `STATEMENT` with its `handle`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StatementStep {
    pub header: Header,
    /// [`Statement::handle`].
    pub handle: u64,
    /// Rows that it has given so far.
    pub rows: u64,
    /// What the database counts as changed by its latest statement that changes rows, which may be an earlier
    /// one; -1 when it could not be read.
    pub changes: i64,
    /// One of [`step`].
    pub step: u32,
    /// What the library says of the end: `SQLITE_DONE`, or an (extended) result code.
    pub result: u32,
}

/// Value of the map `SQLITE_LAYOUTS`, keyed by the address of a probe in a process: where one build of SQLite keeps
/// what is read of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SqliteLayout {
    /// Of the text's address in a statement, and of its database's; [`NOT_KNOWN`] when it could not be told.
    pub text: u32,
    pub database: u32,
    /// Of the latest result code, and of the number of changes, in a database; [`NOT_KNOWN`] as above.
    pub code: u32,
    pub changes: u32,
}

/// An offset that could not be told.
pub const NOT_KNOWN: u32 = u32::MAX;

/// `SAMPLE`: the thread was on a CPU when the sampling timer fired.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Sample {
    pub header: Header,
    /// 0 when there was none, see `stack_status`.
    pub stack: u64,
    pub stack_status: u16,
    pub padding: [u8; 6],
    pub scope: Scope,
}

/// `STACK`: the frames behind a stack id that this thread is about to use, or a part of them. `frames` of
/// [`crate::python::Frame`] follow, innermost first.
///
/// The parts of one stack come in order, with no other `STACK` of this thread between them. A part that found no
/// room in the ring ends them, and its stack counts as not sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stack {
    pub header: Header,
    /// Hash of all frames of the stack, those left out included, and of the target's generation; never 0.
    pub stack: u64,
    /// Frames that follow.
    pub frames: u32,
    /// One of [`crate::python::status`].
    pub stack_status: u16,
    /// Calls of the interpreter, inward of the innermost frame, whose last frame has ended.
    pub top_entries: u16,
    /// Frames of this stack in the parts before this one.
    pub before: u32,
    /// Frames of this stack in all its parts.
    pub kept: u32,
    /// Frames that are in none of them, behind the first [`crate::python::INNER_FRAMES`].
    pub left_out: u32,
    pub padding_2: [u32; 3],
}

/// Flags of a `CONTEXT` record.
pub mod context {
    /// Made empty; otherwise a copy of the current one.
    pub const EMPTY: u16 = 1;
}

/// `CONTEXT`: a new `PyContext` has been made by this thread. Whatever was known of its address before was of
/// another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Context {
    pub header: Header,
    /// Address of the new one.
    pub context: u64,
    /// The thread's current one; 0 when it has none.
    pub parent: u64,
    /// The one that was current before `parent` was entered; 0 when there was none.
    pub grandparent: u64,
}

/// Flags of a `NATIVE` record.
pub mod native {
    /// The stack goes on beyond the bytes that were copied.
    pub const CUT: u16 = 1;
}

/// `NATIVE`: the registers that the thread has in its own code, and its stack from `sp` upwards: `copied` bytes
/// follow. Made only when native frames are asked for, directly before the `SAMPLE` of the same moment and thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Native {
    pub header: Header,
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    pub copied: u32,
    pub padding: u32,
}

/// Bytes of a native stack that are copied at most.
pub const NATIVE_CAPTURE: u32 = 64 * 1024;

/// What `SAMPLE` and `OFF_CPU` say of the interpreter's lock, and of themselves: bits of [`Header::flags`].
pub mod gil {
    /// The thread held the lock of its interpreter. An `OFF_CPU` without a stack says so of threads in a futex alone.
    pub const HOLDS: u16 = 1;
    /// The thread slept on a futex inside the lock of its interpreter. Only in `OFF_CPU`.
    pub const WAITS: u16 = 2;
}

/// Values of [`OffCpu::call`] that are no system call.
pub mod call {
    /// The thread was in none: a page fault, a signal, the end of its time slice.
    pub const NONE: i32 = -1;
    /// The registers were not where they are on every known kernel.
    pub const UNKNOWN: i32 = -2;
}

/// `OFF_CPU`: a thread comes back to a CPU. `Header::time_ns` is when; `Header::tgid` and `tid` are its own, and
/// what follows is of the moment in which it left.
///
/// The record of a thread that was never seen to leave (it was away before the probe was attached, or it is new)
/// has `duration_ns` 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OffCpu {
    pub header: Header,
    /// From leaving to coming back.
    pub duration_ns: u64,
    /// The last part of it, in which the thread could have run and waited for a CPU; 0 where the kernel does not
    /// tell (`CONFIG_SCHED_INFO`).
    pub queued_ns: u64,
    /// 0 when there was none, see `stack_status`.
    pub stack: u64,
    /// The first three arguments of the system call.
    pub arguments: [u64; 3],
    /// Number of the system call, or one of [`call`].
    pub call: i32,
    /// The kernel's task state (`TASK_RUNNING` 0: it was taken off the CPU and did not want to wait; kernel
    /// `include/linux/sched.h`).
    pub state: u32,
    /// The descriptor that it waits on, if it waits on one; else -1.
    pub fd: i32,
    /// `i_mode` of that descriptor's inode; 0 when unknown.
    pub mode: u16,
    /// One of [`crate::python::status`].
    pub stack_status: u16,
    /// As of leaving.
    pub scope: Scope,
}

/// Value of the map `SLEEPERS`, keyed by thread id: what is kept of a thread of a target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Sleeper {
    /// When it left the CPU, `CLOCK_MONOTONIC` nanoseconds; 0 while it is on one.
    pub since_ns: u64,
    /// What the kernel had counted of its waiting for a CPU until then, in nanoseconds.
    pub run_delay_ns: u64,
    /// The record to be, without its times.
    pub record: OffCpu,
}

/// `WRITE_QUEUED`: the loop was told to write on this connection, and will do so later, on this thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Queued {
    pub header: Header,
    pub connection: u64,
    /// Who asked for it.
    pub scope: Scope,
}

/// `LOOP_BLOCKED`: a turn of an event loop has ended that took long. `Header::time_ns` is its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct LoopBlocked {
    pub header: Header,
    /// When the loop had come back from waiting.
    pub started_ns: u64,
}

/// Value of the map `LOOPS`, keyed by process and thread id: how the time of one event loop went.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct LoopTurns {
    /// Of the target that it was met as.
    pub generation: u64,
    /// Since when it works, or waits.
    pub since_ns: u64,
    /// In turns that have ended.
    pub busy_ns: u64,
    /// In waits that have ended.
    pub waited_ns: u64,
    pub turns: u64,
    /// 1 while it waits.
    pub waits: u64,
}

/// `HANDED_BACK`: a thread of a pool has woken the thread that reads requests: with the end of its work on one, or
/// with an answer that it could not write whole (waitress, `HTTPChannel.service` and `write_soon`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct HandedBack {
    pub header: Header,
}

/// `CONNECTED`: a connection over TCP that this process asked for is there. `Header::time_ns` is when that was noticed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Connected {
    pub header: Header,
    /// When it was asked for.
    pub started_ns: u64,
    pub fd: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Of the peer, host byte order.
    pub port: u16,
    /// Of the peer, network byte order; IPv4 in the first four bytes.
    pub address: [u8; 16],
}

/// Addresses of one host that are told at most, and bytes of its name, with the zero at the end.
pub const LOOKED_UP_ADDRESSES: usize = 6;
pub const LOOKED_UP_NAME: usize = 64;

/// `LOOKED_UP`: `getaddrinfo` has returned in this thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct LookedUp {
    pub header: Header,
    pub started_ns: u64,
    /// 0, or one of `EAI_*`.
    pub result: i32,
    /// How many of `found` are there, the first ones.
    pub addresses: u32,
    /// The beginning of the name that was looked up, which may itself be an address.
    pub name: [u8; LOOKED_UP_NAME],
    /// Network byte order; IPv4 in the first four bytes.
    pub found: [[u8; 16]; LOOKED_UP_ADDRESSES],
    /// `AF_INET` or `AF_INET6`.
    pub families: [u16; LOOKED_UP_ADDRESSES],
    pub padding: [u16; 2],
}

/// Bytes of a statement's text that are captured at most.
pub const STATEMENT_CAPTURE: u32 = 4096;

const _: () = assert!(size_of::<Header>() == 24);
const _: () = assert!(size_of::<Fork>() == 32);
const _: () = assert!(size_of::<ConnectionOpened>() == 88);
const _: () = assert!(size_of::<ConnectionClosed>() == 32);
const _: () = assert!(size_of::<TlsSession>() == 40);
const _: () = assert!(size_of::<Io>() == 96);
const _: () = assert!(size_of::<Statement>() == 80);
const _: () = assert!(size_of::<StatementStep>() == 56);
const _: () = assert!(size_of::<SqliteLayout>() == 16);
const _: () = assert!(size_of::<Sample>() == 64);
const _: () = assert!(size_of::<Stack>() == 64);
const _: () = assert!(size_of::<Context>() == 48);
const _: () = assert!(size_of::<Native>() == 56);
const _: () = assert!(size_of::<OffCpu>() == 112);
const _: () = assert!(size_of::<Sleeper>() == 128);
const _: () = assert!(size_of::<Queued>() == 56);
const _: () = assert!(size_of::<LoopBlocked>() == 32);
const _: () = assert!(size_of::<LoopTurns>() == 48);
const _: () = assert!(size_of::<HandedBack>() == 24);
const _: () = assert!(size_of::<Connected>() == 56);
const _: () = assert!(size_of::<LookedUp>() == 216);
