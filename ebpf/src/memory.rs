//! Reads of kernel and user memory. Each gives `None` when the page is absent or the address wrong: BPF
//! programs that may not sleep cannot fault a page in.

use aya_ebpf::helpers::generated;

/// A value of plain data at a kernel address.
#[inline(always)]
pub(crate) fn kernel<T: Copy>(address: u64) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of `value` or fails; `T` is plain data for which any bytes are valid.
    unsafe {
        let status = generated::bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        (status == 0).then(|| value.assume_init())
    }
}

/// A value of plain data at a user address of the current task.
#[inline(always)]
pub(crate) fn user<T: Copy>(address: u64) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: as in `kernel`.
    unsafe {
        let status = generated::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        (status == 0).then(|| value.assume_init())
    }
}

/// A value of plain data at a user address of the current task; zeroes when it cannot be read, which is what the
/// helper then writes. For data without a meaning for zero it is no branch that the verifier has to follow.
#[inline(always)]
pub(crate) fn user_or_zero<T: Copy>(address: u64) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: as in `kernel`; the helper writes zeroes when it fails.
    unsafe {
        let _zeroes_on_failure = generated::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// Copies `length` bytes from a user address. The verifier must see that `destination` has room for them.
///
/// # Safety
/// `destination` is valid for writes of `length` bytes.
#[inline(always)]
pub(crate) unsafe fn copy_user(destination: *mut u8, length: u32, address: u64) -> bool {
    // SAFETY: promised by the caller.
    unsafe { generated::bpf_probe_read_user(destination.cast(), length, address as *const _) == 0 }
}

/// Hides a value from the optimiser, so that the bound check that follows stays in the code: the verifier
/// proves bounds on registers, and LLVM likes to move the check to a register that is not the one used.
#[inline(always)]
pub(crate) fn opaque(value: u64) -> u64 {
    let mut hidden = value;
    // SAFETY: moves the register onto itself. It must be an instruction: with none, two source lines would
    // claim the same one, which the kernel refuses (`Invalid line_info`).
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) hidden, options(pure, nomem, nostack)) };
    hidden
}
