//! Constants handed to the programs at load, as the read-only global `SETTINGS`: kernel struct offsets
//! from BTF (Rust BPF has no CO-RE relocations), and choices that hold for the whole run.

use bytemuck::{Pod, Zeroable};

/// Offsets in bytes, kernel x86-64. Source of each: `/sys/kernel/btf/vmlinux` of the running kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable, PartialEq, Eq)]
pub struct Settings {
    /// `task_struct.thread` + `thread_struct.fsbase`.
    pub task_fsbase: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.files`.
    pub task_files: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.fd`.
    pub fdtable_fd: u32,
    /// `fdtable.max_fds`.
    pub fdtable_max_fds: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.private_data`: the `struct socket` of a socket's file.
    pub file_private_data: u32,
    /// `inode.i_mode` (u16).
    pub inode_mode: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `sock.__sk_common.skc_family` (u16).
    pub sock_family: u32,
    /// `sock.__sk_common.skc_num` (u16, host order): local port.
    pub sock_local_port: u32,
    /// `sock.__sk_common.skc_dport` (u16, network order): peer's port.
    pub sock_peer_port: u32,
    /// `sock.__sk_common.skc_rcv_saddr` (4 bytes).
    pub sock_local_v4: u32,
    /// `sock.__sk_common.skc_daddr` (4 bytes).
    pub sock_peer_v4: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr` (16 bytes).
    pub sock_local_v6: u32,
    /// `sock.__sk_common.skc_v6_daddr` (16 bytes).
    pub sock_peer_v6: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live` (atomic_t): threads of the process still alive.
    pub signal_live: u32,
    /// Bytes in the ring beyond which its reader is woken at once.
    pub wakeup_bytes: u32,
    /// `socket.type` (i16).
    pub socket_type: u32,
    /// `inode.i_ino` (unsigned long).
    pub inode_number: u32,
    /// `task_struct.stack`.
    pub task_stack: u32,
    /// Copies of the socket program that are attached, 1 to [`IO_COPIES`].
    pub io_copies: u32,
    /// Native stacks are wanted: 1, else 0.
    pub native: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `mm_struct.start_stack`: where the main thread's stack begins.
    pub mm_start_stack: u32,
    /// `task_struct.__state`, `state` before 5.14.
    pub task_state: u32,
    /// `task_struct.sched_info.run_delay`; 0 on a kernel without it, and then the four that follow are 0, too.
    pub task_run_delay: u32,
    /// `task_struct.sched_info.last_queued`.
    pub task_last_queued: u32,
    /// `task_struct.se.cfs_rq`.
    pub task_cfs_rq: u32,
    /// `cfs_rq.rq`.
    pub cfs_rq_rq: u32,
    /// `rq.clock`.
    pub rq_clock: u32,
    /// `tcp_sock.write_seq` (u32): sequence number behind the last byte that was handed to the connection.
    pub tcp_write_seq: u32,
    /// `tcp_sock.copied_seq` (u32): sequence number of the next byte that will be read.
    pub tcp_copied_seq: u32,
    /// From how many milliseconds on a turn of an event loop is told of.
    pub loop_blocked_ms: u32,
    /// `tcp_sock.inet_conn.icsk_ack.lrcvtime` (u32): when the latest packet with data came, in ticks of the kernel's clock.
    pub tcp_last_received: u32,
    /// Length of such a tick; 0 when it is not known.
    pub tick_us: u32,
    /// 1 where no program on a uprobe is ever skipped, so that [`crate::python::Layout::deaths_told`] may be 1; else 0.
    pub code_deaths: u32,
}

/// Copies of the socket program that there are.
pub const IO_COPIES: u32 = 3;

const _: () = assert!(size_of::<Settings>() == 160);
