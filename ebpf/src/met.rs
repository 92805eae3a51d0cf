//! Stacks that were met before, known again by their frames alone; `decisions/0037-stacks-that-are-known.md`.

use crate::maps::{CODE_DEATHS, MET_STACKS, MetStack, STACKS, StackScratch, setting};
use crate::stack::{Walked, begin_again, finish, forget_codes, go_on, to_a_glance, to_the_first};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use pyapm_wire::python::{DEATH_SLOTS, status};
use pyapm_wire::target::Target;

/// Walks, and sends the frames if this stack has not been sent before; `steps` as for [`go_on`]. Comes after `scope::take`
/// with the same working space, which has found where the frames begin, and has often read some.
///
/// Most of what a walk costs is the look at each code object, which lies on pages that the kernel seldom touches. Where
/// all code objects that are given up are told, there are two walks. The first looks at frames alone. If a stack of the
/// same frames (code objects and instructions) was walked whole before, and no code object of this process has been given
/// up since, then they are the same code objects: they were alive then because they ran, and are since. Else the second
/// looks at everything. The thread is in this program all the while, so its own frames keep theirs alive.
#[inline(always)]
pub(crate) fn take(target: &Target, scratch: *mut StackScratch, steps: impl Fn() -> u64) -> Walked {
    let begun = begin_again(&target.layout, scratch);
    // The verifier knows the setting, and leaves this out where it is 0.
    if setting!(code_deaths) != 0 && begun.is_ok() && target.layout.deaths_told != 0 {
        first_look(scratch);
        let status = go_on(scratch, &steps);
        if let Some(walked) = met(target, scratch, status) {
            return walked;
        }
        to_the_first(scratch);
    }
    forget_codes(scratch);
    let status = match begun {
        Ok(()) => go_on(scratch, &steps),
        Err(status) => status,
    };
    let walked = finish(target, scratch, status);
    remember(scratch, walked);
    walked
}

/// Has the walk that is to come look at frames alone.
#[inline(always)]
pub(crate) fn first_look(scratch: *mut StackScratch) {
    // SAFETY: `scratch` is valid.
    unsafe { (*scratch).walk.deaths = deaths() };
    to_a_glance(scratch);
}

/// What [`CODE_DEATHS`] counts for the current process. Frames that were read before, in the same run of the program, keep
/// their code objects alive: none of those is counted.
#[inline(always)]
fn deaths() -> u64 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the slot is one aligned word.
    CODE_DEATHS.get_ptr(tgid % DEATH_SLOTS).map_or(0, |slot| unsafe { slot.read_volatile() })
}

/// A stack that has just been walked without its code objects, if it is known and its frames were sent.
#[inline(always)]
pub(crate) fn met(target: &Target, scratch: *mut StackScratch, status: u16) -> Option<Walked> {
    // SAFETY: `scratch` is valid.
    let walk = unsafe { &mut (*scratch).walk };
    if status != status::COMPLETE || walk.frames == 0 {
        return None;
    }
    let key = walk.hash ^ target.generation;
    walk.met = key;
    // SAFETY: entries are written whole.
    let known = *(unsafe { MET_STACKS.get(key) }?);
    let is_same = known.deaths == walk.deaths && STACKS.get_ptr(known.stack).is_some();
    is_same.then_some(Walked { stack: known.stack, status })
}

/// Has a stack known again by [`met`].
#[inline(always)]
pub(crate) fn remember(scratch: *const StackScratch, walked: Walked) {
    // SAFETY: `scratch` is valid.
    let walk = unsafe { &(*scratch).walk };
    if walk.met != 0 && walked.status == status::COMPLETE {
        let known = MetStack { stack: walked.stack, deaths: walk.deaths };
        let _full_means_walked_again = MET_STACKS.insert(walk.met, known, 0);
    }
}
