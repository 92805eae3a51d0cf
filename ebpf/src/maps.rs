//! Every map, with its size's reason and who writes it.

use crate::io::Call;
use crate::registers::Registers;
use crate::stack::Walked;
use crate::window::{PAGE_PLACES, WINDOW_PLACES, Window};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use pyapm_wire::connection::{HINT_SLOTS, Hint, Key, RECORD_CAPTURE, TAIL_CAPTURE};
use pyapm_wire::count;
use pyapm_wire::event::{
    Io, LoopTurns, NATIVE_CAPTURE, Native, STATEMENT_CAPTURE, Sleeper, SqliteLayout, Stack, Statement,
};
use pyapm_wire::exception::PLACES;
use pyapm_wire::python::{CODE_BYTES, DEATH_SLOTS, DEEP_FRAMES, Frame, Layout, MAX_FRAMES, PART_FRAMES};
use pyapm_wire::settings::{IO_COPIES, Settings};
use pyapm_wire::target::{MAX_SLEEPERS, MAX_TARGETS, Target};
use pyapm_wire::task::{MAX_OPEN, MAX_PROCESSES, TaskBegun, TaskSites};

/// Processes that are watched. Written by userspace at attach, by the fork, exec and exit programs after.
#[map]
pub(crate) static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Descriptors of targets on which a read or write was seen, sockets and others. LRU: a host has bounded
/// memory, and the least recently used connection is the one that can best be met anew.
#[map]
pub(crate) static CONNECTIONS: LruHashMap<Key, Connection> = LruHashMap::with_max_entries(32_768, 0);

/// Shared with userspace as memory: a map's system calls keep tracing programs from running on their CPU
/// (kernel `bpf_disable_instrumentation`), and a thread that is preempted in one would blind us there.
const MMAPABLE: u32 = 1 << 10;

/// What userspace wants of a connection's bytes, in the slot of its id; only userspace writes.
#[map]
pub(crate) static HINTS: Array<Hint> = Array::with_max_entries(HINT_SLOTS, MMAPABLE);

/// Stacks whose frames have been sent. Only the kernel writes. LRU: a forgotten stack is sent again.
#[map]
pub(crate) static STACKS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16_384, 0);

/// How many code objects the processes of a slot have given up since the start. Only the kernel writes, and nothing ever
/// goes back to what it was.
#[map]
pub(crate) static CODE_DEATHS: Array<u64> = Array::with_max_entries(DEATH_SLOTS, 0);

/// Whole stacks by what is seen of them without a look at their code objects; see `met::take`. Only the kernel writes.
/// LRU: a forgotten one is looked at again.
#[map]
pub(crate) static MET_STACKS: LruHashMap<u64, MetStack> = LruHashMap::with_max_entries(16_384, 0);

/// See `pyapm_wire::count`: a row of slots for each CPU.
#[map]
pub(crate) static COUNTS: Array<u64> = Array::with_max_entries(count::SLOTS * count::CPUS, MMAPABLE);

/// The ring. The size here is replaced at load by the configured one.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(8 * 1024 * 1024, 0);

/// Working space of the socket program, one for each copy. Per CPU is enough: the kernel runs no program on a
/// CPU on which it is active already, and nothing that interrupts it uses this.
#[map]
pub(crate) static IO_SCRATCH: PerCpuArray<IoScratch<SOCKET_ROOM>> =
    PerCpuArray::with_max_entries(IO_COPIES, 0);

/// Threads whose current call one of the copies of the socket program has taken. Used on kernels alone that
/// need copies.
#[map]
pub(crate) static HANDLED: HashMap<u64, u32> = HashMap::with_max_entries(16_384, 0);

/// Working space of the sampling program, which runs in an interrupt and is never nested, and of the switch program,
/// which runs with interrupts off. One entry for each CPU, whose number is put in at load: the kernel's own per-CPU maps hold no more than 32 KiB
/// (`PCPU_MIN_UNIT_SIZE`).
#[map]
pub(crate) static SAMPLE_SCRATCH: Array<DeepScratch> = Array::with_max_entries(1, 0);

/// Working space for native stacks, by CPU: too large for a per-CPU map, whose values have at most 32 KiB. Made as
/// long as there are CPUs when native stacks are wanted.
#[map]
pub(crate) static NATIVE_SCRATCH: Array<NativeScratch> = Array::with_max_entries(1, 0);

/// Working space of uprobe programs, by thread: these can be preempted, so a CPU's space could be taken
/// over half way. 1,024 threads inside driver calls at once; removed at thread exit.
#[map]
pub(crate) static THREAD_SCRATCH: HashMap<u64, StatementScratch> = HashMap::with_max_entries(1024, 0);

/// Threads of targets that have been on a CPU since the switch program was attached, by thread id; removed when they
/// end. The size here is replaced by 1 at load where that program is not attached.
#[map]
pub(crate) static SLEEPERS: HashMap<u32, Sleeper> = HashMap::with_max_entries(MAX_SLEEPERS, 0);

/// Working space of the switch program, which runs with interrupts off and is never nested.
#[map]
pub(crate) static OFF_CPU_SCRATCH: PerCpuArray<OffCpuScratch> = PerCpuArray::with_max_entries(1, 0);

/// Zeroes from which a thread's scratch is made: too large for the BPF stack.
#[map]
pub(crate) static BLANK: PerCpuArray<StatementScratch> = PerCpuArray::with_max_entries(1, 0);

/// Threads that have been inside a TLS library's read or write, and their call when they are. Removed at
/// thread exit.
#[map]
pub(crate) static TLS_CALLS: HashMap<u64, TlsCall> = HashMap::with_max_entries(16_384, 0);

/// Threads that have been inside SQLite's `sqlite3_step` or `sqlite3_prepare`, and their outermost call when they
/// are. Removed at thread exit.
#[map]
pub(crate) static SQLITE_CALLS: HashMap<u64, SqliteCall> = HashMap::with_max_entries(16_384, 0);

/// Statements of SQLite that have begun and are not over. LRU: one that its application forgets is never over.
#[map]
pub(crate) static SQLITE_RUNNING: LruHashMap<SqliteKey, SqliteRun> = LruHashMap::with_max_entries(16_384, 0);

/// What a build of SQLite is like, by the address of a probe. Written by userspace: children have their parents'
/// addresses. LRU: nobody knows which addresses will never be met again.
#[map]
pub(crate) static SQLITE_LAYOUTS: LruHashMap<u64, SqliteLayout> = LruHashMap::with_max_entries(8192, 0);

/// Sockets whose connection is being made. LRU: one that is given up is never told of.
#[map]
pub(crate) static CONNECTING: LruHashMap<Key, Connecting> = LruHashMap::with_max_entries(4096, 0);

/// Threads that look up the addresses of a host. LRU: a thread may end while it does.
#[map]
pub(crate) static LOOKING_UP: LruHashMap<u64, LookingUp> = LruHashMap::with_max_entries(1024, 0);

/// TLS sessions on which plaintext was seen. LRU, as `CONNECTIONS`.
#[map]
pub(crate) static TLS_SESSIONS: LruHashMap<TlsKey, Connection> = LruHashMap::with_max_entries(16_384, 0);

/// Working space of the program that sends plaintext, by thread, as `THREAD_SCRATCH`. Smaller than the socket
/// program's: one TLS record is 16 KiB at most, and there is one of these for each thread.
#[map]
pub(crate) static TLS_SCRATCH: HashMap<u64, IoScratch<TLS_ROOM>> = HashMap::with_max_entries(512, 0);

#[map]
pub(crate) static TLS_BLANK: PerCpuArray<IoScratch<TLS_ROOM>> = PerCpuArray::with_max_entries(1, 0);

/// Payload of a record of the socket program, and of the TLS program.
pub(crate) const SOCKET_ROOM: usize = (RECORD_CAPTURE + TAIL_CAPTURE) as usize;
pub(crate) const TLS_ROOM: usize = 4096 + TAIL_CAPTURE as usize;

/// Exceptions that were sent and may pass more frames, by what headed their traceback at the last one. LRU: most
/// have been caught, and nobody says so.
#[map]
pub(crate) static PASSING: LruHashMap<TracebackKey, Passing> = LruHashMap::with_max_entries(8192, 0);

/// How many exceptions of a place were sent lately; the last two rows are for all places together, the quiet ones
/// in the last. Places share a row when their hashes do: the later one takes it over.
#[map]
pub(crate) static RATES: Array<Rate> = Array::with_max_entries(PLACES + 2, 0);

/// Places whose exceptions libraries always catch themselves; only userspace writes. See `pyapm_wire::exception`.
#[map]
pub(crate) static QUIET: Array<u64> = Array::with_max_entries(PLACES, MMAPABLE);

/// Threads that turn an event loop, by process and thread id. LRU: threads end, and nobody says so.
#[map]
pub(crate) static LOOPS: LruHashMap<u64, LoopTurns> = LruHashMap::with_max_entries(4096, 0);

/// What is read of tasks that breakpoints tell of. Only userspace writes.
#[map]
pub(crate) static TASK_SITES: HashMap<u32, TaskSites> = HashMap::with_max_entries(MAX_PROCESSES, 0);

/// The frame of the task that a thread has begun, by process and thread id. LRU: threads end, and nobody says so.
#[map]
pub(crate) static TASK_OPEN: LruHashMap<u64, u64> = LruHashMap::with_max_entries(MAX_OPEN, 0);

/// Working space of the program behind those breakpoints, which interrupts a thread's own code and is not preempted.
#[map]
pub(crate) static TASK_SCRATCH: PerCpuArray<TaskScratch> = PerCpuArray::with_max_entries(1, 0);

/// Kernel offsets and choices of this run, set by userspace before load.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    task_fsbase: 0,
    task_tgid: 0,
    task_pid: 0,
    task_files: 0,
    files_fdt: 0,
    fdtable_fd: 0,
    fdtable_max_fds: 0,
    file_inode: 0,
    file_private_data: 0,
    inode_mode: 0,
    socket_sk: 0,
    sock_family: 0,
    sock_local_port: 0,
    sock_peer_port: 0,
    sock_local_v4: 0,
    sock_peer_v4: 0,
    sock_local_v6: 0,
    sock_peer_v6: 0,
    task_signal: 0,
    signal_live: 0,
    wakeup_bytes: 0,
    socket_type: 0,
    inode_number: 0,
    task_stack: 0,
    io_copies: 0,
    native: 0,
    task_mm: 0,
    mm_start_stack: 0,
    task_state: 0,
    task_run_delay: 0,
    task_last_queued: 0,
    task_cfs_rq: 0,
    cfs_rq_rq: 0,
    rq_clock: 0,
    tcp_write_seq: 0,
    tcp_copied_seq: 0,
    loop_blocked_ms: 0,
    tcp_last_received: 0,
    tick_us: 0,
    code_deaths: 0,
};

/// One setting, read so that the compiler does not take the zeroes above for the value.
macro_rules! setting {
    ($field:ident) => {{
        // SAFETY: the static is valid for reads; the loader has replaced its bytes before the program runs.
        u64::from(unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::settings()).$field) })
    }};
}
pub(crate) use setting;

#[inline(always)]
pub(crate) fn settings() -> *const Settings {
    &raw const SETTINGS
}

/// A connection that is being made.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connecting {
    /// When it was asked for.
    pub since_ns: u64,
    /// Network byte order; IPv4 in the first four bytes.
    pub address: [u8; 16],
    pub family: u16,
    /// Host byte order.
    pub port: u16,
    pub padding: u32,
}

/// A call of `getaddrinfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LookingUp {
    pub since_ns: u64,
    /// Address of the name.
    pub node: u64,
    /// Where the address of the first result will stand.
    pub results: u64,
}

/// What the kernel keeps of one descriptor.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connection {
    pub id: u64,
    /// `Target::generation` of the process that it belongs to.
    pub generation: u64,
    /// Inode number of the file that it was; of a TLS session, the connection that carries it, or 0.
    pub inode: u64,
    pub in_offset: u64,
    pub out_offset: u64,
    /// 0: a descriptor that is not a stream socket, never looked at again. 1: a stream socket.
    pub is_stream: u32,
    /// One of the constants in `connection::manner`.
    pub manner: u32,
}

/// A stack that was walked with all that belongs to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct MetStack {
    /// Its id.
    pub stack: u64,
    /// What `CODE_DEATHS` had counted before the walk.
    pub deaths: u64,
}

/// `ROOM` bytes of payload, head and tail together.
#[repr(C)]
pub(crate) struct IoScratch<const ROOM: usize> {
    pub stack: StackScratch,
    pub call: Call,
    pub record: Io,
    pub payload: [u8; ROOM],
}

/// A TLS session: the library's handle (`SSL *`) in one process.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TlsKey {
    pub tgid: u64,
    pub handle: u64,
}

/// A thread's call into a TLS library.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TlsCall {
    /// `SSL *`; 0 when the thread is in no such call.
    pub handle: u64,
    pub buffer: u64,
    /// Bytes that the buffer has, or that are to be written.
    pub size: u64,
    /// Where the library writes how many bytes moved; 0 when it returns their number.
    pub count: u64,
    pub outbound: u64,
    /// The connection on which a system call inside this one moved bytes; 0 when there was none.
    pub carrier: u64,
}

/// A statement of SQLite (`sqlite3_stmt *`) in one process.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SqliteKey {
    pub tgid: u64,
    pub statement: u64,
}

/// A statement of SQLite that has begun.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SqliteRun {
    pub rows: u64,
    pub layout: SqliteLayout,
    /// 0: its beginning could not be told, so nothing of it is.
    pub told: u64,
}

/// A thread's outermost call into SQLite.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SqliteCall {
    /// The statement, or the database that prepares one; 0 when the thread is in no such call.
    pub handle: u64,
    /// The stack pointer at its beginning: calls that the library makes itself begin further down.
    pub stack_pointer: u64,
    /// Of a preparation: when it began, its text, the text's length or -1, and the probe's address. 0 in a step.
    pub since_ns: u64,
    pub text: u64,
    pub length: i64,
    pub probe: u64,
}

#[repr(C)]
pub(crate) struct TaskScratch {
    /// Values of the headers that matter, by their places in `task.rs`; 0 for those that are not there.
    pub found: [u64; 8],
    pub record: TaskBegun,
}

#[repr(C)]
pub(crate) struct StackScratch {
    pub walk: Walk,
    pub record: Stack,
    pub frames: [Frame; MAX_FRAMES],
}

/// A [`StackScratch`] that is longer at its end.
#[repr(C)]
pub(crate) struct DeepScratch {
    pub walk: Walk,
    pub record: Stack,
    pub frames: [Frame; DEEP_FRAMES],
    /// Never used: the verifier does not see that a part which begins late is short.
    pub beyond: [Frame; PART_FRAMES],
    /// For the walk that looks at frames alone.
    pub page: Window<PAGE_PLACES>,
    pub layout: Layout,
    pub stack: u64,
    pub status: u32,
    pub kept: u32,
    pub sent: u32,
    pub padding: u32,
}

const _: () =
    assert!(core::mem::offset_of!(StackScratch, frames) == core::mem::offset_of!(DeepScratch, frames));

/// Code objects that a walk has looked at and may meet again, in the slots of their addresses.
pub(crate) const KNOWN_CODES: usize = 16;
const _: () = assert!(KNOWN_CODES.is_power_of_two());

#[repr(C)]
pub(crate) struct KnownCode {
    /// Its address; 0 for none.
    pub code: u64,
    pub identity: u64,
}

/// State of a walk. It lives here and not in registers, where each value that the verifier knows would
/// multiply the states that it has to walk through.
#[repr(C)]
pub(crate) struct Walk {
    pub cursor: u64,
    /// Where it began, or what leads there, by `place`.
    pub first: u64,
    /// One of `stack::place`: what is known of where the thread's frames begin.
    pub place: u64,
    /// Frames so far.
    pub frames: u64,
    pub hash: u64,
    /// The thread state that `first` was found by; 0 when there was none.
    pub tstate: u64,
    /// All ones or 0: what this layout has, so that the loop need not branch on it.
    pub has_owner: u64,
    pub has_bytecode: u64,
    pub has_entry: u64,
    pub has_copies: u64,
    /// 1 while it looks at frames alone, else 0.
    pub is_glance: u64,
    /// Key of `MET_STACKS` for what this walk sees, and what `CODE_DEATHS` counted before it; both 0 when neither matters.
    pub met: u64,
    pub deaths: u64,
    /// Frames of the interpreter's own before the first Python frame.
    pub top_entries: u64,
    /// How it has ended, of `status`, once it has.
    pub status: u64,
    pub codes: [KnownCode; KNOWN_CODES],
    /// Interpreter frames, copied with what lies before them.
    pub window: Window<WINDOW_PLACES>,
    /// The code object that the walk is at.
    pub code: [u8; CODE_BYTES + 8],
    /// Hash of the contents of its name.
    pub name: u64,
}

#[repr(C)]
pub(crate) struct NativeScratch {
    pub record: Native,
    /// A page more than is copied: the loop's bound check looks at where a copy begins.
    pub bytes: [u8; NATIVE_CAPTURE as usize + 4096],
    /// Where the next copy begins, and what lies above the stack. Here for the reason given at `StackScratch`.
    pub cursor: u64,
    pub end: u64,
}

#[repr(C)]
pub(crate) struct OffCpuScratch {
    pub walked: Walked,
    /// Stays zero: a new thread's entry is made from it.
    pub blank: Sleeper,
    pub registers: Registers,
    /// The thread that leaves could go on.
    pub preempted: u64,
    pub now_ns: u64,
}

#[repr(C)]
pub(crate) struct StatementScratch {
    pub stack: StackScratch,
    pub record: Statement,
    pub text: [u8; STATEMENT_CAPTURE as usize],
}

/// A traceback object of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TracebackKey {
    pub tgid: u32,
    pub padding: u32,
    pub traceback: u64,
}

/// An exception on its way.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Passing {
    /// 0: it has not left the frame that raised it.
    pub id: u64,
    pub class: u64,
    /// Address of the exception, or of its arguments while it is not made.
    pub value: u64,
    /// 1 once the exception is made.
    pub is_made: u64,
}

/// Exceptions of one place.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    /// A hash; 0 for none.
    pub place: u64,
    /// The while that `sent` is about; 0 for none.
    pub at: u64,
    pub sent: u64,
    /// Not sent since the last that was.
    pub suppressed: u64,
}
