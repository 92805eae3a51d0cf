//! Native frames in a recording: what was unwound waits for its sample, and is then joined to the Python frames.

use crate::intake::{Native, StackId};
use crate::native::{NativeStack, PythonStack, Unwinders, join};
use pyapm_model::line::Frame;
use std::collections::HashMap;

/// Python stacks that are remembered of one process.
const MAX_STACKS: usize = 1 << 18;
/// Threads whose native stack waits for its sample. It comes next from the same thread, unless it was lost.
const MAX_WAITING: usize = 1 << 14;

pub(super) struct Natives {
    /// A native stack and a sample of one thread that are less than this apart are of one moment.
    nearness_ns: u64,
    unwinders: Unwinders,
    /// By process.
    python: HashMap<u32, HashMap<StackId, PythonStack>>,
    /// By thread: when it was taken, and what it is.
    waiting: HashMap<u32, (u64, NativeStack)>,
    counts: Counts,
}

/// Samples whose native frames are not all there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// The Python frames have no known places between them.
    mismatch: u64,
    /// The walk did not come to the thread's beginning, and not for want of bytes.
    broken: u64,
    /// The record with the stack was lost.
    lost: u64,
}

impl Natives {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self {
            nearness_ns: 500_000_000 / u64::from(rate_hz.max(1)),
            unwinders: Unwinders::default(),
            python: HashMap::new(),
            waiting: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// A native stack, whose sample comes next from this thread.
    pub(super) fn taken(&mut self, pid: u32, tid: u32, time_ns: u64, native: &Native<'_>) {
        let stack = self.unwinders.unwind(pid, time_ns, native);
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
        }
        self.waiting.insert(tid, (time_ns, stack));
    }

    /// The Python frames behind a stack id.
    pub(super) fn announced(&mut self, pid: u32, stack: StackId, python: PythonStack) {
        let stacks = self.python.entry(pid).or_default();
        if stacks.len() >= MAX_STACKS {
            // Those still in use are announced again when they are asked for.
            stacks.clear();
        }
        stacks.insert(stack, python);
    }

    pub(super) fn fork(&mut self, parent: u32, child: u32) {
        self.forget(child);
        self.unwinders.fork(parent, child);
    }

    /// The process has ended, or runs another program now.
    pub(super) fn forget(&mut self, pid: u32) {
        self.unwinders.forget(pid);
        self.python.remove(&pid);
    }

    /// Native frames of this sample with its Python frames between them, innermost first; `None` when there is no
    /// native stack, or its Python stack is not known.
    pub(super) fn joined(
        &mut self,
        pid: u32,
        tid: u32,
        time_ns: u64,
        stack: Option<StackId>,
    ) -> Option<Vec<Frame>> {
        let native = self.waiting.remove(&tid).filter(|(taken_ns, _)| {
            time_ns.checked_sub(*taken_ns).is_some_and(|between| between < self.nearness_ns)
        });
        let Some((_, native)) = native else {
            self.counts.lost += 1;
            return None;
        };
        let none = PythonStack::none();
        let python = match stack {
            Some(stack) => self.python.get(&pid)?.get(&stack)?,
            None => &none,
        };
        let joined = join(&native, python);
        self.counts.mismatch += u64::from(joined.is_mismatch && stack.is_some());
        self.counts.broken += u64::from(!native.is_whole && !native.is_cut);
        Some(joined.frames.into_iter().cloned().collect())
    }

    /// What the native frames of samples lack, by name.
    pub(super) fn named(&self) -> [(&'static str, u64); 3] {
        let Counts { mismatch, broken, lost } = self.counts;
        [("native_join_mismatch", mismatch), ("native_stack_broken", broken), ("native_stack_lost", lost)]
    }
}
