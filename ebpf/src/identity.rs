//! What tells a code object from another that takes its address, for programs that look at few frames and have no
//! room for a copy of it: the same value as `stack::identity` gives.
//!
//! A function that is global to the verifier, as those of `deep.rs`: walked through once, not once for each frame of
//! a loop. It takes numbers alone for that reason, and finds the layout itself.

use crate::maps::TARGETS;
use crate::memory::user_or_zero;
use crate::stack::{HASH_START, mix};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use pyapm_wire::python::{CONTENTS_HASH, IDENTITY_BYTES, IDENTITY_WORDS};

/// Of the code object at this address of the current process; 0 when the process is not watched.
#[inline(always)]
pub(crate) fn identity_of(code: u64) -> u32 {
    code_identity(code) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn code_identity(code: u64) -> u64 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return 0 };
    let layout = &target.layout;
    let head = user_or_zero::<[u64; IDENTITY_WORDS]>(code + u64::from(layout.code_start));
    let mut hash = mix(head, HASH_START);
    if layout.has_version == 0 || head[IDENTITY_WORDS - 1] >> 32 == 0 {
        let tail = if layout.has_version == 0 {
            u64::from(layout.code_start) + u64::from(layout.code_bytes.wrapping_sub(IDENTITY_BYTES))
        } else {
            u64::from(layout.code_tail)
        };
        let words = user_or_zero::<[u64; IDENTITY_WORDS]>(code + tail);
        let name = user_or_zero::<u64>(code + tail + u64::from(layout.tail_name));
        let name = user_or_zero::<u64>(name + CONTENTS_HASH);
        hash = mix(words, mix([name, 0, 0, 0], hash));
    }
    (hash ^ (hash >> 32)) & 0xffff_ffff
}
