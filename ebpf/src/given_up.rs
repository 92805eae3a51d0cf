//! Code objects that are given up: a uprobe on what CPython calls for it, `PyCode_Type.tp_dealloc`, before it does
//! anything. Another code object may take the address of one from then on, so stacks that were walked before are not
//! known any more by their addresses alone; see `met::take`.

use crate::maps::{CODE_DEATHS, TARGETS};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::python::DEATH_SLOTS;

#[uprobe]
fn code_given_up(_context: ProbeContext) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if TARGETS.get_ptr(tgid).is_none() {
        return 0;
    }
    if let Some(slot) = CODE_DEATHS.get_ptr_mut(tgid % DEATH_SLOTS) {
        // SAFETY: the slot is one aligned word. One instruction, because other CPUs count there too.
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) slot, in(reg) 1_u64, options(nostack));
        }
    }
    0
}
