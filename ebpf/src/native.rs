//! Native stacks: the registers that a thread has in its own code, and a copy of its stack. Userspace unwinds the
//! copy, so that what it reads is of one moment; the kernel half knows nothing of unwind tables.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::{NATIVE_SCRATCH, NativeScratch, setting};
use crate::memory::{copy_user, kernel, opaque};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_smp_processor_id};
use aya_ebpf::programs::PerfEventContext;
use pyapm_wire::count;
use pyapm_wire::event::{NATIVE_CAPTURE, Native, kind, native};

const PAGE: u64 = 4096;
/// Code segment of 64-bit user code (kernel `arch/x86/include/asm/segment.h`, `__USER_CS`).
const USER_CS: u64 = 0x33;
/// Bytes of a task's kernel stack, and what is left free above the saved registers; see `io.rs`.
const STACK_SIZE: u64 = 16 * 1024;
const PADDINGS: [u64; 2] = [0, 16];

/// Instruction, stack and base pointer.
#[derive(Clone, Copy)]
struct Registers {
    ip: u64,
    sp: u64,
    bp: u64,
}

/// Sends the native stack of the current thread, which the sampling timer has interrupted.
#[inline(always)]
pub(crate) fn send(context: &PerfEventContext) {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let Some(registers) = interrupted(context).or_else(|| saved(task)) else {
        emit::add(count::NATIVE_REGISTERS_UNKNOWN, 1);
        return;
    };
    // SAFETY: as above.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(scratch) = NATIVE_SCRATCH.get_ptr_mut(cpu) else { return };
    let (copied, cut) = copy(task, registers.sp, scratch);
    let mut length = opaque(size_of::<Native>() as u64 + copied);
    if length > size_of::<Native>() as u64 + u64::from(NATIVE_CAPTURE) {
        length = size_of::<Native>() as u64;
    }
    if cut {
        emit::add(count::NATIVE_STACK_CUT, 1);
    }
    let mut header = header(kind::NATIVE, length as usize);
    header.flags = if cut { native::CUT } else { 0 };
    // SAFETY: the bytes lie directly behind the record in the scratch, and `length` stays inside.
    unsafe {
        (*scratch).record = Native {
            header,
            ip: registers.ip,
            sp: registers.sp,
            bp: registers.bp,
            copied: (length - size_of::<Native>() as u64) as u32,
            padding: 0,
        };
        emit::output(scratch.cast(), length);
    }
}

/// The registers at the interrupt, if it interrupted user code.
#[inline(always)]
fn interrupted(context: &PerfEventContext) -> Option<Registers> {
    // `struct bpf_perf_event_data` begins with the registers (kernel `include/uapi/linux/bpf_perf_event.h`).
    let registers = context.as_ptr().cast::<pt_regs>();
    // SAFETY: the kernel lets these programs read the registers of their context.
    unsafe {
        if (&raw const (*registers).cs).read_volatile() != USER_CS {
            return None;
        }
        Some(Registers {
            ip: (&raw const (*registers).rip).read_volatile(),
            sp: (&raw const (*registers).rsp).read_volatile(),
            bp: (&raw const (*registers).rbp).read_volatile(),
        })
    }
}

/// The registers that were saved when the thread entered the kernel, at the top of its kernel stack
/// (`task_pt_regs()` of the kernel), known to be right by the code segment among them.
#[inline(always)]
fn saved(task: u64) -> Option<Registers> {
    const CS: u64 = core::mem::offset_of!(pt_regs, cs) as u64;
    const IP: u64 = core::mem::offset_of!(pt_regs, rip) as u64;
    const SP: u64 = core::mem::offset_of!(pt_regs, rsp) as u64;
    const BP: u64 = core::mem::offset_of!(pt_regs, rbp) as u64;
    let stack = kernel::<u64>(task + setting!(task_stack))?;
    for padding in PADDINGS {
        let registers = stack + STACK_SIZE - padding - size_of::<pt_regs>() as u64;
        if kernel::<u64>(registers + CS) == Some(USER_CS) {
            return Some(Registers {
                ip: kernel(registers + IP)?,
                sp: kernel(registers + SP)?,
                bp: kernel(registers + BP)?,
            });
        }
    }
    None
}

/// Copies the stack from `sp` up to where it begins; how many bytes that gave, and whether it goes on.
#[inline(always)]
fn copy(task: u64, sp: u64, scratch: *mut NativeScratch) -> (u64, bool) {
    let limit = sp + u64::from(NATIVE_CAPTURE);
    let beginning = beginning(task, sp);
    // SAFETY: map values stay valid while the program runs, here and below.
    unsafe {
        (*scratch).cursor = sp;
        (*scratch).end = if beginning < limit { beginning } else { limit };
    }
    // The first copy ends at the page's end, so one more than there are pages.
    for _ in 0..u64::from(NATIVE_CAPTURE) / PAGE + 1 {
        // SAFETY: as above.
        let (cursor, end) = unsafe { ((*scratch).cursor, (*scratch).end) };
        if cursor >= end {
            break;
        }
        let place = opaque(cursor - sp);
        if place > u64::from(NATIVE_CAPTURE) {
            break;
        }
        let in_page = PAGE - (cursor & (PAGE - 1));
        let left = end - cursor;
        let mut length = opaque(if left < in_page { left } else { in_page });
        if length > PAGE {
            length = PAGE;
        }
        // SAFETY: `place + length` is at most a page more than is captured, for which there is room.
        let destination = unsafe { (&raw mut (*scratch).bytes).cast::<u8>().add(place as usize) };
        if !unsafe { copy_user(destination, length as u32, cursor) } {
            break;
        }
        // SAFETY: as above.
        unsafe { (*scratch).cursor = cursor + length };
    }
    // SAFETY: as above.
    let cursor = unsafe { (*scratch).cursor };
    (cursor - sp, cursor < beginning)
}

/// Where the stack that `sp` lies on begins: the main thread's below its arguments, another's below what the C
/// library keeps of it, which is at its very top. All ones when it is neither near: a stack that somebody else
/// has made.
#[inline(always)]
fn beginning(task: u64, sp: u64) -> u64 {
    /// Larger than any stack that the C library makes.
    const NEAR: u64 = 1 << 30;
    let fsbase = kernel::<u64>(task + setting!(task_fsbase)).unwrap_or(0);
    let main = kernel::<u64>(task + setting!(task_mm))
        .and_then(|mm| kernel::<u64>(mm + setting!(mm_start_stack)))
        .unwrap_or(0);
    if main > sp && main - sp < NEAR {
        main
    } else if fsbase > sp && fsbase - sp < NEAR {
        fsbase
    } else {
        u64::MAX
    }
}
