//! How long it takes to make a connection, and to find the address of a host. Neither is on the way of what moves bytes.
//!
//! Connections: tracepoints `syscalls:sys_enter_connect` (format: `int __syscall_nr` at 8, six arguments of 8 bytes from
//! 16 on), `sys_exit_connect` and `sys_exit_getsockopt` (`long ret` at 16). A `connect` that blocks ends with its call. One
//! that does not goes on in the kernel, and whoever waits for it asks by `getsockopt(SO_ERROR)` what became of it once the
//! socket is writable (connect(2), `EINPROGRESS`): CPython with a timeout, asyncio, libuv and libpq all do.
//!
//! Addresses: uprobes at the start of the C library's `getaddrinfo(node, service, hints, result)` and on what it returns by
//! (POSIX, `struct addrinfo` as glibc and musl have it on x86-64).

use crate::connection::{open_file, stream_sock};
use crate::emit;
use crate::lifecycle::header;
use crate::maps::{CONNECTING, Connecting, LOOKING_UP, LookingUp, TARGETS};
use crate::memory::user;
use crate::registers::Arguments;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user_str};
use aya_ebpf::macros::{tracepoint, uprobe};
use aya_ebpf::programs::{ProbeContext, TracePointContext};
use core::mem::MaybeUninit;
use pyapm_wire::connection::Key;
use pyapm_wire::event::{Connected, LOOKED_UP_ADDRESSES, LOOKED_UP_NAME, LookedUp, kind};

const CONNECT: u64 = 42;
const GETSOCKOPT: u64 = 55;
const SOL_SOCKET: u64 = 1;
const SO_ERROR: u64 = 4;
const EINTR: i64 = -4;
const EINPROGRESS: i64 = -115;
const EALREADY: i64 = -114;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

#[tracepoint]
fn connect_begins(context: TracePointContext) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is only tested for.
    if unsafe { TARGETS.get(tgid) }.is_none() {
        return 0;
    }
    // SAFETY: the arguments lie inside the record.
    let [fd, address] = unsafe { context.as_ptr().cast::<u8>().add(16).cast::<[u64; 2]>().read() };
    let _not_followed = connecting(tgid, fd as u32, address);
    0
}

#[inline(always)]
fn connecting(tgid: u32, fd: u32, address: u64) -> Option<()> {
    let [family, port] = user::<[u16; 2]>(address)?;
    stream_sock(&open_file(fd)?)?;
    let mut entry =
        Connecting { since_ns: 0, address: [0; 16], family, port: u16::from_be(port), padding: 0 };
    if family == AF_INET {
        // `struct sockaddr_in`.
        let host = user::<[u8; 4]>(address + 4)?;
        entry.address[..4].copy_from_slice(&host);
    } else if family == AF_INET6 {
        // `struct sockaddr_in6`.
        entry.address = user(address + 8)?;
    } else {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    entry.since_ns = unsafe { bpf_ktime_get_ns() };
    CONNECTING.insert(Key { tgid, fd }, entry, 0).ok()
}

#[tracepoint]
fn connect_goes_on(context: TracePointContext) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the entry is only tested for.
    if unsafe { TARGETS.get(tgid) }.is_none() {
        return 0;
    }
    // SAFETY: both fields lie inside the record of every `sys_exit_*` tracepoint.
    let (id, result) = unsafe {
        let record = context.as_ptr().cast::<u8>();
        (u64::from(record.add(8).cast::<u32>().read()), record.add(16).cast::<i64>().read())
    };
    let _not_followed = went_on(tgid, id, result);
    0
}

#[inline(always)]
fn went_on(tgid: u32, id: u64, result: i64) -> Option<()> {
    let mut arguments = MaybeUninit::<Arguments>::zeroed();
    // SAFETY: zeroes are valid for it.
    let arguments = unsafe { arguments.assume_init_mut() };
    arguments.read(id)?;
    let key = Key { tgid, fd: arguments.di as u32 };
    let found = CONNECTING.get_ptr(key)?;
    // SAFETY: map values stay valid while the program runs.
    let entry = unsafe { *found };
    let failed = match id {
        CONNECT if result == EINPROGRESS || result == EINTR || result == EALREADY => return None,
        CONNECT => result < 0,
        GETSOCKOPT => {
            if arguments.si != SOL_SOCKET || arguments.dx != SO_ERROR || result != 0 {
                return None;
            }
            user::<i32>(arguments.r10)? != 0
        }
        _ => return None,
    };
    let _gone_already = CONNECTING.remove(key);
    if !failed {
        emit::send(&Connected {
            header: header(kind::CONNECTED, size_of::<Connected>()),
            started_ns: entry.since_ns,
            fd: key.fd,
            family: entry.family,
            port: entry.port,
            address: entry.address,
        });
    }
    Some(())
}

#[uprobe]
fn lookup_begins(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the entry is only tested for.
    if unsafe { TARGETS.get((thread >> 32) as u32) }.is_none() {
        return 0;
    }
    let (Some(node), Some(results)) = (context.arg::<u64>(0), context.arg::<u64>(3)) else { return 0 };
    if node != 0 {
        // SAFETY: the helper has no preconditions.
        let since_ns = unsafe { bpf_ktime_get_ns() };
        let _unknown_when_full = LOOKING_UP.insert(thread, LookingUp { since_ns, node, results }, 0);
    }
    0
}

#[uprobe]
fn lookup_ends(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(found) = LOOKING_UP.get_ptr(thread) else { return 0 };
    // SAFETY: map values stay valid while the program runs.
    let LookingUp { since_ns, node, results } = unsafe { *found };
    let _gone_already = LOOKING_UP.remove(thread);
    // SAFETY: the registers of the probed thread are valid while the program runs.
    let result = unsafe { (*context.regs).rax } as i32;
    let mut record = LookedUp {
        header: header(kind::LOOKED_UP, size_of::<LookedUp>()),
        started_ns: since_ns,
        result,
        addresses: 0,
        name: [0; LOOKED_UP_NAME],
        found: [[0; 16]; LOOKED_UP_ADDRESSES],
        families: [0; LOOKED_UP_ADDRESSES],
        padding: [0; 2],
    };
    // SAFETY: the name has room for as many bytes.
    unsafe {
        bpf_probe_read_user_str((&raw mut record.name).cast(), LOOKED_UP_NAME as u32, node as *const _);
    }
    if result == 0 {
        let mut next = user::<u64>(results).unwrap_or(0);
        for index in 0..LOOKED_UP_ADDRESSES {
            // `struct addrinfo`: flags and family, type and protocol, length, address at 24, name, next at 40.
            let Some([flags, _, _, address, _, after]) = user::<[u64; 6]>(next) else { break };
            next = after;
            record.families[index] = (flags >> 32) as u16;
            let place = if record.families[index] == AF_INET { address + 4 } else { address + 8 };
            record.found[index] = user(place).unwrap_or([0; 16]);
            record.addresses = index as u32 + 1;
        }
    }
    emit::send(&record);
    0
}
