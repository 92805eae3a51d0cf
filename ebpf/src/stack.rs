//! The one unwinder: walks the Python frames of the current thread. It runs on that thread, so the chain
//! cannot move under it. No CPython version is known here; offsets come with the target.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::{STACKS, StackScratch, setting};
use crate::memory::{copy_user, kernel, opaque, user};
use aya_ebpf::helpers::generated::bpf_get_current_task;
use pyapm_wire::count;
use pyapm_wire::event::{Stack, kind};
use pyapm_wire::python::{ABSENT, CODE_BYTES, FRAME_BYTES, Frame, Layout, MAX_FRAMES, gil, route, status};
use pyapm_wire::target::Target;

/// From 3.12 on, frames with this owner or a higher one are the interpreter's own (shims and sentinels);
/// CPython `Include/internal/pycore_frame.h`, `enum _frameowner`.
const FIRST_FOREIGN_OWNER: u64 = 3;

/// Start of the hashes (the offset basis of FNV-1a; any odd constant would do).
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// What a walk gave: an id to put in a record (0 when there is no frame), and how it ended.
pub(crate) struct Walked {
    pub stack: u64,
    pub status: u16,
}

/// Walks, and sends the frames if this stack has not been sent before.
#[inline(always)]
pub(crate) fn take(target: &Target, scratch: *mut StackScratch) -> Walked {
    let status = walk(&target.layout, scratch);
    // SAFETY: `scratch` is valid; `walk` has stored both there.
    let (frames, hash) = unsafe { ((*scratch).record.frames, (*scratch).hash) };
    if status == status::UNREADABLE {
        emit::add(count::STACK_UNREADABLE, 1);
    }
    if frames == 0 {
        let status = if status == status::COMPLETE { status::NO_FRAME } else { status };
        return Walked { stack: 0, status };
    }
    if status == status::TRUNCATED {
        emit::add(count::STACK_TRUNCATED, 1);
    }
    // The generation keeps two processes apart that had one pid, or one address space layout.
    let stack = fold(hash ^ target.generation, u64::from(status)) | 1;
    if STACKS.get_ptr(stack).is_none() {
        let length = size_of::<Stack>() as u64 + u64::from(frames) * size_of::<Frame>() as u64;
        let length = opaque(length);
        if length <= (size_of::<Stack>() + MAX_FRAMES * size_of::<Frame>()) as u64 {
            // SAFETY: the frames lie directly behind the record in the scratch, and `length` stays inside.
            let sent = unsafe {
                (*scratch).record = Stack {
                    header: header(kind::STACK, length as usize),
                    stack,
                    frames,
                    stack_status: status,
                    padding: 0,
                };
                emit::output(scratch.cast(), length)
            };
            if sent {
                let _full_means_sent_again = STACKS.insert(stack, 1, 0);
            }
        }
    }
    Walked { stack, status }
}

/// Fills `scratch.frames`, innermost first, and leaves their number in `scratch.record.frames` and a hash
/// over them in `scratch.hash`.
#[inline(always)]
fn walk(layout: &Layout, scratch: *mut StackScratch) -> u16 {
    // SAFETY: `scratch` is valid, here and below.
    unsafe {
        (*scratch).record.frames = 0;
        (*scratch).tstate = 0;
    }
    let tstate = match thread_state(layout) {
        Ok(tstate) => tstate,
        Err(status) => return status,
    };
    // SAFETY: as above.
    unsafe { (*scratch).tstate = tstate };
    let Some(mut first) = user::<u64>(tstate + u64::from(layout.tstate_frame)) else {
        return status::UNREADABLE;
    };
    if layout.cframe_current != ABSENT {
        let Some(current) = user::<u64>(first + u64::from(layout.cframe_current)) else {
            return status::UNREADABLE;
        };
        first = current;
    }
    // SAFETY: as above.
    unsafe {
        (*scratch).cursor = first;
        (*scratch).hash = HASH_START;
        (*scratch).has_owner = all_ones_unless_absent(layout.frame_owner);
        (*scratch).has_bytecode = all_ones_unless_absent(layout.code_bytecode);
        (*scratch).has_version = all_ones_unless_absent(layout.code_version_u32);
    }
    // Every call from C may have put a shim between two frames, so allow for more steps than frames.
    for _ in 0..MAX_FRAMES + MAX_FRAMES / 2 {
        match step(layout, scratch) {
            Step::Next => {}
            Step::End(status) => return status,
        }
    }
    status::TRUNCATED
}

enum Step {
    Next,
    End(u16),
}

/// Takes the frame under the cursor, and moves on to its caller.
#[inline(always)]
fn step(layout: &Layout, scratch: *mut StackScratch) -> Step {
    let tag_mask = !u64::from(layout.tag_mask);
    // SAFETY: `scratch` is valid, here and below.
    let address = unsafe { (*scratch).cursor } & tag_mask;
    if address == 0 {
        return Step::End(status::COMPLETE);
    }
    let frame = unsafe { &raw mut (*scratch).frame }.cast::<u8>();
    let frame_bytes = opaque(u64::from(layout.frame_bytes)) & (FRAME_BYTES as u64 - 1);
    // SAFETY: `frame_bytes` is below the size of `frame`.
    if !unsafe { copy_user(frame, frame_bytes as u32, address) } {
        return Step::End(status::UNREADABLE);
    }
    // SAFETY: as above.
    unsafe { (*scratch).cursor = field::<u64, FRAME_BYTES>(frame, layout.frame_previous) };
    let owner = u64::from(unsafe { field::<u8, FRAME_BYTES>(frame, layout.frame_owner) });
    if owner & unsafe { (*scratch).has_owner } >= FIRST_FOREIGN_OWNER {
        return Step::Next;
    }
    // SAFETY: as above.
    let index = opaque(u64::from(unsafe { (*scratch).record.frames }));
    if index >= MAX_FRAMES as u64 {
        return Step::End(status::TRUNCATED);
    }
    let code = unsafe { field::<u64, FRAME_BYTES>(frame, layout.frame_code) } & tag_mask;
    let instruction = unsafe { field::<u64, FRAME_BYTES>(frame, layout.frame_instruction) };
    // SAFETY: as above.
    let by_pointer = unsafe { (*scratch).has_bytecode };
    let from_pointer = instruction.wrapping_sub(code + u64::from(layout.code_bytecode));
    let from_last = u64::from((instruction as u32).wrapping_mul(layout.instruction_scale));
    let instruction = ((from_pointer & by_pointer) | (from_last & !by_pointer)) as i32;
    let Some(identity) = identity(layout, code, scratch) else {
        return Step::End(status::UNREADABLE);
    };
    // SAFETY: `index` is below the length of `frames`.
    unsafe {
        (&raw mut (*scratch).frames).cast::<Frame>().add(index as usize).write(Frame {
            code,
            instruction,
            identity,
        });
        let place = u64::from(instruction as u32) << 32 | u64::from(identity);
        (*scratch).hash = fold(fold((*scratch).hash, code), place);
        (*scratch).record.frames = index as u32 + 1;
    }
    Step::Next
}

/// A code object that replaces another at the same address differs in at least one of these. Userspace
/// folds the same way (`python/identity.rs`).
#[inline(always)]
fn identity(layout: &Layout, code: u64, scratch: *mut StackScratch) -> Option<u32> {
    // SAFETY: `scratch` is valid.
    let object = unsafe { &raw mut (*scratch).code }.cast::<u8>();
    let code_bytes = opaque(u64::from(layout.code_bytes)) & (CODE_BYTES as u64 - 1);
    // SAFETY: `code_bytes` is below the size of `code`.
    if !unsafe { copy_user(object, code_bytes as u32, code) } {
        return None;
    }
    // SAFETY: as above.
    unsafe {
        let version = u64::from(field::<u32, CODE_BYTES>(object, layout.code_version_u32));
        let mut hash = HASH_START;
        hash = fold(hash, field::<u64, CODE_BYTES>(object, layout.code_filename_u64));
        hash = fold(hash, field::<u64, CODE_BYTES>(object, layout.code_name_u64));
        hash = fold(hash, field::<u64, CODE_BYTES>(object, layout.code_linetable_u64));
        hash = fold(hash, u64::from(field::<u32, CODE_BYTES>(object, layout.code_firstlineno_u32)));
        hash = fold(hash, version & (*scratch).has_version);
        Some((hash ^ (hash >> 32)) as u32)
    }
}

/// A field of a copied object of `SIZE` bytes (a power of two), which lies in memory of 8 bytes more. An
/// offset that would lead out of it is folded back inside: userspace never gives one.
///
/// # Safety
/// `object` is valid for reads of `SIZE + 8` bytes, and aligned to 8.
#[inline(always)]
unsafe fn field<T: Copy, const SIZE: usize>(object: *const u8, offset: u32) -> T {
    // Aligned, as C lays structs out: an unaligned read would be made of single bytes.
    let offset = opaque(u64::from(offset)) & (SIZE - align_of::<T>()) as u64;
    // SAFETY: the offset is below `SIZE` and aligned like `T`, which has at most 8 bytes; `object` is
    // aligned to 8.
    unsafe { object.add(offset as usize).cast::<T>().read() }
}

#[inline(always)]
fn all_ones_unless_absent(offset: u32) -> u64 {
    if offset == ABSENT { 0 } else { u64::MAX }
}

#[inline(always)]
fn fold(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// The lock of the interpreter that a thread state is of.
pub(crate) struct Gil {
    pub address: u64,
    pub is_held_by_it: bool,
}

impl Gil {
    /// `None` when it cannot be read.
    #[inline(always)]
    pub(crate) fn of(layout: &Layout, tstate: u64) -> Option<Self> {
        if tstate == 0 {
            return None;
        }
        let mut address = layout.gil;
        if layout.interpreter_gil != ABSENT {
            let interpreter = user::<u64>(tstate + u64::from(layout.tstate_interpreter))?;
            address = user::<u64>(interpreter + u64::from(layout.interpreter_gil))?;
        }
        let [holder, locked] = user::<[u64; 2]>(address.wrapping_add(u64::from(gil::LAST_HOLDER)))?;
        Some(Self { address, is_held_by_it: locked as u32 == 1 && holder == tstate })
    }

    /// Whether a thread that sleeps on this futex waits for the lock, or to hand it over.
    #[inline(always)]
    pub(crate) fn has(&self, futex: u64) -> bool {
        let offset = futex.wrapping_sub(self.address);
        (gil::WAITERS..gil::SIZE).contains(&offset)
    }
}

/// The current thread's `PyThreadState`, by a route that stays valid while the GIL is released.
#[inline(always)]
pub(crate) fn thread_state(layout: &Layout) -> Result<u64, u16> {
    if layout.route == route::NONE {
        return Err(status::NO_LAYOUT);
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let fsbase = kernel::<u64>(task + setting!(task_fsbase)).ok_or(status::NO_THREAD_STATE)?;
    if fsbase == 0 {
        return Err(status::NO_THREAD_STATE);
    }
    let first = layout.first as u64;
    let second = layout.second as u64;
    let tstate = match layout.route {
        route::DIRECT => user::<u64>(fsbase.wrapping_add(first)),
        route::INDIRECT => user::<u64>(fsbase.wrapping_add(first))
            .filter(|table| *table != 0)
            .and_then(|table| user::<u64>(table.wrapping_add(second))),
        _ => user::<u64>(fsbase + 8)
            .and_then(|vector| user::<u64>(vector.wrapping_add(first)))
            .filter(|block| *block != 0)
            .and_then(|block| user::<u64>(block.wrapping_add(second))),
    };
    match tstate {
        Some(tstate) if tstate != 0 => Ok(tstate),
        _ => Err(status::NO_THREAD_STATE),
    }
}
