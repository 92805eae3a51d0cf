//! Where the kernel structs that the programs read have their members, on this kernel: the programs' settings,
//! filled from BTF.

use super::btf::{Btf, BtfError};
use pyapm_wire::settings::Settings;

/// Every offset field; what is a choice and not an offset is 0, or 1 for the copies of the socket program.
///
/// # Errors
/// When this kernel has no such struct or member: it is then one that this program does not know.
pub fn settings(btf: &Btf) -> Result<Settings, BtfError> {
    let offset = |structure: &str, path: &str| btf.member(structure, path).map(|member| member.offset);
    let queue = queue(btf).unwrap_or_default();
    Ok(Settings {
        task_fsbase: offset("task_struct", "thread.fsbase")?,
        task_tgid: offset("task_struct", "tgid")?,
        task_pid: offset("task_struct", "pid")?,
        task_files: offset("task_struct", "files")?,
        files_fdt: offset("files_struct", "fdt")?,
        fdtable_fd: offset("fdtable", "fd")?,
        fdtable_max_fds: offset("fdtable", "max_fds")?,
        file_inode: offset("file", "f_inode")?,
        file_private_data: offset("file", "private_data")?,
        inode_mode: offset("inode", "i_mode")?,
        socket_sk: offset("socket", "sk")?,
        sock_family: offset("sock", "__sk_common.skc_family")?,
        sock_local_port: offset("sock", "__sk_common.skc_num")?,
        sock_peer_port: offset("sock", "__sk_common.skc_dport")?,
        sock_local_v4: offset("sock", "__sk_common.skc_rcv_saddr")?,
        sock_peer_v4: offset("sock", "__sk_common.skc_daddr")?,
        sock_local_v6: offset("sock", "__sk_common.skc_v6_rcv_saddr")?,
        sock_peer_v6: offset("sock", "__sk_common.skc_v6_daddr")?,
        task_signal: offset("task_struct", "signal")?,
        signal_live: offset("signal_struct", "live")?,
        wakeup_bytes: 0,
        socket_type: offset("socket", "type")?,
        inode_number: offset("inode", "i_ino")?,
        task_stack: offset("task_struct", "stack")?,
        io_copies: 1,
        native: 0,
        task_mm: offset("task_struct", "mm")?,
        mm_start_stack: offset("mm_struct", "start_stack")?,
        task_state: offset("task_struct", "__state").or_else(|_| offset("task_struct", "state"))?,
        task_run_delay: queue.task_run_delay,
        task_last_queued: queue.task_last_queued,
        task_cfs_rq: queue.task_cfs_rq,
        cfs_rq_rq: queue.cfs_rq_rq,
        rq_clock: queue.rq_clock,
        tcp_write_seq: offset("tcp_sock", "write_seq")?,
        tcp_copied_seq: offset("tcp_sock", "copied_seq")?,
        loop_blocked_ms: 0,
        tcp_last_received: offset("tcp_sock", "inet_conn.icsk_ack.lrcvtime")?,
        tick_us: 0,
        code_deaths: 0,
    })
}

/// What tells how long a thread has waited for a CPU. Kernels without `CONFIG_SCHED_INFO` or
/// `CONFIG_FAIR_GROUP_SCHED` do not tell it: all of these are 0 then.
fn queue(btf: &Btf) -> Result<Settings, BtfError> {
    let offset = |structure: &str, path: &str| btf.member(structure, path).map(|member| member.offset);
    Ok(Settings {
        task_run_delay: offset("task_struct", "sched_info.run_delay")?,
        task_last_queued: offset("task_struct", "sched_info.last_queued")?,
        task_cfs_rq: offset("task_struct", "se.cfs_rq")?,
        cfs_rq_rq: offset("cfs_rq", "rq")?,
        rq_clock: offset("rq", "clock")?,
        ..Settings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_running_kernel() {
        let btf = Btf::running_kernel().unwrap();
        let settings = settings(&btf).unwrap();
        assert_eq!(settings.sock_family, 16);
        assert_eq!(settings.sock_peer_port, 12);
        assert_eq!(settings.sock_local_port, 14);
        assert_eq!(settings.sock_peer_v4, 0);
        assert_eq!(settings.sock_local_v4, 4);
        assert_eq!(settings.task_pid + 4, settings.task_tgid);
        assert_eq!(settings.sock_local_v6, settings.sock_peer_v6 + 16);
        assert!(settings.task_fsbase > settings.task_signal);
        assert_eq!(settings.wakeup_bytes, 0);
        assert_eq!(btf.structure_of(btf.member("cfs_rq", "rq").unwrap()).as_deref(), Some("rq"));
        assert_eq!(
            btf.structure_of(btf.member("task_struct", "se.cfs_rq").unwrap()).as_deref(),
            Some("cfs_rq")
        );
        assert!(settings.task_last_queued > settings.task_run_delay);
        // The types behind the offsets are those that the programs take them for.
        let leads_to =
            |structure: &str, path: &str| btf.structure_of(btf.member(structure, path).unwrap()).unwrap();
        assert_eq!(leads_to("task_struct", "signal"), "signal_struct");
        assert_eq!(leads_to("files_struct", "fdt"), "fdtable");
        assert_eq!(leads_to("file", "f_inode"), "inode");
        assert_eq!(leads_to("socket", "sk"), "sock");
    }
}
