//! Threads that were away when the recording began: the kernel half has not seen them leave, so where they are, and what
//! they wait for, is read from outside, of each thread that provably does not run meanwhile.

use super::away;
use crate::intake::{Gap, Left, StackStatus};
use crate::pipeline::clock::monotonic_ns;
use crate::profile::State;
use crate::python::{
    Chain, Interpreter, Objects, ProcessMemory, StackOfThread, ThreadState, by_tid, stack_of_thread,
    thread_states, while_parked,
};
use crate::targets::{Descriptors, Place, ProcFs, SystemCall, Waits};
use pyapm_wire::python::{DEEP_FRAMES, Frame, INNER_FRAMES};

/// Threads of one process that are looked at.
const MAX_THREADS: usize = 16_384;
/// Readings until the lists of threads have held still.
const TRIES: usize = 5;

/// A thread that does not run.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    pub(super) tid: u32,
    /// `CLOCK_MONOTONIC` nanoseconds: it was away then.
    pub(super) taken_ns: u64,
    pub(super) state: State,
    pub(super) holds_gil: bool,
    /// Innermost first; with `gap` and `status` as the kernel half would give them.
    pub(super) frames: Vec<Frame>,
    pub(super) gap: Option<Gap>,
    pub(super) status: StackStatus,
}

/// Those of one process. One whose stack cannot be read is there without it.
pub(super) fn of(procfs: &ProcFs, pid: u32, interpreter: &Interpreter) -> Vec<Parked> {
    let memory = ProcessMemory::new(pid);
    let (offsets, runtime) = (&interpreter.offsets, interpreter.runtime_address);
    let states = (0..TRIES).find_map(|_| thread_states(&memory, offsets, runtime).ok()).unwrap_or_default();
    let by_tid = by_tid(&memory, &states);
    let look = Look { procfs, pid, interpreter, memory: &memory, descriptors: Descriptors::of(pid) };
    let tids = procfs.tasks(pid).unwrap_or_default();
    let parked = tids
        .into_iter()
        .take(MAX_THREADS)
        .map(|tid| while_parked(pid, tid, |inner| look.at(tid, by_tid.get(&inner))).flatten());
    parked.flatten().collect()
}

struct Look<'a> {
    procfs: &'a ProcFs,
    pid: u32,
    interpreter: &'a Interpreter,
    memory: &'a ProcessMemory,
    descriptors: Descriptors,
}

impl Look<'_> {
    fn at(&self, tid: u32, thread: Option<&ThreadState>) -> Option<Parked> {
        let letter = self.procfs.task_stat(self.pid, tid).ok()?.state;
        // Back to the kernel's own numbers (`fs/proc/array.c`, `task_state_array`).
        let state = match letter {
            'S' => 1,
            'D' => 2,
            'T' => 4,
            't' => 8,
            _ => return None,
        };
        let call = match self.procfs.task_place(self.pid, tid).ok()? {
            Place::Running => return None,
            Place::Call(call) => Some(call),
            Place::Kernel => None,
        };
        let found = thread.and_then(|thread| stack_of_thread(self.interpreter, self.memory, thread));
        let (holds_gil, waits_for_gil) = match (thread, &found) {
            (Some(thread), Some(found)) => self.gil(thread, found.tstate, call.as_ref()),
            _ => (false, false),
        };
        let (frames, gap, status) = stack(thread.is_some(), found);
        let arguments = call.map_or([0; 3], |call| {
            let [first, second, third, ..] = call.arguments;
            [first, second, third]
        });
        let fd = call.as_ref().and_then(|call| self.descriptor(call));
        let mode = fd.and_then(|fd| self.descriptors.mode(u64::from(fd)));
        let left = Left {
            stack: None,
            status,
            state,
            call: call.map(|call| call.number),
            arguments,
            fd,
            mode: mode.map_or(0, |mode| (mode & 0xffff) as u16),
            holds_gil,
            waits_for_gil,
        };
        let taken_ns = monotonic_ns();
        Some(Parked { tid, taken_ns, state: away::state(&left), holds_gil, frames, gap, status })
    }

    /// Whether it holds the lock of its interpreter, and whether it waits for it.
    fn gil(&self, thread: &ThreadState, tstate: u64, call: Option<&SystemCall>) -> (bool, bool) {
        let (offsets, minor) = (&self.interpreter.offsets, self.interpreter.version.minor);
        let objects = Objects::new(self.memory, offsets, minor);
        let gil = objects
            .and_then(|objects| objects.gil(self.interpreter.runtime_address, thread.interpreter).ok());
        let Some(gil) = gil else { return (false, false) };
        let waits =
            call.is_some_and(|call| call.waits() == Waits::Futex && gil.is_waited_for_at(call.first()));
        (gil.held && gil.last_holder == tstate, waits)
    }

    /// The one descriptor that a call waits on.
    fn descriptor(&self, call: &SystemCall) -> Option<u32> {
        let number = match call.waits() {
            Waits::File | Waits::Socket | Waits::Disk | Waits::Lock => call.first(),
            // `struct pollfd` begins with it.
            Waits::Poll if call.second() == 1 => {
                let bytes = self.procfs.memory(self.pid, call.first(), size_of::<i32>());
                u64::from(u32::from_ne_bytes(*bytes.first_chunk()?))
            }
            _ => return None,
        };
        // Descriptors are ints: the upper half of the register may hold anything.
        i32::try_from(number & 0xffff_ffff).ok().and_then(|fd| u32::try_from(fd).ok())
    }
}

fn stack(has_state: bool, found: Option<StackOfThread>) -> (Vec<Frame>, Option<Gap>, StackStatus) {
    let Some(found) = found else {
        let status = if has_state { StackStatus::Unreadable } else { StackStatus::NoThreadState };
        return (Vec::new(), None, status);
    };
    let (frames, gap) = ends(&found.chain);
    let status = if frames.is_empty() { StackStatus::NoFrame } else { StackStatus::Complete };
    (frames, gap, status)
}

/// Of a stack that is too deep its two ends, where the kernel half cuts it.
fn ends(chain: &Chain) -> (Vec<Frame>, Option<Gap>) {
    let mut frames: Vec<Frame> = chain.frames.iter().map(|found| found.frame).collect();
    if chain.left_out == 0 && frames.len() <= DEEP_FRAMES {
        return (frames, None);
    }
    let outer = frames.len().saturating_sub(DEEP_FRAMES - INNER_FRAMES).max(INNER_FRAMES);
    let left_out = chain.left_out + frames.drain(INNER_FRAMES..outer).len();
    (frames, Some(Gap { after: INNER_FRAMES, frames: u32::try_from(left_out).unwrap_or(u32::MAX) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::FrameAt;

    #[test]
    fn deep_stacks_keep_their_ends() {
        let chain = |kept: usize, left_out: usize| {
            let frame = |number| Frame { code: number, instruction: 0, identity: 0 };
            let frames = (0..kept as u64).map(|number| FrameAt { address: 0, frame: frame(number) });
            ends(&Chain { frames: frames.collect(), left_out })
        };
        let (frames, gap) = chain(DEEP_FRAMES, 0);
        assert_eq!((frames.len(), gap), (DEEP_FRAMES, None));
        for (kept, left_out) in [(DEEP_FRAMES + 1, 0), (Chain::MAX_KEPT, 0), (Chain::MAX_KEPT, 70)] {
            let (frames, gap) = chain(kept, left_out);
            let gap = gap.unwrap();
            assert_eq!((frames.len(), gap.after), (DEEP_FRAMES, INNER_FRAMES));
            assert_eq!(frames.len() + gap.frames as usize, kept + left_out);
            assert_eq!(frames[INNER_FRAMES - 1].code, INNER_FRAMES as u64 - 1);
            assert_eq!(frames[DEEP_FRAMES - 1].code, kept as u64 - 1);
        }
    }
}
