//! What any process of the host does that may make it a server: for the service, which watches applications that start
//! after it. Attached by nothing else. Tracepoints, both rare on any host (each hit costs less than a thousandth of what
//! the kernel does besides):
//!
//! - `sched:sched_process_exec`, in the process, as its new program
//! - `syscalls:sys_exit_listen`: `long ret` at 16
//!
//! Targets or not: userspace knows whom it knows.

use crate::emit;
use crate::lifecycle::header;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use pyapm_wire::event::{Header, kind};

#[tracepoint]
fn any_started(_context: TracePointContext) -> u32 {
    emit::send(&header(kind::STARTED, size_of::<Header>()));
    0
}

#[tracepoint]
fn any_listens(context: TracePointContext) -> u32 {
    // SAFETY: the field lies inside the record.
    let result = unsafe { context.as_ptr().cast::<u8>().add(16).cast::<i64>().read() };
    if result == 0 {
        // It may be asked at once: the reader shall not wait for its timer.
        emit::send_now(&header(kind::LISTENS, size_of::<Header>()));
    }
    0
}
