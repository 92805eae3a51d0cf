//! The Python stack of a thread that provably does not run, read from outside and without stopping it: for
//! a thread that waits, no timer fires and no probe hits, so nothing else tells where it is.
//!
//! Proof that the stack is not torn: the kernel's count of the thread's context switches is read, then the
//! thread is seen off the CPU, then the stack is read, then the thread is seen off the CPU again, then the
//! count is read again. Had it run in between, it would have been switched away once more before the second
//! look, and the count would differ.

use super::memory::Memory;
use super::offsets::ObjectOffsets;
use super::route::Route;
use super::runtime::Interpreter;
use super::stack::{Chain, read_chain, read_stack};
use super::threads::{GLIBC_TID, ThreadState, thread_states};
use pyapm_wire::python::{Frame, route};

/// Threads of a process whose identity is looked at.
const MAX_STATUS: u64 = 64 * 1024;

/// The frames of thread `tid` of process `pid` (both in the initial pid namespace), innermost first; of a
/// deeper stack the innermost `MAX_FRAMES`, as the kernel half has them.
///
/// `None` when the thread ran meanwhile, is not asleep, or has no Python frame that could be read. Up to
/// 3.10 a thread is recognised by what glibc keeps of it; with another C library only in a process that has
/// one thread.
#[must_use]
pub fn parked_stack(
    pid: u32,
    tid: u32,
    interpreter: &Interpreter,
    memory: &dyn Memory,
) -> Option<Vec<Frame>> {
    let frames = while_parked(pid, tid, |inner_tid| stack_of(pid, inner_tid, interpreter, memory))?;
    frames.filter(|frames| !frames.is_empty())
}

/// Reads something of a thread; `None` unless the thread provably did not run meanwhile. What is read is
/// handed the tid that the thread has in its own pid namespace.
pub fn while_parked<T>(pid: u32, tid: u32, read: impl FnOnce(u64) -> T) -> Option<T> {
    let before = Status::read(pid, tid)?;
    if !before.asleep || !off_cpu(pid, tid) {
        return None;
    }
    let result = read(before.inner_tid);
    if !off_cpu(pid, tid) || Status::read(pid, tid)? != before {
        return None;
    }
    Some(result)
}

/// The stack of a thread whose thread state was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackOfThread {
    /// Address of the thread state that the stack is of.
    pub tstate: u64,
    pub chain: Chain,
}

/// The stack of the thread that `thread` was seen to be the state of; whole, of up to
/// [`Chain::MAX_KEPT`] frames. Right only while that thread does not run. `None` when its thread state is
/// no longer there, or cannot be read.
#[must_use]
pub fn stack_of_thread(
    interpreter: &Interpreter,
    memory: &dyn Memory,
    thread: &ThreadState,
) -> Option<StackOfThread> {
    let offsets = &interpreter.offsets;
    let tstate = current_state(interpreter, memory, thread)?;
    if !is_state_of(offsets, memory, tstate, thread.thread_id) {
        return None;
    }
    let chain = read_chain(memory, offsets, tstate).ok()?;
    Some(StackOfThread { tstate, chain })
}

fn is_state_of(offsets: &ObjectOffsets, memory: &dyn Memory, tstate: u64, thread_id: u64) -> bool {
    memory.read_u64(tstate.wrapping_add(u64::from(offsets.tstate_thread_id))) == Ok(thread_id)
}

/// A thread may have states in several interpreters: the one that the kernel half would find.
fn current_state(interpreter: &Interpreter, memory: &dyn Memory, thread: &ThreadState) -> Option<u64> {
    let layout = &interpreter.layout;
    if layout.route == route::NONE {
        return Some(thread.address);
    }
    let route = Route { kind: layout.route, first: layout.first, second: layout.second };
    route.follow(memory, thread.thread_id).ok().filter(|address| *address != 0)
}

fn stack_of(pid: u32, tid: u64, interpreter: &Interpreter, memory: &dyn Memory) -> Option<Vec<Frame>> {
    let offsets = &interpreter.offsets;
    let threads = thread_states(memory, offsets, interpreter.runtime_address).ok()?;
    let thread = find(memory, &threads, tid).or_else(|| only_thread(pid, &threads))?;
    let tstate = current_state(interpreter, memory, &thread)?;
    read_stack(memory, offsets, tstate).ok()
}

/// By `native_thread_id` (3.11 on), else by the tid that glibc keeps behind the thread's fs base.
fn find(memory: &dyn Memory, threads: &[ThreadState], tid: u64) -> Option<ThreadState> {
    threads
        .iter()
        .find(|thread| thread.native_thread_id == Some(tid))
        .or_else(|| {
            threads.iter().find(|thread| {
                memory.read_u32(thread.thread_id.wrapping_add(GLIBC_TID)).map(u64::from) == Ok(tid)
            })
        })
        .copied()
}

fn only_thread(pid: u32, threads: &[ThreadState]) -> Option<ThreadState> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.take(2).count();
    match threads {
        [only] if tasks == 1 => Some(*only),
        _ => None,
    }
}

/// What `/proc/PID/task/TID/status` says (`proc(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    asleep: bool,
    /// Voluntary and involuntary.
    switches: (u64, u64),
    /// The tid in the thread's own pid namespace.
    inner_tid: u64,
}

impl Status {
    fn read(pid: u32, tid: u32) -> Option<Self> {
        use std::io::Read as _;
        let file = std::fs::File::open(format!("/proc/{pid}/task/{tid}/status")).ok()?;
        let mut text = Vec::new();
        file.take(MAX_STATUS).read_to_end(&mut text).ok()?;
        Self::parse(&String::from_utf8_lossy(&text), u64::from(tid))
    }

    fn parse(text: &str, tid: u64) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        Some(Self {
            // A thread that is stopped (T), or traced (t), does not run either.
            asleep: matches!(value("State")?.chars().next()?, 'S' | 'D' | 'T' | 't'),
            switches: (
                value("voluntary_ctxt_switches")?.parse().ok()?,
                value("nonvoluntary_ctxt_switches")?.parse().ok()?,
            ),
            // Kernels without pid namespaces do not have the line.
            inner_tid: match value("NSpid") {
                Some(ids) => ids.split_ascii_whitespace().next_back()?.parse().ok()?,
                None => tid,
            },
        })
    }
}

/// `/proc/PID/task/TID/syscall` says `running` unless the kernel has seen the thread off the CPU. A kernel
/// that does not have the file leaves the sleeping state as the only evidence; the count still holds.
fn off_cpu(pid: u32, tid: u32) -> bool {
    match std::fs::read(format!("/proc/{pid}/task/{tid}/syscall")) {
        Ok(text) => !text.starts_with(b"running"),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let text = "Name:\tpython3\nState:\tS (sleeping)\nNSpid:\t4242\t17\n\
                    voluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t4\n";
        let status = Status::parse(text, 4242).unwrap();
        assert_eq!(status, Status { asleep: true, switches: (31, 4), inner_tid: 17 });
        assert!(!Status::parse(&text.replace("S (", "R ("), 4242).unwrap().asleep);
        assert_eq!(Status::parse(&text.replace("NSpid", "Other"), 4242).unwrap().inner_tid, 4242);
        assert_eq!(Status::parse("", 1), None);
    }

    #[test]
    fn the_asking_thread_runs() {
        let pid = std::process::id();
        let tid = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
        assert!(!Status::read(pid, tid).unwrap().asleep);
    }
}
