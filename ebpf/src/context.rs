//! New contexts: who made which, from what. Uprobes at instructions of `PyContext_CopyCurrent` and `PyContext_New`
//! that the kernel emulates, where a register holds the new object (`agent/src/python/contexts` finds them). Every
//! hit is checked: an address that is no `PyContext` is counted and not reported.

use crate::emit;
use crate::lifecycle::header_of;
use crate::maps::TARGETS;
use crate::memory::user;
use crate::objects::OB_TYPE;
use crate::stack::thread_state;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::{Context, context, kind};

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
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((thread >> 32) as u32) }) else { return };
    let contexts = &target.contexts;
    let place = if empty { contexts.empty_register } else { contexts.copy_register };
    if contexts.on == 0 {
        return;
    }
    let born = register(probe, place);
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
    let mut header = header_of(thread, kind::CONTEXT, size_of::<Context>());
    header.flags = if empty { context::EMPTY } else { 0 };
    emit::send_of_many(&Context { header, context: born, parent, grandparent }, header.time_ns);
}

/// The register that was saved at this offset of `struct pt_regs`; 0 for one that is not looked for. The kernel's memory
/// is not read for it: at an offset that is known when it is loaded, the program may look at what it is given.
#[inline(always)]
fn register(probe: &ProbeContext, offset: u32) -> u64 {
    macro_rules! one_of {
        ($($name:ident)*) => {
            $(if offset as usize == core::mem::offset_of!(pt_regs, $name) {
                let value: u64;
                // SAFETY: the offset lies inside what the program is given. By an instruction of its own, because loads that
                // differ in their offset alone would be made one, of an offset that the verifier does not know.
                unsafe {
                    core::arch::asm!(
                        "{value} = *(u64 *)({registers} + {offset})",
                        value = out(reg) value,
                        registers = in(reg) probe.as_ptr(),
                        offset = const core::mem::offset_of!(pt_regs, $name),
                        options(pure, readonly, nostack),
                    );
                }
                return value;
            })*
        };
    }
    one_of!(rbx rax rdi rbp r12 r13 r14 r15 rsi rdx rcx r8 r9 r10 r11);
    0
}
