//! Every map, with its size's reason and who writes it.

use crate::io::Call;
use crate::registers::Registers;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use pyapm_wire::connection::{HINT_SLOTS, Hint, Key, RECORD_CAPTURE, TAIL_CAPTURE};
use pyapm_wire::count;
use pyapm_wire::event::{Io, STATEMENT_CAPTURE, Sleeper, Stack, Statement};
use pyapm_wire::python::{CODE_BYTES, FRAME_BYTES, Frame, MAX_FRAMES};
use pyapm_wire::settings::{IO_COPIES, Settings};
use pyapm_wire::target::{MAX_SLEEPERS, MAX_TARGETS, Target};

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

/// See `pyapm_wire::count`: a row of slots for each CPU.
#[map]
pub(crate) static COUNTS: Array<u64> = Array::with_max_entries(count::SLOTS * count::CPUS, MMAPABLE);

/// The ring. The size here is replaced at load by the configured one.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(8 * 1024 * 1024, 0);

/// Working space of the socket program, one for each copy. Per CPU is enough: the kernel runs no program on a
/// CPU on which it is active already, and nothing that interrupts it uses this.
#[map]
pub(crate) static IO_SCRATCH: PerCpuArray<IoScratch> = PerCpuArray::with_max_entries(IO_COPIES, 0);

/// Threads whose current call one of the copies of the socket program has taken. Used on kernels alone that
/// need copies.
#[map]
pub(crate) static HANDLED: HashMap<u64, u32> = HashMap::with_max_entries(16_384, 0);

/// Working space of the sampling program, which runs in an interrupt and is never nested.
#[map]
pub(crate) static SAMPLE_SCRATCH: PerCpuArray<StackScratch> = PerCpuArray::with_max_entries(1, 0);

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
    task_state: 0,
    task_run_delay: 0,
    task_last_queued: 0,
    task_cfs_rq: 0,
    cfs_rq_rq: 0,
    rq_clock: 0,
    padding: 0,
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

/// What the kernel keeps of one descriptor.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connection {
    pub id: u64,
    /// `Target::generation` of the process that it belongs to.
    pub generation: u64,
    /// Inode number of the file that it was.
    pub inode: u64,
    pub in_offset: u64,
    pub out_offset: u64,
    /// 0: a descriptor that is not a stream socket, never looked at again. 1: a stream socket.
    pub is_stream: u32,
    /// One of the constants in `connection::manner`.
    pub manner: u32,
}

#[repr(C)]
pub(crate) struct IoScratch {
    pub stack: StackScratch,
    pub call: Call,
    pub record: Io,
    pub payload: [u8; (RECORD_CAPTURE + TAIL_CAPTURE) as usize],
}

#[repr(C)]
pub(crate) struct StackScratch {
    pub record: Stack,
    pub frames: [Frame; MAX_FRAMES],
    /// State of the walk. It lives here and not in registers, where each value that the verifier knows
    /// would multiply the states that it has to walk through.
    pub cursor: u64,
    pub hash: u64,
    /// The thread state that the walk began at; 0 when there was none.
    pub tstate: u64,
    /// All ones or 0: what this layout has, so that the loop need not branch on it.
    pub has_owner: u64,
    pub has_bytecode: u64,
    pub has_version: u64,
    /// The interpreter frame, and the code object, that the walk is at. Eight bytes more than is read: a
    /// field at the last offset stays inside.
    pub frame: [u8; FRAME_BYTES + 8],
    pub code: [u8; CODE_BYTES + 8],
}

#[repr(C)]
pub(crate) struct OffCpuScratch {
    pub stack: StackScratch,
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
