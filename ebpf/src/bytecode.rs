//! Where the bytecode begins that a frame runs, in a free-threaded build: each thread may specialise a copy of its own.
//!
//! A function that is global to the verifier, as those of `deep.rs`: walked through once, not once for each step of a
//! walk. It takes numbers alone for that reason, and finds the layout itself.

use crate::maps::TARGETS;
use crate::memory::user_or_zero;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;

/// Where the copy of this number begins; `otherwise` when there is no such copy, or it cannot be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn copy_of_bytecode(code: u64, copy: u64, otherwise: u64) -> u64 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return otherwise };
    let copies = user_or_zero::<u64>(code + u64::from(target.layout.code_copies));
    // Before the pointers is their number; what cannot be read is 0 of them.
    if copy >= user_or_zero::<u64>(copies) {
        return otherwise;
    }
    let start = user_or_zero::<u64>(copies + 8 + 8 * copy);
    if start == 0 { otherwise } else { start }
}
