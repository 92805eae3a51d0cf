//! The only place that takes ring space. Counts what was due and what found no room.

use crate::maps::{COUNTS, RING, setting};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_output};
use aya_ebpf::maps::ring_buf::RingBufEntry;
use pyapm_wire::count;

const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAILABLE_DATA: u64 = 0;

/// Adds to one counter of this CPU. Counters are read by userspace as the sum over CPUs.
#[inline(always)]
pub(crate) fn add(slot: u32, amount: u64) {
    // SAFETY: the helper has no preconditions.
    let row = unsafe { bpf_get_smp_processor_id() } % count::CPUS;
    if let Some(counter) = COUNTS.get_ptr_mut(row * count::SLOTS + slot) {
        // SAFETY: the pointer is this CPU's slot. One instruction, because the sampling interrupt counts too.
        // (`AtomicU64::fetch_add` does not exist for this target, which has no compare-and-swap on 5.10.)
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) amount, options(nostack));
        }
    }
}

/// Sends `length` bytes that begin at `record`; `false` when the ring was full.
///
/// The reader polls on a timer, so a wake-up (about as dear as the rest of an event) is only made when
/// much waits for it.
///
/// # Safety
/// `record` is valid for reads of `length` bytes, and the verifier can see it.
#[inline(always)]
pub(crate) unsafe fn output(record: *const u8, length: u64) -> bool {
    // SAFETY: promised by the caller.
    unsafe { output_with(record, length, wakeup()) }
}

/// As [`output`], with the wake-up decided.
///
/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn output_with(record: *const u8, length: u64, flags: u64) -> bool {
    add(count::SEEN, 1);
    // SAFETY: promised by the caller; the map outlives every program.
    let status = unsafe {
        bpf_ringbuf_output((&raw const RING).cast_mut().cast(), record.cast_mut().cast(), length, flags)
    };
    if status != 0 {
        add(count::RING_FULL, 1);
    }
    status == 0
}

/// Sends a fixed-size record.
#[inline(always)]
pub(crate) fn send<T>(record: &T) -> bool {
    // SAFETY: a reference is valid for reads of its own size.
    unsafe { output((&raw const *record).cast(), size_of::<T>() as u64) }
}

/// Sends a fixed-size record, and has it read at once.
#[inline(always)]
pub(crate) fn send_now<T>(record: &T) -> bool {
    // SAFETY: a reference is valid for reads of its own size.
    unsafe { output_with((&raw const *record).cast(), size_of::<T>() as u64, FORCE_WAKEUP) }
}

/// Room for a record that is filled in where it lies, because it is too large for the stack; `None` when the ring
/// is full. It is counted as due here, and must be given to [`submit`].
#[inline(always)]
pub(crate) fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    add(count::SEEN, 1);
    let entry = RING.reserve::<T>(0);
    if entry.is_none() {
        add(count::RING_FULL, 1);
    }
    entry
}

/// Sends a record that was filled in.
#[inline(always)]
pub(crate) fn submit<T>(entry: RingBufEntry<T>) {
    entry.submit(wakeup());
}

#[inline(always)]
fn wakeup() -> u64 {
    if RING.query(AVAILABLE_DATA) > setting!(wakeup_bytes) { FORCE_WAKEUP } else { NO_WAKEUP }
}
