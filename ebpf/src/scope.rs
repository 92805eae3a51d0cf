//! Who runs on this thread, when one thread serves many requests: its current context, whether a coroutine runs
//! at all, and for a pool's thread the context that its work was asked for in. It runs on the thread that it reads.
//! No CPython version is known here; offsets come with the target. Processes that serve one request a thread pay
//! one test.

use crate::maps::{StackScratch, Walk};
use crate::memory::{copy_user, opaque, user};
use crate::objects::OB_TYPE;
use crate::stack::{self, field, find_first, outcome, thread_state};
use crate::window;
use crate::{emit, greenlets};
use pyapm_wire::count;
use pyapm_wire::python::{ABSENT, FRAME_BYTES};
use pyapm_wire::scope::{Contexts, Scope, THREAD_BYTES, flag};
use pyapm_wire::target::Target;

/// Calls of a function that goes on with a walk, which are 128 frames. The usual coroutine is at the top: a handler that
/// writes, some frames below; or there is none in the whole stack of an event loop or a pool's thread.
const CALLS: usize = 128 / STEPS;
/// Frames of one such call.
const STEPS: usize = 64;
/// Frames that belong to a generator's object, coroutines among them; CPython `pycore_frame.h`, `enum _frameowner`.
const OWNED_BY_GENERATOR: u64 = 1;
const FIRST_FOREIGN_OWNER: u64 = 3;
/// `CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR`; CPython `Include/cpython/code.h`.
const COROUTINE_FLAGS: u32 = 0x80 | 0x100 | 0x200;
/// Pieces of one greenlet's data stack that are followed.
const MAX_CHUNKS: u32 = 16;

/// All zeros where the target does not need it. What it finds out of where the thread's frames begin, it leaves for
/// `met::take`. `more` goes on with a walk in `scratch`: it is [`frames`] in a function that is global to the verifier, as that
/// of `stack::go_on`.
#[inline(always)]
pub(crate) fn take(target: &Target, scratch: *mut StackScratch, more: impl Fn() -> u64) -> Scope {
    let contexts = &target.contexts;
    // SAFETY: `scratch` is valid, here and below.
    let walk = unsafe { &raw mut (*scratch).walk };
    unsafe { (*walk).place = stack::place::UNKNOWN };
    let mut scope = Scope { context: 0, task: 0, flags: 0, padding: 0 };
    if contexts.on == 0 {
        scope.flags = contexts.always & flag::HANDS_ON;
        return scope;
    }
    if let Some(running) = greenlets::running(target) {
        scope.task = running;
        scope.flags = flag::READ | flag::GREENLETS | contexts.always;
        return scope;
    }
    let Ok(tstate) = thread_state(&target.layout) else { return scope };
    let Some(context) = context(target, tstate, walk) else {
        emit::add(count::SCOPE_UNREADABLE, 1);
        return scope;
    };
    scope.flags = flag::READ | contexts.always;
    scope.context = context;
    let entered = context != 0 && is_entered(contexts, context);
    if entered {
        scope.flags |= flag::ENTERED;
    }
    if contexts.running_loop != ABSENT {
        // SAFETY: the window is longer, and aligned to 8; what cannot be read is zeroes, the helper sees to that.
        let [running, task] = unsafe {
            let both = (&raw mut (*walk).window.places).cast::<[u64; 2]>();
            copy_user(both.cast(), 16, tstate + u64::from(contexts.running_loop));
            both.read()
        };
        if running != 0 {
            scope.flags |= flag::LOOP;
        }
        scope.task = task;
    }
    if contexts.data_stack != ABSENT {
        scope.task = first_chunk(tstate + u64::from(contexts.data_stack));
    }
    if !entered && contexts.work_code == 0 {
        // Whoever drives coroutines runs each step in a context that it enters first, and no pool's work is followed: none
        // of the frames would be what is looked for. Threads of servers that merely import an event loop end here.
        return scope;
    }
    scope.flags |= coroutine(target, walk, entered, more);
    if scope.flags & (flag::COROUTINE | flag::ENTERED) == 0 {
        // SAFETY: as above; `coroutine` has stored it.
        let frame = unsafe { (*walk).hash };
        if frame != 0
            && let Some(asked_in) = handed_on(target, frame)
        {
            scope.context = asked_in;
            scope.flags |= flag::HANDED_ON;
        }
    }
    scope
}

/// The thread's current context. Where its frames begin lies near, and is read with it: it is left in `walk`.
#[inline(always)]
fn context(target: &Target, tstate: u64, walk: *mut Walk) -> Option<u64> {
    let (from, to) = (target.layout.tstate_frame, target.contexts.tstate_context);
    let length = opaque(u64::from(to.wrapping_sub(from)) + 8);
    if length > THREAD_BYTES as u64 {
        return None;
    }
    // SAFETY: `walk` is valid, and its window longer, and aligned to 8.
    unsafe {
        let thread = (&raw mut (*walk).window.places).cast::<u8>();
        if !copy_user(thread, length as u32, tstate + u64::from(from)) {
            return None;
        }
        (*walk).tstate = tstate;
        (*walk).first = field::<u64, THREAD_BYTES>(thread, 0);
        (*walk).place = stack::place::SAID;
        Some(field::<u64, THREAD_BYTES>(thread, to.wrapping_sub(from)))
    }
}

/// Whether something was run in this context, by the rule of its version.
#[inline(always)]
fn is_entered(contexts: &Contexts, context: u64) -> bool {
    if contexts.entered_by_previous != 0 {
        user::<u64>(context + u64::from(contexts.previous)).is_some_and(|previous| previous != 0)
    } else {
        user::<u32>(context + u64::from(contexts.entered)).is_some_and(|entered| entered != 0)
    }
}

/// Looks for a coroutine, from the innermost frame outwards; leaves the frame that works off what was handed to a
/// pool, or 0, in `walk.hash`.
#[inline(always)]
fn coroutine(target: &Target, walk: *mut Walk, entered: bool, more: impl Fn() -> u64) -> u32 {
    let layout = &target.layout;
    // SAFETY: `walk` is valid, here and below.
    unsafe {
        (*walk).hash = 0;
        (*walk).has_owner = if layout.frame_owner == ABSENT { 0 } else { u64::MAX };
    }
    if find_first(layout, walk).is_none() {
        return flag::STACK_CUT;
    }
    // SAFETY: as above.
    unsafe {
        (*walk).place = stack::place::FRAME;
        (*walk).cursor = (*walk).first;
        // The innermost frame is often a coroutine's, if there is one at all.
        if entered {
            (*walk).window.clear();
        } else {
            (*walk).window.clear_for_row((*walk).first);
        }
    }
    // Most walks end at once.
    if let Step::End(flags) = step(target, walk) {
        return flags;
    }
    for _ in 0..CALLS {
        match more() {
            outcome::MORE => {}
            // SAFETY: as above.
            outcome::END => return unsafe { (*walk).status } as u32,
            _ => break,
        }
    }
    flag::STACK_CUT
}

/// Goes on for some steps with a walk that looks for a coroutine.
#[inline(always)]
pub(crate) fn frames(target: &Target, walk: *mut Walk) -> u64 {
    for _ in 0..STEPS {
        if let Step::End(flags) = step(target, walk) {
            // SAFETY: `walk` is valid.
            unsafe { (*walk).status = u64::from(flags) };
            return outcome::END;
        }
    }
    outcome::MORE
}

enum Step {
    Next,
    End(u32),
}

#[inline(always)]
fn step(target: &Target, walk: *mut Walk) -> Step {
    let layout = &target.layout;
    let tag_mask = !u64::from(layout.tag_mask);
    // SAFETY: `walk` is valid, here and below.
    let address = unsafe { (*walk).cursor } & tag_mask;
    if address == 0 {
        return Step::End(0);
    }
    let Some(frame) = window::at(layout, unsafe { &raw mut (*walk).window }, address) else {
        return Step::End(flag::STACK_CUT);
    };
    // SAFETY: as above.
    unsafe { (*walk).cursor = field::<u64, FRAME_BYTES>(frame, layout.frame_previous) };
    let has_owner = unsafe { (*walk).has_owner };
    let owner = u64::from(unsafe { field::<u8, FRAME_BYTES>(frame, layout.frame_owner) }) & has_owner;
    if owner >= FIRST_FOREIGN_OWNER {
        return Step::Next;
    }
    let code = unsafe { field::<u64, FRAME_BYTES>(frame, layout.frame_code) } & tag_mask;
    if code == target.contexts.work_code {
        // SAFETY: as above.
        unsafe { (*walk).hash = address };
    }
    if has_owner == 0 || owner == OWNED_BY_GENERATOR {
        match user::<u32>(code + u64::from(target.contexts.code_flags)) {
            Some(flags) if flags & COROUTINE_FLAGS != 0 => return Step::End(flag::COROUTINE),
            Some(_) => {}
            None => return Step::End(flag::STACK_CUT),
        }
    }
    Step::Next
}

/// From the frame of `_WorkItem.run` to the context that the work was asked for in.
#[inline(always)]
fn handed_on(target: &Target, frame: u64) -> Option<u64> {
    let work = &target.contexts.work;
    let tag_mask = !u64::from(target.layout.tag_mask);
    let value = |object: u64, offset: u32| {
        let base = if work.values_outside != 0 { user::<u64>(object.wrapping_sub(32))? } else { object };
        user::<u64>(base.wrapping_add(u64::from(offset))).filter(|value| *value != 0)
    };
    let at = |base: u64, offset: u32| {
        user::<u64>(base.wrapping_add(u64::from(offset))).filter(|value| *value != 0)
    };
    let item = at(frame, work.frame_locals)? & tag_mask;
    let future = value(item, work.item_future)?;
    let callbacks = value(future, work.future_callbacks)?;
    let callback = at(at(callbacks, work.list_items)?, 0)?;
    let closure = at(callback, work.function_closure)?;
    let cell = at(closure, work.tuple_items + 8 * work.destination_cell)?;
    let destination = at(cell, work.cell_value)?;
    let context = at(destination, work.future_context)?;
    (user::<u64>(context + OB_TYPE) == Some(target.contexts.context_type)).then_some(context)
}

/// The first piece of the data stack that the current frames lie on: a greenlet's own. `previous` is the first word
/// of each (CPython `Include/internal/pycore_pystate.h`, `struct _PyStackChunk`).
#[inline(always)]
fn first_chunk(slot: u64) -> u64 {
    let mut chunk = user::<u64>(slot).unwrap_or(0);
    for _ in 0..MAX_CHUNKS {
        if chunk == 0 {
            return 0;
        }
        match user::<u64>(chunk) {
            Some(0) => return chunk,
            Some(previous) => chunk = previous,
            None => return 0,
        }
    }
    0
}
