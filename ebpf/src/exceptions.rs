//! Exceptions on their way: a uprobe on CPython's `PyTraceBack_Here(PyFrameObject *)` (exported by every version),
//! which runs once for each Python frame that an exception reaches, before that frame is put into the traceback.
//!
//! An exception that is caught in the frame that raised it costs the probe alone and is never told. At its second
//! frame it has left the first: it is sent, with what it says of itself, and every frame after that is sent too, so
//! that the traceback grows in userspace as it does in the process. It is known again by its traceback: what
//! heads it at one frame is behind the head at the next, in whatever thread that is.

// Long because what is copied of one exception belongs together, and each part is a few lines.

use crate::connection::next_id;
use crate::drivers::{statement_frames, thread_scratch};
use crate::emit;
use crate::identity::identity_of;
use crate::lifecycle::header;
use crate::maps::{PASSING, Passing, QUIET, RATES, TARGETS, TracebackKey};
use crate::memory::{copy_user, opaque, user, user_or_zero};
use crate::objects::{OB_SIZE, OB_TYPE, TEXT_LENGTH, TEXT_STATE, TP_FLAGS, TP_NAME};
use crate::scope;
use crate::stack::thread_state;
use crate::task::task_left;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user_str};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::kind;
use pyapm_wire::exception::{
    Exception, ExceptionLayout, MAX_CHAIN, MAX_FRAMES, MAX_NAME, MAX_TEXT, PLACES, Passed, Value, flag,
    place_slot, register, relation, value,
};
use pyapm_wire::python::{ABSENT, Frame};
use pyapm_wire::scope::Scope;
use pyapm_wire::target::Target;

/// `PyTracebackObject.tb_next`, followed by `tb_frame` and `tb_lasti`: x86-64, 3.8 to 3.15 with the GIL.
const TB_NEXT: u64 = 16;
/// From there to `tb_frame`.
const TB_FRAME: u64 = 8;

/// `Py_TPFLAGS_*_SUBCLASS` of CPython's `Include/object.h`.
const LONG: u64 = 1 << 24;
const TUPLE: u64 = 1 << 26;
const UNICODE: u64 = 1 << 28;
const EXCEPTION: u64 = 1 << 30;

/// Exceptions that are sent in a while of 2^27 ns (0.13 s): of one place, and of all together. So many that requests
/// which all fail for one reason show it, up to 480 a second.
const BOUND: Bound = Bound { at_a_place: 64, of_all: 128, all: PLACES };
/// One place gets more than that only of the first half of what there is for all: the rest is for the others.
const FAIR: u64 = 20;
/// The same of places whose exceptions libraries always catch themselves: seven a second. They have a bound of their own,
/// so that however many of them there are, they do not stand in the way of the others.
const QUIET_BOUND: Bound = Bound { at_a_place: 1, of_all: 64, all: PLACES + 1 };
const WHILE_SHIFT: u64 = 27;

struct Bound {
    at_a_place: u64,
    of_all: u64,
    /// The slot of [`RATES`] that counts all.
    all: u32,
}

#[uprobe]
fn exception_passes(context: ProbeContext) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get(tgid) }) else { return 0 };
    emit::add(count::EXCEPTION_HITS, 1);
    let _nothing_to_tell = reached(&context, tgid, target);
    0
}

/// The exception that is on its way.
#[derive(Clone, Copy)]
struct Raised {
    class: u64,
    /// The exception, or (up to 3.11) what it is going to be made from.
    value: u64,
    traceback: u64,
}

/// The head of a traceback.
#[repr(C)]
#[derive(Clone, Copy)]
struct Traceback {
    next: u64,
    frame: u64,
    last_instruction: i32,
    line: i32,
}

#[inline(always)]
fn reached(context: &ProbeContext, tgid: u32, target: &Target) -> Option<()> {
    let layout = &target.exceptions;
    let (raised, frame) = raised(context, target)?;
    // Found in one of several ways, of which the rest need not be walked through once for each.
    let raised = Raised {
        class: forgotten(raised.class),
        value: forgotten(raised.value),
        traceback: forgotten(raised.traceback),
    };
    let frame = forgotten(frame);
    if raised.traceback == 0 {
        // It is raised in this frame: if it is caught here as well, it is nobody's business.
        return None;
    }
    let here = TracebackKey { tgid, padding: 0, traceback: raised.traceback };
    let head = user::<Traceback>(raised.traceback + TB_NEXT)?;
    if head.frame != frame {
        task_left(head.frame);
    }
    let known = if head.next == 0 {
        Passing::default()
    } else {
        let before = TracebackKey { tgid, padding: 0, traceback: head.next };
        // SAFETY: copied at once; another CPU that changes it can spoil this one traceback alone.
        match unsafe { PASSING.get(before) } {
            Some(known) => *known,
            None => {
                // Its beginning was not sent. What lies at this address now is not what was followed there.
                forget(here);
                return None;
            }
        }
    };
    if known.id == 0 && head.frame == frame {
        // Caught in the frame that raised it, and raised there again.
        let _full_means_not_followed = PASSING.insert(here, known, 0);
        return None;
    }
    // Another one may be raised with the traceback of the one that was followed.
    let same = known.value == raised.value || (known.class == raised.class && known.is_made == 0);
    if known.id == 0 || !same {
        let admitted =
            if known.id == 0 { leaves(target, layout, here, &head, &raised)? } else { Admitted::default() };
        let admitted = Admitted {
            place: forgotten(admitted.place),
            suppressed: forgotten(u64::from(admitted.suppressed)) as u32,
        };
        return send_chain(target, here, &raised, frame, admitted, known.id);
    }
    let sent = Passed {
        header: header(kind::EXCEPTION_PASSED, size_of::<Passed>()),
        id: known.id,
        frame: frame_at(target, frame, None),
    };
    emit::send(&sent);
    let passing = Passing {
        value: raised.value,
        is_made: if known.value == raised.value { known.is_made } else { is_made(&raised) },
        ..known
    };
    let _full_means_not_followed = PASSING.insert(here, passing, 0);
    None
}

/// Follows this traceback no longer. Hardly any is followed when this is asked, and looking takes no lock.
#[inline(always)]
fn forget(here: TracebackKey) {
    if PASSING.get_ptr(here).is_some() {
        let _gone_is_fine = PASSING.remove(here);
    }
}

/// What is told of an exception because of where it was raised.
#[derive(Clone, Copy, Default)]
struct Admitted {
    /// See [`Exception::place`].
    place: u64,
    /// How many of this place were not sent since the last that was.
    suppressed: u32,
}

/// It has left the frame that raised it. `None` when it is not to be told.
#[inline(always)]
fn leaves(
    target: &Target,
    layout: &ExceptionLayout,
    here: TracebackKey,
    head: &Traceback,
    raised: &Raised,
) -> Option<Admitted> {
    for class in layout.control_flow {
        if raised.class == class {
            forget(here);
            return None;
        }
    }
    let code = code_of(target, head.frame);
    let place = (raised.class ^ code.rotate_left(21) ^ head.last_instruction as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        | 1;
    let admitted = admit(place);
    if admitted.is_none() {
        emit::add(count::EXCEPTIONS_SUPPRESSED, 1);
        forget(here);
    }
    admitted
}

/// Whether one more may be sent.
#[inline(always)]
fn admit(place: u64) -> Option<Admitted> {
    // SAFETY: the helper has no preconditions.
    let now = (unsafe { bpf_ktime_get_ns() } >> WHILE_SHIFT) + 1;
    let quiet = QUIET.get_ptr(place_slot(place))?;
    // SAFETY: the slot is one aligned word.
    let bound = if unsafe { quiet.read_volatile() } == place { QUIET_BOUND } else { BOUND };
    let all = RATES.get_ptr_mut(bound.all)?;
    let own = RATES.get_ptr_mut(place_slot(place))?;
    // SAFETY: map values stay valid while the program runs. Counts of two CPUs at once may get lost: the bound
    // is a bound on cost, the sum of what is not sent is kept elsewhere.
    unsafe {
        if (*own).place != place {
            (*own).place = place;
            (*own).at = 0;
            (*own).suppressed = 0;
        }
        if (*own).at != now {
            (*own).at = now;
            (*own).sent = 0;
        }
        if (*all).at != now {
            (*all).at = now;
            (*all).sent = 0;
        }
        let is_fair = (*own).sent < FAIR || (*all).sent < bound.of_all / 2;
        if (*own).sent >= bound.at_a_place || (*all).sent >= bound.of_all || !is_fair {
            (*own).suppressed += 1;
            return None;
        }
        (*own).sent += 1;
        (*all).sent += 1;
        let suppressed = (*own).suppressed;
        (*own).suppressed = 0;
        Some(Admitted { place, suppressed: suppressed as u32 })
    }
}

/// Sends the exception, and what it was raised from. It is followed from here on.
#[inline(always)]
fn send_chain(
    target: &Target,
    here: TracebackKey,
    raised: &Raised,
    frame: u64,
    admitted: Admitted,
    continues: u64,
) -> Option<()> {
    let layout = &target.exceptions;
    let who = who(target);
    let who = Scope {
        context: forgotten(who.context),
        task: forgotten(who.task),
        flags: forgotten(u64::from(who.flags)) as u32,
        padding: 0,
    };
    let mut one = *raised;
    let mut related = if continues == 0 { relation::NONE } else { relation::CONTINUES };
    let mut other = continues;
    for level in 0..MAX_CHAIN {
        let Some(mut entry) = emit::reserve::<Exception>() else {
            if level == 0 {
                forget(here);
            }
            return None;
        };
        let record = entry.as_mut_ptr();
        let id = next_id();
        // SAFETY: the record is this program's own until it is submitted; every field that is read is written.
        unsafe {
            (*record).header = header(kind::EXCEPTION, size_of::<Exception>());
            (*record).scope = who;
            (*record).id = id;
            (*record).other = other;
            (*record).class = one.class;
            (*record).suppressed = if level == 0 { admitted.suppressed } else { 0 };
            (*record).place = if level == 0 { admitted.place } else { 0 };
            (*record).relation = related;
            (*record).padding = 0;
            (*record).frames = 0;
        }
        let made = class_and_values(layout, &mut one, record);
        if level == 0 {
            push(record, frame_at(target, frame, None));
            let passing = Passing { id, class: one.class, value: one.value, is_made: made };
            let _full_means_not_followed = PASSING.insert(here, passing, 0);
        }
        tracebacks(target, one.traceback, record);
        let (next, how) = if made == 0 { (0, 0) } else { raised_from(layout, one.value) };
        if next != 0 && level + 1 == MAX_CHAIN {
            // SAFETY: as above.
            unsafe { (*record).header.flags |= flag::CHAIN_CUT };
        }
        emit::submit(entry);
        if next == 0 {
            return None;
        }
        related = how;
        other = id;
        one = Raised {
            class: user_or_zero(next + OB_TYPE),
            value: next,
            traceback: user_or_zero(next + u64::from(layout.traceback)),
        };
    }
    None
}

/// Who runs on this thread, where one thread serves many.
#[inline(always)]
fn who(target: &Target) -> Scope {
    let flags = target.contexts.always & pyapm_wire::scope::flag::HANDS_ON;
    let nobody = Scope { context: 0, task: 0, flags, padding: 0 };
    if target.contexts.on == 0 {
        return nobody;
    }
    match thread_scratch(bpf_get_current_pid_tgid()) {
        // SAFETY: the scratch is this thread's own entry.
        Some(scratch) => scope::take(target, unsafe { &raw mut (*scratch).stack }, || statement_frames()),
        None => {
            emit::add(count::SCRATCH_FULL, 1);
            nobody
        }
    }
}

/// What Python prints before an exception: its cause, or else its context unless that is suppressed.
#[inline(always)]
fn raised_from(layout: &ExceptionLayout, exception: u64) -> (u64, u16) {
    let cause = user_or_zero::<u64>(exception + u64::from(layout.cause));
    if cause != 0 {
        return (cause, relation::CAUSE_OF);
    }
    if user_or_zero::<u8>(exception + u64::from(layout.suppress_context_u8)) != 0 {
        return (0, relation::NONE);
    }
    (user_or_zero(exception + u64::from(layout.context)), relation::CONTEXT_OF)
}

/// Fills in the class and the values. 1 when the exception object exists, 0 when only its arguments do.
#[inline(always)]
fn class_and_values(layout: &ExceptionLayout, one: &mut Raised, record: *mut Exception) -> u64 {
    let class = user_or_zero::<u64>(one.value + OB_TYPE);
    let flags = if one.value == 0 { 0 } else { user_or_zero::<u64>(class + TP_FLAGS) };
    let made = flags & EXCEPTION != 0;
    if made {
        one.class = class;
    }
    let arguments = if made {
        user_or_zero::<u64>(one.value + u64::from(layout.args))
    } else if flags & TUPLE != 0 {
        one.value
    } else {
        0
    };
    let (mut count, mut first, mut second, mut third) = (0, 0, 0, 0);
    if arguments != 0 {
        count = user_or_zero::<u64>(arguments + OB_SIZE);
        let items = arguments + u64::from(layout.tuple_items);
        first = if count >= 1 { user_or_zero(items) } else { 0 };
        second = if count >= 2 { user_or_zero(items + 8) } else { 0 };
    } else if flags & UNICODE != 0 {
        count = 1;
        first = one.value;
    } else if !made && one.value != 0 {
        // `None` means no arguments; userspace knows it by its class.
        count = 1;
        first = one.value;
    }
    if made && count == 2 {
        third = user_or_zero(one.value + u64::from(layout.os_filename));
    }
    let name = user_or_zero::<u64>(one.class + TP_NAME);
    // SAFETY: the record is this program's own.
    unsafe {
        (*record).class = one.class;
        (*record).arguments = count as u32;
        (*record).class_name[0] = 0;
        let into = (&raw mut (*record).class_name).cast();
        let _zero_length_when_unreadable = bpf_probe_read_user_str(into, MAX_NAME as u32, name as *const _);
        copy_value(layout, first, &raw mut (*record).values[0]);
        copy_value(layout, second, &raw mut (*record).values[1]);
        // Only an `OSError` has a file's name there; others may end before it, so userspace decides.
        copy_value(layout, third, &raw mut (*record).values[2]);
    }
    u64::from(made)
}

/// # Safety
/// `into` is valid for writes.
#[inline(always)]
unsafe fn copy_value(layout: &ExceptionLayout, object: u64, into: *mut Value) {
    // SAFETY: promised by the caller, here and below.
    unsafe {
        (*into).class = 0;
        (*into).length = 0;
        (*into).kind = value::NONE;
        (*into).width = 0;
        (*into).captured = 0;
    }
    if object == 0 {
        return;
    }
    let class = user_or_zero::<u64>(object + OB_TYPE);
    let flags = user_or_zero::<u64>(class + TP_FLAGS);
    let (mut kind, mut width, mut length) = (value::OTHER, 0, 0);
    let (mut from, mut bytes) = (0, 0);
    if flags & UNICODE != 0 {
        length = user_or_zero::<u64>(object + TEXT_LENGTH);
        let state = user_or_zero::<u32>(object + TEXT_STATE);
        // Bit fields `interned:2, kind:3, compact:1, ascii:1` (`Include/cpython/unicodeobject.h`).
        width = u64::from(state >> 2 & 7);
        from = if state & 0x20 == 0 {
            user_or_zero(object + u64::from(layout.compact_head))
        } else if state & 0x40 != 0 {
            object + u64::from(layout.ascii_head)
        } else {
            object + u64::from(layout.compact_head)
        };
        bytes = if length > MAX_TEXT as u64 { MAX_TEXT as u64 } else { length * width };
        kind = value::TEXT;
    } else if flags & LONG != 0 {
        from = object + OB_SIZE;
        bytes = 24;
        kind = value::INT;
    }
    let mut bytes = opaque(bytes);
    if bytes > MAX_TEXT as u64 {
        bytes = MAX_TEXT as u64;
    }
    // SAFETY: as above; `bytes` is at most the size of the field.
    unsafe {
        if bytes != 0 && !copy_user((&raw mut (*into).bytes).cast(), bytes as u32, from) {
            kind = value::UNREADABLE;
        }
        (*into).class = class;
        (*into).length = length;
        (*into).kind = kind;
        (*into).width = width as u16;
        (*into).captured = bytes as u32;
    }
}

/// Appends the frames of a traceback, outermost first.
#[inline(always)]
fn tracebacks(target: &Target, first: u64, record: *mut Exception) {
    let mut cursor = first;
    for _ in 0..MAX_FRAMES {
        if cursor == 0 {
            return;
        }
        let traceback = user_or_zero::<Traceback>(cursor + TB_NEXT);
        push(record, frame_at(target, traceback.frame, Some(traceback.last_instruction)));
        cursor = traceback.next;
    }
    if cursor != 0 {
        // SAFETY: the record is this program's own.
        unsafe { (*record).header.flags |= flag::FRAMES_CUT };
    }
}

#[inline(always)]
fn push(record: *mut Exception, frame: Frame) {
    // SAFETY: the record is this program's own, here and below.
    let index = opaque(u64::from(unsafe { (*record).frames }));
    if frame.code == 0 {
        unsafe { (*record).header.flags |= flag::FRAMES_UNREADABLE };
    }
    if index < MAX_FRAMES as u64 {
        // SAFETY: `index` is below the length of `stack`.
        unsafe {
            (&raw mut (*record).stack).cast::<Frame>().add(index as usize).write(frame);
            (*record).frames = index as u32 + 1;
        }
    } else {
        unsafe { (*record).header.flags |= flag::FRAMES_CUT };
    }
}

/// The interpreter's frame of a frame object.
#[inline(always)]
pub(crate) fn interpreter_frame(target: &Target, object: u64) -> u64 {
    match target.exceptions.frame_object_frame {
        ABSENT => object,
        offset => user_or_zero(object + u64::from(offset)),
    }
}

#[inline(always)]
pub(crate) fn code_of(target: &Target, object: u64) -> u64 {
    let frame = interpreter_frame(target, object);
    user_or_zero::<u64>(frame + u64::from(target.layout.frame_code)) & !u64::from(target.layout.tag_mask)
}

/// What a frame object runs, and where: `instruction`, or else where it is now. A code of 0 when it cannot be read.
#[inline(always)]
fn frame_at(target: &Target, object: u64, instruction: Option<i32>) -> Frame {
    let layout = &target.layout;
    let frame = interpreter_frame(target, object);
    let code = user_or_zero::<u64>(frame + u64::from(layout.frame_code)) & !u64::from(layout.tag_mask);
    let instruction = match instruction {
        Some(instruction) => instruction,
        None if layout.code_bytecode == ABSENT => {
            let last = user_or_zero::<u32>(frame + u64::from(layout.frame_instruction));
            last.wrapping_mul(layout.instruction_scale) as i32
        }
        None => {
            let at = user_or_zero::<u64>(frame + u64::from(layout.frame_instruction));
            at.wrapping_sub(code + u64::from(layout.code_bytecode)) as i32
        }
    };
    Frame { code, instruction, identity: identity_of(code) }
}

/// 1 when the exception object exists: up to 3.11 it may be made only when somebody catches it.
#[inline(always)]
fn is_made(raised: &Raised) -> u64 {
    u64::from(raised.value != 0 && user_or_zero::<u64>(raised.value + OB_TYPE) == raised.class)
}

/// The same value, of which the verifier knows nothing any more: what a function that is global to it gives out is any
/// number. Where paths meet that differ in nothing else, it goes on with one of them alone; kernels of 5.10 tell numbers
/// apart by all that is known of them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn forgotten(value: u64) -> u64 {
    opaque(value)
}

/// What is raised, with the traceback that it had before it reached the frame; and the frame object.
#[inline(always)]
fn raised(context: &ProbeContext, target: &Target) -> Option<(Raised, u64)> {
    let layout = &target.exceptions;
    if layout.is_restored != 0 {
        return restored(target);
    }
    let registers = Registers::of(context);
    let frame = registers.value(layout.frame_register);
    if layout.traceback_register != ABSENT {
        let value = registers.value(layout.exception_register);
        let traceback = registers.value(layout.traceback_register);
        if traceback == 0 || user::<u64>(value.wrapping_add(u64::from(layout.traceback))) != Some(traceback) {
            emit::add(count::EXCEPTION_UNVERIFIED, 1);
            return None;
        }
        let frame =
            if layout.frame_in_traceback == 0 { frame } else { user::<u64>(frame + TB_NEXT + TB_FRAME)? };
        return Some((Raised { class: user_or_zero(value + OB_TYPE), value, traceback }, frame));
    }
    if layout.exception_register != ABSENT {
        return Some((whole(layout, registers.value(layout.exception_register))?, frame));
    }
    let at = thread_state(&target.layout).ok()? + u64::from(layout.tstate_exception);
    if layout.in_three == 0 {
        return Some((whole(layout, user::<u64>(at)?)?, frame));
    }
    let [class, value, traceback] = user::<[u64; 3]>(at.wrapping_sub(8))?;
    Some((Raised { class, value, traceback }, frame))
}

/// The same where the frame has been put into the traceback already (up to 3.11).
#[inline(always)]
fn restored(target: &Target) -> Option<(Raised, u64)> {
    let at = thread_state(&target.layout).ok()? + u64::from(target.exceptions.tstate_exception);
    let [class, value, traceback] = user::<[u64; 3]>(at.wrapping_sub(8))?;
    let head = user::<Traceback>(traceback + TB_NEXT).filter(|head| head.next != 0);
    let Some(head) = head else {
        emit::add(count::EXCEPTION_UNVERIFIED, 1);
        return None;
    };
    Some((Raised { class, value, traceback: head.next }, head.frame))
}

/// From 3.12 on: everything is in the exception.
#[inline(always)]
fn whole(layout: &ExceptionLayout, value: u64) -> Option<Raised> {
    if value == 0 {
        return None;
    }
    let traceback = user::<u64>(value + u64::from(layout.traceback))?;
    // Most have just been raised, and nobody asks for their class.
    let class = if traceback == 0 { 0 } else { user_or_zero(value + OB_TYPE) };
    Some(Raised { class, value, traceback })
}

/// The registers at the probe, by the numbers that x86 gives them.
struct Registers([u64; register::COUNT]);

impl Registers {
    #[inline(always)]
    fn of(context: &ProbeContext) -> Self {
        let regs: *const pt_regs = context.regs;
        // SAFETY: the kernel hands every uprobe program the registers; each is read at a constant offset.
        unsafe {
            Self([
                (*regs).rax,
                (*regs).rcx,
                (*regs).rdx,
                (*regs).rbx,
                (*regs).rsp,
                (*regs).rbp,
                (*regs).rsi,
                (*regs).rdi,
                (*regs).r8,
                (*regs).r9,
                (*regs).r10,
                (*regs).r11,
                (*regs).r12,
                (*regs).r13,
                (*regs).r14,
                (*regs).r15,
            ])
        }
    }

    #[inline(always)]
    fn value(&self, number: u32) -> u64 {
        let index = opaque(u64::from(number)) & (register::COUNT as u64 - 1);
        // SAFETY: `index` is below the number of registers.
        unsafe { core::ptr::read_volatile((&raw const self.0).cast::<u64>().add(index as usize)) }
    }
}
