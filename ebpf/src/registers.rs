//! The registers with which the current thread entered the kernel. They are saved at the top of its kernel stack for
//! as long as it is inside: `task_pt_regs()` of the kernel, x86-64.

use crate::maps::setting;
use crate::memory::kernel;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};

/// Where [`Arguments`] begin in `struct pt_regs` (kernel `arch/x86/include/asm/ptrace.h`).
const R10: u64 = core::mem::offset_of!(pt_regs, r10) as u64;

/// Bytes of a task's kernel stack (kernel `arch/x86/include/asm/page_64_types.h`, `THREAD_SIZE` without KASAN).
const STACK_SIZE: u64 = 16 * 1024;
/// What is left free above the registers: nothing, or two words where the kernel is built for FRED (kernel
/// `arch/x86/include/asm/thread_info.h`, `TOP_OF_KERNEL_STACK_PADDING`).
const PADDINGS: [u64; 2] = [0, 16];

/// The part of `struct pt_regs` that a system call's number and arguments lie in.
#[repr(C)]
pub(crate) struct Arguments {
    pub r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    orig_ax: u64,
}

impl Arguments {
    /// Those that the current system call was entered with, in one read: known to be right by the number of the call
    /// among them.
    #[inline(always)]
    pub(crate) fn read(&mut self, id: u64) -> Option<()> {
        const LENGTH: u32 = size_of::<Arguments>() as u32;
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task() };
        let stack = kernel::<u64>(task + setting!(task_stack))?;
        for padding in PADDINGS {
            let address = stack + STACK_SIZE - padding - size_of::<pt_regs>() as u64 + R10;
            // SAFETY: `self` is valid for writes of its own size, and any bytes are valid for it.
            let status =
                unsafe { bpf_probe_read_kernel((&raw mut *self).cast(), LENGTH, address as *const _) };
            if status == 0 && self.orig_ax == id {
                return Some(());
            }
        }
        None
    }
}

/// Segments of user space (kernel `arch/x86/include/asm/segment.h`, `__USER_CS` and `__USER_DS`).
const USER_CS: u64 = 0x33;
const USER_DS: u64 = 0x2b;

/// The last part of `struct pt_regs`, from `dx` on.
#[repr(C)]
pub(crate) struct Registers {
    /// The third, second and first argument of a system call.
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    /// Number of the system call; -1 where the thread entered the kernel by none.
    pub orig_ax: u64,
    ip: u64,
    cs: u64,
    flags: u64,
    sp: u64,
    ss: u64,
}

impl Registers {
    /// Those of the current thread, known to be right by the segments of user space among them. Only the lower halves
    /// of those are looked at: FRED keeps more beside them.
    #[inline(always)]
    pub(crate) fn read(&mut self) -> Option<()> {
        const LENGTH: u64 = size_of::<Registers>() as u64;
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task() };
        let stack = kernel::<u64>(task + setting!(task_stack))?;
        for padding in PADDINGS {
            let address = stack + STACK_SIZE - padding - LENGTH;
            // SAFETY: `self` is valid for writes of its own size, and any bytes are valid for it.
            let status =
                unsafe { bpf_probe_read_kernel((&raw mut *self).cast(), LENGTH as u32, address as *const _) };
            if status == 0 && self.cs & 0xffff == USER_CS && self.ss & 0xffff == USER_DS {
                return Some(());
            }
        }
        None
    }
}
