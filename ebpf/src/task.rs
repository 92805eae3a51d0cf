//! Tasks of a worker that is handed them through no pipe (Celery's `threads` and `solo` pools): breakpoints on the bytecode
//! of the function that runs each task (`trace_task`, Celery `app/trace.py`), at the first instruction of its body and
//! at its last statement. The processor stops on the interpreter's read of that byte, on the thread that runs the task, so
//! that all that is told lies in the frame that this thread is in.
//!
//! A hit is believed if the innermost frame runs that code object: what else reads those bytes (an interpreter that
//! prepares the code, another program at this address) runs in another frame or before the frame's variables are set.
//! A beginning that the kernel left out is told at the end. A task that an exception leaves is told by the probe of exceptions.

use crate::connection::next_id;
use crate::emit;
use crate::exceptions::{code_of, interpreter_frame};
use crate::lifecycle::header;
use crate::maps::{TARGETS, TASK_OPEN, TASK_SCRATCH, TASK_SITES, TaskScratch};
use crate::memory::{copy_user, opaque, user, user_or_zero};
use crate::objects::{OB_SIZE, OB_TYPE, TEXT_LENGTH, TEXT_STATE, TP_FLAGS, TP_NAME};
use crate::stack::{first_frame, thread_state};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_perf_event_data;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use pyapm_wire::count;
use pyapm_wire::event::kind;
use pyapm_wire::python::ABSENT;
use pyapm_wire::target::Target;
use pyapm_wire::task::{CLASS, LATE, NOT_KNOWN, STATE, TEXT, TaskBegun, TaskDone, TaskLeft, TaskSites, text};

/// The first digit of an int, behind its size: x86-64, 3.8 to 3.15 with the GIL.
const DIGIT: u64 = 24;
/// The number of a float: x86-64, 3.8 to 3.15 with the GIL.
const FLOAT: u64 = 16;
/// `Py_TPFLAGS_DICT_SUBCLASS`.
const DICT: u64 = 1 << 29;
/// `compact` and `ascii` of `PyASCIIObject.state`.
const PLAIN_TEXT: u32 = 3 << 5;
/// `PyDictObject.ma_keys`; `ma_values` follows, and is 0 where the values lie with the keys.
const MA_KEYS: u64 = 32;
/// Entries of a dict that are looked at. Celery's headers are about 30.
const MOST_ENTRIES: u64 = 64;

/// Places of headers in [`TaskScratch::found`].
const NAME: usize = 0;
const RETRIES: usize = 1;
const DELIVERY: usize = 2;
const TRACEPARENT: usize = 3;
const EAGER: usize = 4;
const ROUTING_KEY: usize = 5;
const OTHER: usize = 6;

#[perf_event]
fn task_site(context: PerfEventContext) -> i32 {
    let _nothing_to_tell = hit(&context);
    0
}

#[inline(always)]
fn hit(context: &PerfEventContext) -> Option<()> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace, here and below.
    let (target, sites) = unsafe { (TARGETS.get(tgid)?, TASK_SITES.get(tgid)?) };
    // SAFETY: this is what the kernel hands to programs of this type (`include/uapi/linux/bpf_perf_event.h`).
    let address = unsafe { (*context.as_ptr().cast::<bpf_perf_event_data>()).addr };
    let tag_mask = !u64::from(target.layout.tag_mask);
    let tstate = thread_state(&target.layout).ok()?;
    let frame = first_frame(&target.layout, tstate)? & tag_mask;
    let code = user::<u64>(frame + u64::from(target.layout.frame_code))? & tag_mask;
    if code != sites.code {
        return None;
    }
    let info = if address == sites.begin { 0 } else { variable(target, frame, sites.info) };
    let is_end = address != sites.begin;
    if is_end && info == 0 {
        // The function's first statement has not run: it is not the interpreter that runs it which reads here.
        return None;
    }
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: only this thread writes its entry.
    let is_told = is_end && unsafe { TASK_OPEN.get(thread) }.copied() == Some(frame);
    if !is_told {
        begun(target, sites, frame, is_end)?;
    }
    if is_end {
        let _gone_is_fine = TASK_OPEN.remove(thread);
        done(target, sites, frame, info);
    }
    Some(())
}

/// An exception has left the frame of this frame object, and another one hears of it. If that ran a task, the task is over.
///
/// A function that is global to the verifier: it is walked through once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn task_left(left: u64) -> u64 {
    match left_by(left) {
        Some(()) => 1,
        None => 0,
    }
}

#[inline(always)]
fn left_by(left: u64) -> Option<()> {
    let thread = bpf_get_current_pid_tgid();
    let tgid = (thread >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let (sites, target) = unsafe { (TASK_SITES.get(tgid)?, TARGETS.get(tgid)?) };
    if code_of(target, left) != sites.code {
        return None;
    }
    let id = variable(target, interpreter_frame(target, left), sites.id);
    let mut entry = emit::reserve::<TaskLeft>()?;
    let record = entry.as_mut_ptr();
    // SAFETY: the record is this program's own until it is submitted, and its `id` has room for `TEXT` bytes.
    unsafe {
        (*record).header = header(kind::TASK_LEFT, size_of::<TaskLeft>());
        (*record).padding = 0;
        (*record).length = copy_text::<TEXT>(sites, id, (&raw mut (*record).id).cast());
    }
    emit::submit(entry);
    let _gone_is_fine = TASK_OPEN.remove(thread);
    Some(())
}

/// A variable of the frame; 0 where it is not set.
#[inline(always)]
fn variable(target: &Target, frame: u64, offset: u32) -> u64 {
    user_or_zero::<u64>(frame + u64::from(offset)) & !u64::from(target.layout.tag_mask)
}

#[inline(always)]
fn begun(target: &Target, sites: &TaskSites, frame: u64, is_late: bool) -> Option<()> {
    // Before anything else: the task begins now.
    let mut header = header(kind::TASK_BEGUN, size_of::<TaskBegun>());
    let started = if is_late {
        header.flags |= LATE;
        started(target, sites, frame)
    } else {
        0
    };
    let id = variable(target, frame, sites.id);
    let headers = variable(target, frame, sites.headers);
    let scratch = TASK_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: `scratch` is this CPU's, here and below.
    unsafe { (*scratch).found = [0; 8] };
    task_headers(headers);
    // SAFETY: as above.
    task_headers(unsafe { (*scratch).found[DELIVERY] });
    // SAFETY: as above.
    unsafe {
        let found = &(*scratch).found;
        if number(sites, found[EAGER], false) == 1 {
            // Its caller runs it by itself: it is a part of what the caller does.
            return None;
        }
        (*scratch).record.header = header;
        (*scratch).record.task = next_id();
        (*scratch).record.frame = frame;
        (*scratch).record.retries = number(sites, found[RETRIES], true);
        (*scratch).record.padding = 0;
        (*scratch).record.started = started;
        let _full_means_told_again = TASK_OPEN.insert(bpf_get_current_pid_tgid(), frame, 0);
        let (name, key, trace) = (found[NAME], found[ROUTING_KEY], found[TRACEPARENT]);
        tell(sites, scratch, text::ID, id);
        tell(sites, scratch, text::NAME, name);
        tell(sites, scratch, text::ROUTING_KEY, key);
        tell(sites, scratch, text::TRACEPARENT, trace);
        if (*scratch).record.lengths[text::ID] == 0 || (*scratch).record.lengths[text::NAME] == 0 {
            emit::add(count::TASKS_UNREADABLE, 1);
            return None;
        }
        emit::output((&raw const (*scratch).record).cast(), size_of::<TaskBegun>() as u64);
    }
    Some(())
}

/// The bits of the float that says when the task began; 0 where it is none.
#[inline(always)]
fn started(target: &Target, sites: &TaskSites, frame: u64) -> u64 {
    let object = if sites.started == ABSENT { 0 } else { variable(target, frame, sites.started) };
    let name =
        if object == 0 { 0 } else { user_or_zero::<u64>(user_or_zero::<u64>(object + OB_TYPE) + TP_NAME) };
    // A string ends in a zero.
    let is_float = name != 0 && user::<[u8; 6]>(name) == Some(*b"float\0");
    if is_float { user_or_zero(object + FLOAT) } else { 0 }
}

/// Copies a text to its place in the record.
#[inline(always)]
fn tell(sites: &TaskSites, scratch: *mut TaskScratch, place: usize, object: u64) {
    // SAFETY: `scratch` is valid, and `place` is one of the four.
    unsafe {
        let to = (&raw mut (*scratch).record.texts[place]).cast::<u8>();
        let length = copy_text::<TEXT>(sites, object, to);
        (*scratch).record.lengths[place] = length;
    }
}

/// Copies a string of ASCII characters that has fewer than `ROOM`, a power of two; its length, or 0.
///
/// # Safety
/// `to` is valid for writes of `ROOM` bytes.
#[inline(always)]
unsafe fn copy_text<const ROOM: usize>(sites: &TaskSites, object: u64, to: *mut u8) -> u32 {
    if object == 0 || user::<u64>(object + OB_TYPE) != Some(sites.str_type) {
        return 0;
    }
    if user_or_zero::<u32>(object + TEXT_STATE) & PLAIN_TEXT != PLAIN_TEXT {
        return 0;
    }
    let length = user_or_zero::<u64>(object + TEXT_LENGTH);
    if length >= ROOM as u64 {
        return 0;
    }
    let length = (opaque(length) & (ROOM as u64 - 1)) as u32;
    // SAFETY: `length` is below `ROOM`.
    if unsafe { copy_user(to, length, object + u64::from(sites.text_data)) } { length } else { 0 }
}

/// A small int that is not negative; [`NOT_KNOWN`] for anything else. `exact`: and no bool.
#[inline(always)]
fn number(sites: &TaskSites, object: u64, exact: bool) -> u32 {
    if object == 0 || (exact && user::<u64>(object + OB_TYPE) != Some(sites.int_type)) {
        return NOT_KNOWN;
    }
    let Some(size) = user::<u64>(object + OB_SIZE) else { return NOT_KNOWN };
    // From 3.12 on: the number of digits above three bits, of which the lower two are 0 above zero and 1 for it.
    let digits = match sites.int_tag {
        0 => size,
        _ if size & 3 == 1 => 0,
        _ if size & 3 == 0 => size >> 3,
        _ => u64::MAX,
    };
    match digits {
        0 => 0,
        1 => user::<u32>(object + DIGIT).unwrap_or(NOT_KNOWN),
        _ => NOT_KNOWN,
    }
}

/// Looks through a dict for the headers that matter, and leaves their values in the scratch.
///
/// A function that is global to the verifier, so that it walks through its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn task_headers(dict: u64) -> u64 {
    match look_through(dict) {
        Some(()) => 1,
        None => 0,
    }
}

#[inline(always)]
fn look_through(dict: u64) -> Option<()> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are written whole by userspace.
    let sites = unsafe { TASK_SITES.get(tgid) }?;
    let scratch = TASK_SCRATCH.get_ptr_mut(0)?;
    if dict == 0 {
        return None;
    }
    let class = user::<u64>(dict + OB_TYPE)?;
    if user::<u64>(class + TP_FLAGS)? & DICT == 0 {
        return None;
    }
    let [keys, values] = user::<[u64; 2]>(dict + MA_KEYS)?;
    if values != 0 {
        return None;
    }
    // `dk_log2_index_bytes` 9, `dk_kind` 10 (0: with hashes), `dk_nentries` 24, `dk_indices` 32; up to 3.10 `dk_size` 8,
    // `dk_nentries` 32, `dk_indices` 40, of one byte up to 255 of them (CPython `pycore_dict.h`, `Objects/dict-common.h`).
    let (entries, count, hashes) = if sites.compact_keys != 0 {
        let [log2, form] = user::<[u8; 2]>(keys + 9)?;
        (keys + 32 + (1_u64 << (log2 & 31)), user::<u64>(keys + 24)?, form == 0)
    } else {
        let size = user::<u64>(keys + 8)?;
        (keys + 40 + if size > 0xff { size << 1 } else { size }, user::<u64>(keys + 32)?, true)
    };
    let stride = if hashes { 24 } else { 16 };
    let first = entries + if hashes { 8 } else { 0 };
    for index in 0..MOST_ENTRIES {
        if index >= count {
            break;
        }
        let [key, value] = user::<[u64; 2]>(first + index * stride)?;
        if key == 0 || value == 0 {
            continue;
        }
        let length = user_or_zero::<u64>(key + TEXT_LENGTH);
        let data = key + u64::from(sites.text_data);
        let head = user_or_zero::<u64>(data);
        let tail = user_or_zero::<u64>(data.wrapping_add(length).wrapping_sub(8));
        let place = which(length, head, tail);
        if place != OTHER {
            // SAFETY: `scratch` is this CPU's, and `place` is inside.
            unsafe { (*scratch).found[(opaque(place as u64) & 7) as usize] = value };
        }
    }
    Some(())
}

/// Which header a key of this length is, with these eight bytes at its beginning and its end; [`OTHER`] for any other.
#[inline(always)]
fn which(length: u64, head: u64, tail: u64) -> usize {
    const fn word(bytes: &[u8; 8]) -> u64 {
        u64::from_le_bytes(*bytes)
    }
    match length {
        4 if head & 0xffff_ffff == word(b"task\0\0\0\0") => NAME,
        // A string ends in a zero.
        7 if head == word(b"retries\0") => RETRIES,
        8 if head == word(b"is_eager") => EAGER,
        11 if head == word(b"tracepar") && tail == word(b"ceparent") => TRACEPARENT,
        11 if head == word(b"routing_") && tail == word(b"ting_key") => ROUTING_KEY,
        13 if head == word(b"delivery") && tail == word(b"ery_info") => DELIVERY,
        _ => OTHER,
    }
}

#[inline(always)]
fn done(target: &Target, sites: &TaskSites, frame: u64, info: u64) {
    let mut record = TaskDone {
        header: header(kind::TASK_DONE, size_of::<TaskDone>()),
        frame,
        length: 0,
        padding: 0,
        state: [0; STATE],
        class: [0; CLASS],
    };
    let failed = user::<u64>(info + OB_TYPE) == Some(sites.info_type);
    let state = if failed {
        user_or_zero::<u64>(info + u64::from(sites.info_state))
    } else {
        variable(target, frame, sites.state)
    };
    // SAFETY: `state` has room for `STATE` bytes.
    record.length = unsafe { copy_text::<STATE>(sites, state, (&raw mut record.state).cast()) };
    let exception = user_or_zero::<u64>(info + u64::from(sites.info_exception));
    if failed
        && exception != 0
        && let Some(class) = user::<u64>(exception + OB_TYPE)
        && let Some(name) = user::<u64>(class + TP_NAME)
    {
        // SAFETY: `class` has room for `CLASS` bytes; what cannot be read is told as nothing.
        unsafe {
            let _told_as_nothing =
                bpf_probe_read_user_str((&raw mut record.class).cast(), CLASS as u32, name as *const _);
        }
    }
    emit::send(&record);
}
