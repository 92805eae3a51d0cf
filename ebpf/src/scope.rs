//! Who runs on this thread, when one thread serves many requests: its current context, whether a coroutine runs
//! at all, and for a pool's thread the context that its work was asked for in. It runs on the thread that it reads.
//! No CPython version is known here; offsets come with the target. Processes that serve one request a thread pay
//! one test.

use crate::maps::{StackScratch, Walk};
use crate::memory::{copy_user, opaque, user};
use crate::objects::OB_TYPE;
use crate::stack::{field, first_frame, thread_state};
use crate::{emit, greenlets};
use pyapm_wire::count;
use pyapm_wire::python::{ABSENT, FRAME_BYTES};
use pyapm_wire::scope::{Contexts, Scope, flag};
use pyapm_wire::target::Target;

/// Frames that are looked at for a coroutine. The usual ones are at the top: a handler that writes, some frames
/// below; or there is none in the whole stack of an event loop or a pool's thread.
const MAX_FRAMES: u32 = 128;
/// Frames that belong to a generator's object, coroutines among them; CPython `pycore_frame.h`, `enum _frameowner`.
const OWNED_BY_GENERATOR: u64 = 1;
const FIRST_FOREIGN_OWNER: u64 = 3;
/// `CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR`; CPython `Include/cpython/code.h`.
const COROUTINE_FLAGS: u32 = 0x80 | 0x100 | 0x200;
/// Pieces of one greenlet's data stack that are followed.
const MAX_CHUNKS: u32 = 16;

/// All zeros where the target does not need it.
#[inline(always)]
pub(crate) fn take(target: &Target, scratch: *mut StackScratch) -> Scope {
    let contexts = &target.contexts;
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
    let Some(context) = user::<u64>(tstate + u64::from(contexts.tstate_context)) else {
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
        if user::<u64>(tstate + u64::from(contexts.running_loop)).is_some_and(|running| running != 0) {
            scope.flags |= flag::LOOP;
        }
        scope.task = user::<u64>(tstate + u64::from(contexts.running_task)).unwrap_or(0);
    }
    if contexts.data_stack != ABSENT {
        scope.task = first_chunk(tstate + u64::from(contexts.data_stack));
    }
    if !entered && contexts.work_code == 0 {
        // Whoever drives coroutines runs each step in a context that it enters first, and no pool's work is followed: none
        // of the frames would be what is looked for. Threads of servers that merely import an event loop end here.
        return scope;
    }
    // SAFETY: `scratch` is valid.
    let walk = unsafe { &raw mut (*scratch).walk };
    scope.flags |= coroutine(target, tstate, walk);
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
fn coroutine(target: &Target, tstate: u64, walk: *mut Walk) -> u32 {
    let layout = &target.layout;
    // SAFETY: `walk` is valid, here and below.
    unsafe {
        (*walk).hash = 0;
        (*walk).has_owner = if layout.frame_owner == ABSENT { 0 } else { u64::MAX };
    }
    let Some(first) = first_frame(layout, tstate) else { return flag::STACK_CUT };
    unsafe { (*walk).cursor = first };
    for _ in 0..MAX_FRAMES {
        match step(target, walk) {
            Step::Next => {}
            Step::End(flags) => return flags,
        }
    }
    flag::STACK_CUT
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
    let frame = unsafe { &raw mut (*walk).window }.cast::<u8>();
    let start = opaque(u64::from(layout.frame_start)) & (FRAME_BYTES as u64 - 1);
    let length = opaque(u64::from(layout.frame_bytes)) & (FRAME_BYTES as u64 - 1);
    // SAFETY: the window has room for more than twice `FRAME_BYTES`, and both are below it.
    if !unsafe { copy_user(frame.add(start as usize), length as u32, address + start) } {
        return Step::End(flag::STACK_CUT);
    }
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
