//! Which greenlet runs on this thread, and which one makes a new one. The running one is read where the greenlet library
//! keeps it itself; making one is a uprobe at the start of the library's `tp_init`, which userspace finds through the class
//! of greenlets. No version of the library is known here, and nothing of requests.

use crate::emit;
use crate::lifecycle::header;
use crate::maps::TARGETS;
use crate::memory::user;
use crate::objects::OB_TYPE;
use crate::stack::{first_frame, fs_base, thread_state};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::kind;
use pyapm_wire::greenlet::{Greenlet, flag};
use pyapm_wire::python::ABSENT;
use pyapm_wire::target::Target;

/// What [`running_greenlet`] gives when none runs that is not the thread itself, or none is looked for.
pub(crate) const NONE: u64 = 0;
/// What it gives when it cannot be told. Greenlets are aligned: an odd address is none's.
const UNKNOWN: u64 = 1;
/// In the thread control block of glibc and musl on x86-64: the dynamic thread vector.
const VECTOR: u64 = 8;
/// What the vector has for a block that does not exist yet, beside 0: glibc `sysdeps/generic/dl-dtv.h`,
/// `TLS_DTV_UNALLOCATED`.
const UNALLOCATED: u64 = u64::MAX;
/// What the library has for what it keeps of a thread before a greenlet was used there: this, or 0 at the thread's end.
const NOT_MADE: u64 = 1;
/// Frames that are looked at for who makes a greenlet.
const MAKING_FRAMES: usize = 6;

/// The address of the running greenlet, or one of the two above. A function that is global to the verifier: its frame is
/// its own, it is walked through once, and what it gives is forgotten to come from one way or another.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn running_greenlet(entry: u64, state: u64, class: u64) -> u64 {
    if entry == u64::from(ABSENT) {
        return NONE;
    }
    let Some(found) = found(entry, state, class) else {
        emit::add(count::SCOPE_UNREADABLE, 1);
        return UNKNOWN;
    };
    found
}

/// `None` when it cannot be told.
#[inline(always)]
fn found(entry: u64, state: u64, class: u64) -> Option<u64> {
    let vector = user::<u64>(fs_base()? + VECTOR)?;
    let block = user::<u64>(vector.wrapping_add(entry))?;
    if block == 0 || block == UNALLOCATED {
        return Some(NONE);
    }
    let kept = user::<u64>(block.wrapping_add(state))?;
    if kept <= NOT_MADE {
        return Some(NONE);
    }
    let [first, running] = user::<[u64; 2]>(kept)?;
    // A vector that is shorter than the entry leads anywhere.
    if user::<u64>(first.wrapping_add(OB_TYPE))? != class {
        return None;
    }
    Some(if running == first { NONE } else { running })
}

/// The greenlet that runs on this thread, where it is not the thread itself: its address, or 0 when it cannot be told.
#[inline(always)]
pub(crate) fn running(target: &Target) -> Option<u64> {
    let greenlets = &target.contexts.greenlets;
    match running_greenlet(u64::from(greenlets.vector), u64::from(greenlets.state), greenlets.class) {
        NONE => None,
        running => Some(running & !UNKNOWN),
    }
}

#[uprobe]
fn greenlet_made(probe: ProbeContext) -> u32 {
    let _nothing_to_tell = made(&probe);
    0
}

#[inline(always)]
fn made(probe: &ProbeContext) -> Option<()> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let target = unsafe { TARGETS.get(tgid) }?;
    if target.contexts.on == 0 || target.contexts.greenlets.vector == ABSENT {
        return None;
    }
    let made = probe.arg::<u64>(0)?;
    let maker = running(target);
    let mut header = header(kind::GREENLET, size_of::<Greenlet>());
    if stands_for_thread(target) {
        header.flags = flag::THREAD;
    }
    emit::send(&Greenlet { header, greenlet: made, maker: maker.unwrap_or(0) });
    Some(())
}

/// Whether one of the innermost frames is of a function that starts threads. The innermost one is, where gevent is compiled;
/// where it is not, there are `Greenlet.__init__`, `Greenlet.spawn`, and what the interpreter puts between them, before it.
#[inline(always)]
fn stands_for_thread(target: &Target) -> bool {
    let layout = &target.layout;
    let codes = target.contexts.greenlets.thread_codes;
    if codes[0] == 0 {
        return false;
    }
    let tag_mask = !u64::from(layout.tag_mask);
    let Some(innermost) = thread_state(layout).ok().and_then(|tstate| first_frame(layout, tstate)) else {
        return false;
    };
    let mut frame = innermost & tag_mask;
    for _ in 0..MAKING_FRAMES {
        let code = user::<u64>(frame.wrapping_add(u64::from(layout.frame_code))).unwrap_or(0) & tag_mask;
        if code != 0 && (code == codes[0] || code == codes[1]) {
            return true;
        }
        frame = user::<u64>(frame.wrapping_add(u64::from(layout.frame_previous))).unwrap_or(0) & tag_mask;
        if frame == 0 {
            return false;
        }
    }
    false
}
