//! New contexts: who made which, from what. Uprobes at instructions of `PyContext_CopyCurrent` and `PyContext_New`
//! that the kernel emulates, where a register holds the new object (`agent/src/python/contexts` finds them). Every
//! hit is checked: an address that is no `PyContext` is counted and not reported.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::TARGETS;
use crate::memory::{kernel, opaque, user};
use crate::objects::OB_TYPE;
use crate::stack::thread_state;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::{Context, context, kind};
use pyapm_wire::python::ABSENT;

/// Offsets into `struct pt_regs` lie below this.
const REGISTERS: u64 = 128;

#[uprobe]
fn context_copied(probe: ProbeContext) -> u32 {
    made(&probe, false);
    0
}

#[uprobe]
fn context_empty(probe: ProbeContext) -> u32 {
    made(&probe, true);
    0
}

#[inline(always)]
fn made(probe: &ProbeContext, empty: bool) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return };
    let contexts = &target.contexts;
    let register = if empty { contexts.empty_register } else { contexts.copy_register };
    if contexts.on == 0 || register == ABSENT {
        return;
    }
    let at = probe.as_ptr() as u64 + (opaque(u64::from(register)) & (REGISTERS - 1));
    let Some(born) = kernel::<u64>(at) else { return };
    if born == 0 {
        return; // There was no memory for it.
    }
    if user::<u64>(born + OB_TYPE) != Some(contexts.context_type) {
        emit::add(count::CONTEXT_UNVERIFIED, 1);
        return;
    }
    let parent = thread_state(&target.layout)
        .ok()
        .and_then(|tstate| user::<u64>(tstate + u64::from(contexts.tstate_context)))
        .unwrap_or(0);
    let grandparent =
        if parent == 0 { 0 } else { user::<u64>(parent + u64::from(contexts.previous)).unwrap_or(0) };
    let mut header = header(kind::CONTEXT, size_of::<Context>());
    header.flags = if empty { context::EMPTY } else { 0 };
    emit::send(&Context { header, context: born, parent, grandparent });
}
