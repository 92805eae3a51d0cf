//! SQLite: statements as they run, from uprobes on `sqlite3_step`, `sqlite3_prepare_v2` and `_v3`, `sqlite3_reset` and
//! `sqlite3_finalize` (SQLite `sqlite3.h`). There is no connection whose bytes would say it.
//!
//! A statement begins at its first step. Its text is read from the statement itself, at the offset that the library's
//! own `sqlite3_sql` has; userspace reads that offset from the function's code. It is over when a step returns anything
//! but a row, or when it is reset or finalized. A preparation is told only if it fails: then nothing is ever stepped.
//!
//! As for TLS there are no return probes: results are seen at an instruction behind the call at which the result is
//! still in its register. SQLite calls itself (to load a schema, to vacuum): only the outermost call of a thread is
//! followed, which the stack pointer tells.

use crate::drivers::{statement_frames, statement_steps, thread_scratch};
use crate::emit;
use crate::lifecycle::header;
use crate::maps::{
    SQLITE_CALLS, SQLITE_LAYOUTS, SQLITE_RUNNING, SqliteCall, SqliteKey, SqliteRun, StatementScratch, TARGETS,
};
use crate::memory::{opaque, user};
use crate::{met, scope};
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user_str};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use pyapm_wire::count;
use pyapm_wire::event::{
    NOT_KNOWN, STATEMENT_CAPTURE, SqliteLayout, Statement, StatementStep, kind, library, step,
};
use pyapm_wire::target::Target;

/// `SQLITE_OK` and `SQLITE_ROW` of `sqlite3.h`.
const OK: u32 = 0;
const ROW: u32 = 100;
/// `SQLITE_DONE`.
const DONE: u32 = 101;

/// `int sqlite3_step(sqlite3_stmt *)` begins.
#[uprobe]
fn sqlite_step(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((thread >> 32) as u32) }) else { return 0 };
    let Some(statement) = context.arg::<u64>(0) else { return 0 };
    let registers = registers(&context);
    let call = SqliteCall {
        handle: statement,
        stack_pointer: registers.rsp,
        since_ns: 0,
        text: 0,
        length: 0,
        probe: registers.rip,
    };
    if !begin_call(thread, call) {
        return 0;
    }
    let key = SqliteKey { tgid: thread >> 32, statement };
    if SQLITE_RUNNING.get_ptr(key).is_some() {
        return 0;
    }
    let mut run = SqliteRun { rows: 0, layout: layout_at(registers.rip), told: 0 };
    let text = if run.layout.text == NOT_KNOWN {
        0
    } else {
        user::<u64>(statement + u64::from(run.layout.text)).unwrap_or(0)
    };
    if text == 0 {
        emit::add(count::SQLITE_UNKNOWN, 1);
    } else {
        tell(thread, target, statement, 0, text, -1);
        run.told = 1;
    }
    if SQLITE_RUNNING.insert(key, run, 0).is_err() {
        emit::add(count::SQLITE_FULL, 1);
    }
    0
}

/// A step has returned. Behind other calls of the same code the register means something else, but then the thread is
/// in none.
#[uprobe]
fn sqlite_step_result(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let registers = registers(&context);
    let Some(call) = end_call(thread, registers.rsp, true) else { return 0 };
    let key = SqliteKey { tgid: thread >> 32, statement: call.handle };
    let Some(entry) = SQLITE_RUNNING.get_ptr_mut(key) else { return 0 };
    // SAFETY: map values stay valid while the program runs; a statement is stepped by one thread at a time.
    let run = unsafe { &mut *entry };
    let result = registers.rax as u32;
    if result == ROW {
        run.rows += 1;
        if run.rows == 1 && run.told != 0 {
            output(call.handle, run, step::ROW, result, -1);
        }
        return 0;
    }
    let told = *run;
    let _absent_is_fine = SQLITE_RUNNING.remove(key);
    if told.told == 0 {
        return 0;
    }
    let database = if told.layout.database == NOT_KNOWN {
        0
    } else {
        user::<u64>(call.handle + u64::from(told.layout.database)).unwrap_or(0)
    };
    if result == DONE {
        let changes = changes(&told.layout, database);
        output(call.handle, &told, step::OVER, result, changes);
    } else {
        let result = extended(&told.layout, database, result);
        output(call.handle, &told, step::OVER, result, -1);
    }
    0
}

/// `sqlite3_prepare_v2(sqlite3 *, const char *text, int length, ...)` begins, or one of its kin.
#[uprobe]
fn sqlite_prepare(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    if TARGETS.get_ptr((thread >> 32) as u32).is_none() {
        return 0;
    }
    let (Some(database), Some(text), Some(length)) =
        (context.arg::<u64>(0), context.arg::<u64>(1), context.arg::<u64>(2))
    else {
        return 0;
    };
    let registers = registers(&context);
    let call = SqliteCall {
        handle: database,
        stack_pointer: registers.rsp,
        // SAFETY: the helper has no preconditions.
        since_ns: unsafe { bpf_ktime_get_ns() },
        text,
        length: i64::from(length as i32),
        probe: registers.rip,
    };
    let _nested_is_fine = begin_call(thread, call);
    0
}

/// A preparation has returned: if it failed, that is all that comes of the statement.
#[uprobe]
fn sqlite_prepare_result(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: entries are written whole by userspace.
    let Some(target) = (unsafe { TARGETS.get((thread >> 32) as u32) }) else { return 0 };
    let registers = registers(&context);
    let Some(call) = end_call(thread, registers.rsp, false) else { return 0 };
    let result = registers.rax as u32;
    if result == OK || call.text == 0 {
        return 0;
    }
    let layout = layout_at(call.probe);
    let result = extended(&layout, call.handle, result);
    tell(thread, target, call.handle, call.since_ns, call.text, call.length);
    output(call.handle, &SqliteRun { rows: 0, layout, told: 1 }, step::OVER, result, -1);
    0
}

/// `sqlite3_reset(sqlite3_stmt *)` or `sqlite3_finalize(sqlite3_stmt *)`: if the statement was not over, it is now.
#[uprobe]
fn sqlite_left(context: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let tgid = thread >> 32;
    if TARGETS.get_ptr(tgid as u32).is_none() {
        return 0;
    }
    let Some(statement) = context.arg::<u64>(0) else { return 0 };
    if let Some(entry) = SQLITE_CALLS.get_ptr(thread) {
        // SAFETY: the entry is this thread's own.
        let call = unsafe { *entry };
        // The library resets a statement itself, inside its step, when the schema has changed since it was prepared.
        if call.handle != 0 && registers(&context).rsp < call.stack_pointer {
            return 0;
        }
    }
    let key = SqliteKey { tgid, statement };
    let Some(entry) = SQLITE_RUNNING.get_ptr(key) else { return 0 };
    // SAFETY: map values stay valid while the program runs.
    let run = unsafe { *entry };
    let _absent_is_fine = SQLITE_RUNNING.remove(key);
    if run.told != 0 {
        output(statement, &run, step::LEFT, 0, -1);
    }
    0
}

#[inline(always)]
fn registers(context: &ProbeContext) -> pt_regs {
    // SAFETY: the registers are valid while the program runs.
    unsafe { *context.regs }
}

/// Notes the call; `false` when it is one that the library makes itself, or cannot be followed.
#[inline(always)]
fn begin_call(thread: u64, call: SqliteCall) -> bool {
    if let Some(entry) = SQLITE_CALLS.get_ptr_mut(thread) {
        // SAFETY: the entry is this thread's own.
        unsafe {
            // What begins at the same height or above has left the one before, however that ended.
            if (*entry).handle != 0 && call.stack_pointer < (*entry).stack_pointer {
                return false;
            }
            *entry = call;
        }
        return true;
    }
    if SQLITE_CALLS.insert(thread, call, 0).is_err() {
        emit::add(count::SQLITE_FULL, 1);
        return false;
    }
    true
}

/// The thread's outermost call, if it is a step (or a preparation) and what has returned here.
#[inline(always)]
fn end_call(thread: u64, stack_pointer: u64, is_step: bool) -> Option<SqliteCall> {
    let entry = SQLITE_CALLS.get_ptr_mut(thread)?;
    // SAFETY: the entry is this thread's own.
    let call = unsafe { *entry };
    if call.handle == 0 || stack_pointer < call.stack_pointer || (call.since_ns == 0) != is_step {
        return None;
    }
    // SAFETY: as above.
    unsafe { (*entry).handle = 0 };
    Some(call)
}

#[inline(always)]
fn layout_at(probe: u64) -> SqliteLayout {
    // SAFETY: entries are written whole by userspace.
    match unsafe { SQLITE_LAYOUTS.get(probe) } {
        Some(layout) => *layout,
        None => SqliteLayout { text: NOT_KNOWN, database: NOT_KNOWN, code: NOT_KNOWN, changes: NOT_KNOWN },
    }
}

/// The extended code that belongs to a result, if the database has it: its low byte is the result.
#[inline(always)]
fn extended(layout: &SqliteLayout, database: u64, result: u32) -> u32 {
    if database == 0 || layout.code == NOT_KNOWN {
        return result;
    }
    match user::<u32>(database + u64::from(layout.code)) {
        Some(code) if code & 0xff == result & 0xff => code,
        _ => result,
    }
}

#[inline(always)]
fn changes(layout: &SqliteLayout, database: u64) -> i64 {
    if database == 0 || layout.changes == NOT_KNOWN {
        return -1;
    }
    // The low half: a number of this size since 3.37, of half of it before.
    user::<u32>(database + u64::from(layout.changes)).map_or(-1, i64::from)
}

#[inline(always)]
fn output(handle: u64, run: &SqliteRun, step: u32, result: u32, changes: i64) {
    let header = header(kind::STATEMENT_STEP, size_of::<StatementStep>());
    emit::send(&StatementStep { header, handle, rows: run.rows, changes, step, result });
}

/// Sends a statement's text and who runs it. `since_ns` is when it began, 0 for now; `length` the text's, -1 when
/// it ends with a zero.
#[inline(always)]
fn tell(thread: u64, target: &Target, handle: u64, since_ns: u64, text: u64, length: i64) {
    let Some(scratch) = thread_scratch(thread) else {
        emit::add(count::SCRATCH_FULL, 1);
        return;
    };
    let mut header = header(kind::STATEMENT, 0);
    if since_ns != 0 {
        header.time_ns = since_ns;
    }
    // SAFETY: `scratch` is this thread's own entry.
    let scope = scope::take(target, unsafe { &raw mut (*scratch).stack }, || statement_frames());
    // SAFETY: as above.
    let walked = met::take(target, unsafe { &raw mut (*scratch).stack }, || statement_steps());
    // SAFETY: as above; the helper writes at most the size of `text`, and ends it with a zero.
    let read = unsafe {
        bpf_probe_read_user_str((&raw mut (*scratch).text).cast(), STATEMENT_CAPTURE, text as *const _)
    };
    let whole = if read > 0 { read as u64 - 1 } else { 0 };
    let mut captured = whole;
    if length >= 0 && captured > length as u64 {
        captured = length as u64;
    }
    // One more than was captured says that there is more.
    let text_len = captured + u64::from(whole == u64::from(STATEMENT_CAPTURE) - 1);
    captured = opaque(captured);
    if captured > u64::from(STATEMENT_CAPTURE) {
        captured = u64::from(STATEMENT_CAPTURE);
    }
    if read <= 0 {
        emit::add(count::PAYLOAD_UNREADABLE, 1);
    }
    let total = size_of::<Statement>() as u64 + captured;
    header.len = total as u32;
    let scratch: *mut StatementScratch = scratch;
    // SAFETY: the text lies directly behind the record, and `captured` is at most its size.
    unsafe {
        (*scratch).record = Statement {
            header,
            stack: walked.stack,
            handle,
            text_len: text_len as u32,
            captured: captured as u32,
            library: library::SQLITE,
            stack_status: walked.status,
            padding: 0,
            scope,
        };
        emit::output((&raw const (*scratch).record).cast(), total);
    }
}
