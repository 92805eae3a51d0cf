//! Stacks of more frames than the common walk holds: for the sampling program and the scheduler's switch, which share a
//! working space that is large enough. Both run with interrupts off, so neither comes in between the other. A stack beyond
//! that keeps its two ends.
//!
//! The functions here are global ones to the verifier (`BTF_FUNC_GLOBAL`, Linux 5.6): it walks through each once,
//! whatever it is called with, and not again for each call. That is what makes loops of thousands of steps possible
//! on 5.10, which has no other. They take nothing for that reason, and find the working space themselves.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::{DeepScratch, SAMPLE_SCRATCH, STACKS, StackScratch, TARGETS, setting};
use crate::memory::opaque;
use crate::stack::{self, Step, Walked, outcome};
use crate::{met, scope};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use pyapm_wire::event::{Stack, kind};
use pyapm_wire::python::{DEEP_FRAMES, Frame, INNER_FRAMES, MAX_STEPS, PART_FRAMES, SWITCH_STEPS, status};
use pyapm_wire::target::Target;

/// Steps of one call.
const STEPS: usize = 64;
/// Calls for a sample, of which there are so many a second.
pub(crate) const SAMPLE_CALLS: usize = MAX_STEPS / STEPS;
/// Calls for a switch, of which there may be any number, and during which nobody else can put a thread on this CPU.
pub(crate) const SWITCH_CALLS: usize = SWITCH_STEPS / STEPS;
/// Places for the outermost frames of a stack that does not fit: the last ones that were met are there.
const OUTER_PLACES: u64 = (DEEP_FRAMES - INNER_FRAMES) as u64;
/// The record before a part takes the places of so many frames.
const RECORD_FRAMES: u64 = (size_of::<Stack>() / size_of::<Frame>()) as u64;
/// Parts of the largest stack, its turn from the last place for outermost frames to the first included.
const MAX_PARTS: usize = DEEP_FRAMES / PART_FRAMES + 2;

const _: () = assert!(OUTER_PLACES.is_power_of_two() && DEEP_FRAMES.is_power_of_two());
const _: () = assert!((INNER_FRAMES as u64).is_multiple_of(OUTER_PLACES));
const _: () = assert!(INNER_FRAMES.is_multiple_of(PART_FRAMES));
const _: () = assert!(size_of::<Stack>().is_multiple_of(size_of::<Frame>()));

/// This CPU's working space.
#[inline(always)]
pub(crate) fn scratch() -> Option<*mut DeepScratch> {
    // SAFETY: the helper has no preconditions.
    SAMPLE_SCRATCH.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// Walks, as deep as so many calls of [`deep_steps`] come, and sends the frames if this stack has not been sent before.
#[inline(always)]
pub(crate) fn take(target: &Target, scratch: *mut DeepScratch, calls: usize) -> Walked {
    // It is as long, and begins with the same.
    let first = scratch.cast::<StackScratch>();
    if let Err(status) = stack::begin(&target.layout, first) {
        // SAFETY: `scratch` is valid.
        return stack::identify(target, unsafe { &raw const (*scratch).walk }, status);
    }
    // SAFETY: `scratch` is valid, here and below.
    unsafe {
        (*scratch).layout = target.layout;
        (*scratch).status = u32::from(status::TRUNCATED);
    }
    // As in `met::take`.
    if setting!(code_deaths) != 0 && target.layout.deaths_told != 0 {
        met::first_look(first);
        // SAFETY: as above.
        unsafe { (*scratch).page.clear_for_row((*scratch).walk.first) };
        let mut status = status::TRUNCATED;
        for _ in 0..calls {
            if deep_glances() != outcome::MORE {
                // SAFETY: as above.
                status = unsafe { (*scratch).walk.status } as u16;
                break;
            }
        }
        if let Some(walked) = met::met(target, first, status) {
            return walked;
        }
        stack::to_the_first(first);
    }
    stack::forget_codes(first);
    for _ in 0..calls {
        if deep_steps() != outcome::MORE {
            break;
        }
    }
    // SAFETY: as above.
    let status = unsafe { (*scratch).status } as u16;
    let walked = stack::identify(target, unsafe { &raw const (*scratch).walk }, status);
    met::remember(first, walked);
    if walked.stack == 0 || STACKS.get_ptr(walked.stack).is_some() {
        return walked;
    }
    // SAFETY: as above.
    unsafe {
        let all = (*scratch).walk.frames;
        (*scratch).stack = walked.stack;
        (*scratch).sent = 0;
        // The record of the part that begins with the outermost frames takes the places of some.
        (*scratch).kept =
            if all <= DEEP_FRAMES as u64 { all as u32 } else { DEEP_FRAMES as u32 - RECORD_FRAMES as u32 };
    }
    for _ in 0..MAX_PARTS {
        match deep_part() {
            outcome::MORE => {}
            outcome::END => {
                let _full_means_sent_again = STACKS.insert(walked.stack, 1, 0);
                break;
            }
            _ => break,
        }
    }
    walked
}

/// Where the `index`th frame lies, counted from the innermost.
#[inline(always)]
fn place(index: u64) -> u64 {
    let inner = INNER_FRAMES as u64;
    if index < inner { index } else { inner + (index & (OUTER_PLACES - 1)) }
}

/// Goes on for some steps with a walk that looks at frames alone.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn deep_glances() -> u64 {
    let Some(scratch) = scratch() else { return outcome::FAILED };
    // SAFETY: `scratch` is valid, and nothing else uses it now.
    let (layout, walk, page) =
        unsafe { (&(*scratch).layout, &raw mut (*scratch).walk, &raw mut (*scratch).page) };
    stack::glances(layout, walk, page, STEPS)
}

/// Goes on for some steps with a walk that looks for a coroutine.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn deep_frames() -> u64 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return outcome::FAILED };
    let Some(scratch) = scratch() else { return outcome::FAILED };
    // SAFETY: `scratch` is valid, and nothing else uses it now.
    scope::frames(target, unsafe { &raw mut (*scratch).walk })
}

/// Goes on for some steps with a walk that looks at everything.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn deep_steps() -> u64 {
    let Some(scratch) = scratch() else { return outcome::FAILED };
    // SAFETY: `scratch` is valid, and nothing else uses it now.
    let (layout, walk, frames) = unsafe {
        (&(*scratch).layout, &raw mut (*scratch).walk, (&raw mut (*scratch).frames).cast::<Frame>())
    };
    for _ in 0..STEPS {
        match stack::step(layout, walk, frames, DEEP_FRAMES, place) {
            Step::Next => {}
            Step::End(status) => {
                // SAFETY: as above.
                unsafe { (*scratch).status = u32::from(status) };
                return outcome::END;
            }
        }
    }
    outcome::MORE
}

/// Sends the next part of a walked stack. Its record is put before its frames, over those that were sent already
/// or are left out.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn deep_part() -> u64 {
    let Some(scratch) = scratch() else { return outcome::FAILED };
    let inner = INNER_FRAMES as u64;
    // SAFETY: `scratch` is valid, and nothing else uses it now.
    let (all, kept, sent) =
        unsafe { ((*scratch).walk.frames, u64::from((*scratch).kept), u64::from((*scratch).sent)) };
    if sent >= kept {
        return outcome::END;
    }
    let left_out = all.wrapping_sub(kept);
    // Of a stack that did not fit, the place after the last frame's is the oldest one's.
    let first = if left_out == 0 || sent < inner { sent } else { all + RECORD_FRAMES + (sent - inner) };
    let at = opaque(place(first)) & (DEEP_FRAMES as u64 - 1);
    let mut frames = kept - sent;
    if frames > DEEP_FRAMES as u64 - at {
        frames = DEEP_FRAMES as u64 - at;
    }
    let mut frames = opaque(frames);
    if frames > PART_FRAMES as u64 {
        frames = PART_FRAMES as u64;
    }
    let length = size_of::<Stack>() as u64 + frames * size_of::<Frame>() as u64;
    // SAFETY: the record's room before the frame at `at`, a valid place, is the record's own or that of frames; behind
    // it `PART_FRAMES` frames are inside.
    let sent_now = unsafe {
        let record = (&raw mut (*scratch).record).cast::<Frame>().add(at as usize).cast::<Stack>();
        record.write(Stack {
            header: header(kind::STACK, length as usize),
            stack: (*scratch).stack,
            frames: frames as u32,
            stack_status: (*scratch).status as u16,
            top_entries: (*scratch).walk.top_entries as u16,
            before: sent as u32,
            kept: kept as u32,
            left_out: left_out as u32,
            padding_2: [0; 3],
        });
        emit::output(record.cast(), length)
    };
    if !sent_now {
        return outcome::FAILED;
    }
    // SAFETY: as above.
    unsafe { (*scratch).sent = (sent + frames) as u32 };
    outcome::MORE
}
