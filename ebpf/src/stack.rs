//! The one unwinder: walks the Python frames of the current thread. It runs on that thread, so the chain
//! cannot move under it. No CPython version is known here; offsets come with the target.

// Long because it is one walk, of which each part leaves to the next what it has found.

use crate::bytecode::copy_of_bytecode;
use crate::emit;
use crate::lifecycle::header;
use crate::maps::{KNOWN_CODES, KnownCode, STACKS, StackScratch, Walk, setting};
use crate::memory::{copy_user, kernel, opaque, user};
use crate::window::{Window, at as frame_at};
use aya_ebpf::helpers::generated::bpf_get_current_task;
use pyapm_wire::count;
use pyapm_wire::event::{Stack, kind};
use pyapm_wire::python::{
    ABSENT, CODE_BYTES, CONTENTS_HASH, ENTRIES, FRAME_BYTES, Frame, IDENTITY_BYTES, IDENTITY_WORDS, Layout,
    MAX_FRAMES, gil, route, status,
};
use pyapm_wire::target::Target;

/// From 3.12 on, frames with this owner or a higher one are the interpreter's own (shims and sentinels);
/// CPython `Include/internal/pycore_frame.h`, `enum _frameowner`.
const FIRST_FOREIGN_OWNER: u64 = 3;

/// Start of the hashes (the offset basis of FNV-1a; any odd constant would do).
pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// What a walk gave: an id to put in a record (0 when there is no frame), and how it ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Walked {
    pub stack: u64,
    pub status: u16,
}

/// Steps of one call of a function that goes on with a walk; see [`steps`].
const STEPS: usize = 64;
/// Calls of it. Every call from C may have put a shim between two frames, so allow for more steps than frames.
const CALLS: usize = (MAX_FRAMES + MAX_FRAMES / 2) / STEPS;

/// What a function returns that goes on with a walk.
pub(crate) mod outcome {
    pub(crate) const MORE: u64 = 0;
    /// The walk has ended, with [`super::Walk::status`].
    pub(crate) const END: u64 = 1;
    pub(crate) const FAILED: u64 = 2;
}

/// Counts what is missing, and sends the frames if need be.
#[inline(always)]
pub(crate) fn finish(target: &Target, scratch: *mut StackScratch, status: u16) -> Walked {
    // SAFETY: `scratch` is valid; `walk` has stored the number there.
    let frames = unsafe { (*scratch).walk.frames };
    let walked = identify(target, unsafe { &raw const (*scratch).walk }, status);
    if walked.stack == 0 || STACKS.get_ptr(walked.stack).is_some() {
        return walked;
    }
    let length = opaque(size_of::<Stack>() as u64 + frames * size_of::<Frame>() as u64);
    if length <= (size_of::<Stack>() + MAX_FRAMES * size_of::<Frame>()) as u64 {
        // SAFETY: the frames lie directly behind the record in the scratch, and `length` stays inside.
        let sent = unsafe {
            (*scratch).record = Stack {
                header: header(kind::STACK, length as usize),
                stack: walked.stack,
                frames: frames as u32,
                stack_status: walked.status,
                top_entries: (*scratch).walk.top_entries as u16,
                before: 0,
                kept: frames as u32,
                left_out: 0,
                padding_2: [0; 3],
            };
            emit::output((&raw const (*scratch).record).cast(), length)
        };
        if sent {
            let _full_means_sent_again = STACKS.insert(walked.stack, 1, 0);
        }
    }
    walked
}

/// The id of what was walked, with the counting of what it lacks.
#[inline(always)]
pub(crate) fn identify(target: &Target, walk: *const Walk, status: u16) -> Walked {
    // SAFETY: `walk` is valid.
    let (frames, hash) = unsafe { ((*walk).frames, (*walk).hash) };
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
    Walked { stack: fold(hash ^ target.generation, u64::from(status)) | 1, status }
}

/// What is known of where the current thread's frames begin: values of [`Walk::place`].
pub(crate) mod place {
    /// Nothing.
    pub(crate) const UNKNOWN: u64 = 0;
    /// What the thread state says of it, in `first`.
    pub(crate) const SAID: u64 = 1;
    /// The innermost frame, in `first`; the window is of this thread, and of now.
    pub(crate) const FRAME: u64 = 2;
}

/// Gets ready for a walk from the innermost frame that looks at everything; no stack is to be remembered. What is wrong
/// when there is none.
#[inline(always)]
pub(crate) fn begin(layout: &Layout, scratch: *mut StackScratch) -> Result<(), u16> {
    // SAFETY: `scratch` is valid.
    unsafe { (*scratch).walk.place = place::UNKNOWN };
    begin_again(layout, scratch)
}

/// As [`begin`], by what was found out since the thread entered the program.
#[inline(always)]
pub(crate) fn begin_again(layout: &Layout, scratch: *mut StackScratch) -> Result<(), u16> {
    // SAFETY: `scratch` is valid, here and below.
    let walk = unsafe { &raw mut (*scratch).walk };
    unsafe {
        (*walk).frames = 0;
        (*walk).met = 0;
        if (*walk).place == place::UNKNOWN {
            (*walk).tstate = 0;
            let tstate = thread_state(layout)?;
            (*walk).tstate = tstate;
            (*walk).first = user::<u64>(tstate + u64::from(layout.tstate_frame)).ok_or(status::UNREADABLE)?;
        }
        if (*walk).place != place::FRAME {
            find_first(layout, walk).ok_or(status::UNREADABLE)?;
            (*walk).window.clear_for_row((*walk).first);
        }
        (*walk).has_owner = all_ones_unless_absent(layout.frame_owner);
        (*walk).has_bytecode = all_ones_unless_absent(layout.code_bytecode);
        (*walk).has_entry = all_ones_unless_absent(layout.frame_entry);
        (*walk).has_copies = all_ones_unless_absent(layout.frame_copy);
    }
    to_the_first(scratch);
    Ok(())
}

/// Has a walk begin at its first frame, and look at everything. None is known of the code objects that it is to meet, see
/// [`forget_codes`].
#[inline(always)]
pub(crate) fn to_the_first(scratch: *mut StackScratch) {
    // SAFETY: `scratch` is valid.
    let walk = unsafe { &mut (*scratch).walk };
    walk.cursor = walk.first;
    walk.frames = 0;
    walk.hash = HASH_START;
    walk.top_entries = 0;
    walk.is_glance = 0;
}

/// Before a walk that looks at everything: what another one knew says nothing here.
#[inline(always)]
pub(crate) fn forget_codes(scratch: *mut StackScratch) {
    // SAFETY: `scratch` is valid.
    let walk = unsafe { &mut (*scratch).walk };
    for known in &mut walk.codes {
        known.code = 0;
    }
}

/// Has a walk begin at its first frame, and look at frames alone.
#[inline(always)]
pub(crate) fn to_a_glance(scratch: *mut StackScratch) {
    // SAFETY: `scratch` is valid.
    let walk = unsafe { &mut (*scratch).walk };
    walk.is_glance = 1;
}

/// Takes a walk to its end, or as far as so many calls of `steps` come (`TRUNCATED`). That goes on with it for some steps: it is
/// [`steps`] in a function that is global to the verifier, which finds the working space itself. The verifier walks through that
/// once, not for each call and not for each way that leads here. A walk fills `scratch.frames`, innermost first, and leaves
/// their number and a hash over them in `scratch.walk`.
#[inline(always)]
pub(crate) fn go_on(scratch: *mut StackScratch, steps: &impl Fn() -> u64) -> u16 {
    for _ in 0..CALLS {
        match steps() {
            outcome::MORE => {}
            // SAFETY: `scratch` is valid.
            outcome::END => return unsafe { (*scratch).walk.status } as u16,
            _ => return status::UNREADABLE,
        }
    }
    status::TRUNCATED
}

/// Goes on with a walk for some steps.
#[inline(always)]
pub(crate) fn steps(target: &Target, scratch: *mut StackScratch) -> u64 {
    // SAFETY: `scratch` is valid.
    let (walk, frames) = unsafe { (&raw mut (*scratch).walk, (&raw mut (*scratch).frames).cast::<Frame>()) };
    // The verifier knows the setting, and leaves this out where it is 0.
    // SAFETY: as above.
    if setting!(code_deaths) != 0 && unsafe { (*walk).is_glance } != 0 {
        // SAFETY: as above.
        return glances(&target.layout, walk, unsafe { &raw mut (*walk).window }, STEPS);
    }
    for _ in 0..STEPS {
        match step(&target.layout, walk, frames, MAX_FRAMES, |index| index) {
            Step::Next => {}
            Step::End(status) => {
                // SAFETY: as above.
                unsafe { (*walk).status = u64::from(status) };
                return outcome::END;
            }
        }
    }
    outcome::MORE
}

/// Goes on with a walk for some steps that look at frames alone. It leaves their number and a hash over all that a walk
/// takes from frames: where two give the same, and the code objects are the same, the stacks are.
#[inline(always)]
pub(crate) fn glances<const PLACES: usize>(
    layout: &Layout,
    walk: *mut Walk,
    window: *mut Window<PLACES>,
    steps: usize,
) -> u64 {
    for _ in 0..steps {
        if let Step::End(status) = glance(layout, walk, window) {
            // SAFETY: `walk` is valid.
            unsafe { (*walk).status = u64::from(status) };
            return outcome::END;
        }
    }
    outcome::MORE
}

#[inline(always)]
fn glance<const PLACES: usize>(layout: &Layout, walk: *mut Walk, window: *mut Window<PLACES>) -> Step {
    let tag_mask = !u64::from(layout.tag_mask);
    // SAFETY: `walk` is valid, here and below.
    let address = unsafe { (*walk).cursor } & tag_mask;
    if address == 0 {
        return Step::End(status::COMPLETE);
    }
    let Some(frame) = frame_at(layout, window, address) else { return Step::End(status::UNREADABLE) };
    // SAFETY: as above.
    unsafe {
        (*walk).cursor = field::<u64, FRAME_BYTES>(frame, layout.frame_previous);
        let owner = u64::from(field::<u8, FRAME_BYTES>(frame, layout.frame_owner)) & (*walk).has_owner;
        let mut seen = ENTRIES;
        if owner < FIRST_FOREIGN_OWNER {
            let code = field::<u64, FRAME_BYTES>(frame, layout.frame_code) & tag_mask;
            let instruction = field::<u64, FRAME_BYTES>(frame, layout.frame_instruction);
            // The last instruction is an int, with something else behind it.
            let instruction = instruction & ((*walk).has_bytecode | u64::from(u32::MAX));
            let entry =
                u64::from(field::<u8, FRAME_BYTES>(frame, layout.frame_entry) & 1) & (*walk).has_entry;
            let copy = u64::from(field::<u32, FRAME_BYTES>(frame, layout.frame_copy)) & (*walk).has_copies;
            let rest = instruction.rotate_left(32) ^ copy << 1 ^ entry;
            seen = code
                .wrapping_mul(0xC2B2_AE3D_27D4_EB4F)
                .wrapping_add(rest.wrapping_mul(0x1656_67B1_9E37_79F9));
            (*walk).frames += 1;
        }
        (*walk).hash = fold((*walk).hash, seen);
    }
    Step::Next
}

/// From what the thread state says to the innermost frame. The window is not of it yet.
#[inline(always)]
pub(crate) fn find_first(layout: &Layout, walk: *mut Walk) -> Option<()> {
    if layout.cframe_current != ABSENT {
        // SAFETY: `walk` is valid.
        unsafe { (*walk).first = user::<u64>((*walk).first + u64::from(layout.cframe_current))? };
    }
    Some(())
}

/// The innermost frame of a thread; 0 when it has none.
#[inline(always)]
pub(crate) fn first_frame(layout: &Layout, tstate: u64) -> Option<u64> {
    let first = user::<u64>(tstate + u64::from(layout.tstate_frame))?;
    if layout.cframe_current == ABSENT {
        return Some(first);
    }
    user::<u64>(first + u64::from(layout.cframe_current))
}

pub(crate) enum Step {
    Next,
    End(u16),
}

/// Takes the frame under the cursor, and moves on to its caller. The frame that is the `index`th goes where
/// `place(index)` says; all places are below `room`, a power of two.
#[inline(always)]
pub(crate) fn step(
    layout: &Layout,
    walk: *mut Walk,
    frames: *mut Frame,
    room: usize,
    place: impl Fn(u64) -> u64,
) -> Step {
    let tag_mask = !u64::from(layout.tag_mask);
    // SAFETY: `walk` and `frames` are valid, here and below.
    let address = unsafe { (*walk).cursor } & tag_mask;
    if address == 0 {
        return Step::End(status::COMPLETE);
    }
    // SAFETY: as above.
    let window = unsafe { &raw mut (*walk).window };
    let Some(frame) = frame_at(layout, window, address) else { return Step::End(status::UNREADABLE) };
    // SAFETY: as above.
    let previous = unsafe { field::<u64, FRAME_BYTES>(frame, layout.frame_previous) };
    let index = unsafe { (*walk).frames };
    let owner = u64::from(unsafe { field::<u8, FRAME_BYTES>(frame, layout.frame_owner) });
    if owner & unsafe { (*walk).has_owner } >= FIRST_FOREIGN_OWNER {
        // The frame before this one was entered through it; with none before, one that has ended was.
        // SAFETY: as above.
        unsafe {
            (*walk).cursor = previous;
            (*walk).hash = fold((*walk).hash, ENTRIES);
        }
        if index == 0 {
            // SAFETY: as above.
            unsafe { (*walk).top_entries += 1 };
            return Step::Next;
        }
        let before = opaque(place(index.wrapping_sub(1)));
        if before < room as u64 {
            let before = opaque(before) & (room as u64 - 1);
            // SAFETY: `before` is below the length of `frames`.
            unsafe {
                let code = (*frames.add(before as usize)).code;
                (*frames.add(before as usize)).code = code + u64::from(code & ENTRIES != ENTRIES);
            }
        }
        return Step::Next;
    }
    let at = opaque(place(index));
    if at >= room as u64 {
        return Step::End(status::TRUNCATED);
    }
    // SAFETY: as above.
    let code = unsafe { field::<u64, FRAME_BYTES>(frame, layout.frame_code) } & tag_mask;
    let instruction = unsafe { field::<u64, FRAME_BYTES>(frame, layout.frame_instruction) };
    let by_pointer = unsafe { (*walk).has_bytecode };
    let mut start = code + u64::from(layout.code_bytecode);
    // SAFETY: as above.
    let copy = u64::from(unsafe { field::<u32, FRAME_BYTES>(frame, layout.frame_copy) });
    let copy = copy & unsafe { (*walk).has_copies };
    if copy != 0 {
        start = copy_of_bytecode(code, copy, start);
    }
    let from_pointer = instruction.wrapping_sub(start);
    let from_last = u64::from((instruction as u32).wrapping_mul(layout.instruction_scale));
    let instruction = ((from_pointer & by_pointer) | (from_last & !by_pointer)) as i32;
    // SAFETY: as above, here and below.
    let entry = u64::from(unsafe { field::<u8, FRAME_BYTES>(frame, layout.frame_entry) } & 1);
    // Without owners, each Python call is one of C.
    // SAFETY: as above.
    let entered = (entry & unsafe { (*walk).has_entry }) | (1 & !unsafe { (*walk).has_owner });
    let slot = opaque((code >> 6) ^ (code >> 10)) & (KNOWN_CODES as u64 - 1);
    // SAFETY: as above; `slot` is below the length of `codes`.
    let known = unsafe { (&raw mut (*walk).codes).cast::<KnownCode>().add(slot as usize) };
    // SAFETY: as above.
    let identity = if unsafe { (*known).code } == code {
        // Both frames run it, so it is the same.
        // SAFETY: as above.
        unsafe { (*known).identity as u32 }
    } else {
        let Some(identity) = identity(layout, code, walk) else {
            return Step::End(status::UNREADABLE);
        };
        // SAFETY: as above.
        unsafe { known.write(KnownCode { code, identity: u64::from(identity) }) };
        identity
    };
    let code = code & !ENTRIES | entered;
    // Once more, and by a mask: what Linux 5.10 knew of it is lost when it was kept on the stack meanwhile.
    let at = opaque(at) & (room as u64 - 1);
    // SAFETY: `at` is below the length of `frames`.
    unsafe {
        frames.add(at as usize).write(Frame { code, instruction, identity });
        let rest = u64::from(instruction as u32) << 32 | u64::from(identity);
        (*walk).hash = fold(fold((*walk).hash, code), rest);
        (*walk).frames = index + 1;
        (*walk).cursor = previous;
    }
    Step::Next
}

/// What tells a code object from another that takes its address. Userspace computes the same
/// (`python/identity.rs`).
///
/// From 3.12 on it is `co_version`, which no other code object ever gets, with what lies before it. It is 0
/// once the interpreter has given out all numbers; then, and before 3.12, it is where the code object's parts lie
/// and what they contain.
#[inline(always)]
fn identity(layout: &Layout, code: u64, walk: *mut Walk) -> Option<u32> {
    // SAFETY: `walk` is valid.
    let object = unsafe { &raw mut (*walk).code }.cast::<u8>();
    let length = opaque(u64::from(layout.code_bytes)) & (CODE_BYTES as u64 - 1);
    // SAFETY: `length` is below the size of `code`.
    if !unsafe { copy_user(object, length as u32, code + u64::from(layout.code_start)) } {
        return None;
    }
    // SAFETY: `code` has room for more words.
    let head = unsafe { object.cast::<[u64; IDENTITY_WORDS]>().read() };
    let mut hash = mix(head, HASH_START);
    if layout.has_version == 0 || head[IDENTITY_WORDS - 1] >> 32 == 0 {
        // What cannot be read is zeroes (the helper sees to that), and the frame will have no name: this is too
        // rare to cut a stack for.
        let at = if layout.has_version == 0 {
            layout.code_bytes.wrapping_sub(IDENTITY_BYTES)
        } else {
            // SAFETY: `code` has room for twice as many words.
            unsafe {
                let tail = object.add(IDENTITY_BYTES as usize);
                copy_user(tail, IDENTITY_BYTES, code + u64::from(layout.code_tail));
            }
            IDENTITY_BYTES
        };
        // SAFETY: `code` is `CODE_BYTES` and 8 bytes long, and aligned.
        let word = |offset| unsafe { field::<u64, CODE_BYTES>(object, at.wrapping_add(offset)) };
        let tail = [word(0), word(8), word(16), word(24)];
        // SAFETY: `walk` is valid.
        let name = unsafe {
            let name = &raw mut (*walk).name;
            copy_user(name.cast(), 8, word(layout.tail_name) + CONTENTS_HASH);
            name.read()
        };
        hash = mix(tail, mix([name, 0, 0, 0], hash));
    }
    Some((hash ^ (hash >> 32)) as u32)
}

/// Words into a hash, without waiting for one another's multiplication.
#[inline(always)]
pub(crate) fn mix(words: [u64; IDENTITY_WORDS], start: u64) -> u64 {
    let sum = start
        .wrapping_add(words[0].wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(words[1].wrapping_mul(0xC2B2_AE3D_27D4_EB4F))
        .wrapping_add(words[2].wrapping_mul(0x1656_67B1_9E37_79F9))
        .wrapping_add(words[3].wrapping_mul(0xD6E8_FEB8_6659_FD93));
    (sum ^ (sum >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A field of a copied object of `SIZE` bytes (a power of two), which lies in memory of 8 bytes more. An
/// offset that would lead out of it is folded back inside: userspace never gives one.
///
/// # Safety
/// `object` is valid for reads of `SIZE + 8` bytes, and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn field<T: Copy, const SIZE: usize>(object: *const u8, offset: u32) -> T {
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
pub(crate) fn fold(hash: u64, value: u64) -> u64 {
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
        address = address.wrapping_add(u64::from(layout.gil_head));
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

/// Where the current thread's thread-local storage begins, by which the C library finds everything of a thread.
#[inline(always)]
pub(crate) fn fs_base() -> Option<u64> {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    kernel::<u64>(task + setting!(task_fsbase)).filter(|base| *base != 0)
}

/// The current thread's `PyThreadState`, by a route that stays valid while the GIL is released.
#[inline(always)]
pub(crate) fn thread_state(layout: &Layout) -> Result<u64, u16> {
    if layout.route == route::NONE {
        return Err(status::NO_LAYOUT);
    }
    let fsbase = fs_base().ok_or(status::NO_THREAD_STATE)?;
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
