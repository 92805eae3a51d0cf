//! Adds samples up. Frames, stacks and threads are kept once each and referred to by number.

use super::sample::State;
use pyapm_model::line::Frame;
use std::collections::HashMap;
use std::sync::Arc;

/// How much is kept; what does not fit goes into [`Profile::overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub frames: usize,
    pub stacks: usize,
    pub threads: usize,
    /// Combinations of thread, state and stack.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frames: 1 << 20, stacks: 1 << 19, threads: 1 << 16, entries: 1 << 20 }
    }
}

/// How often, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub samples: u64,
    pub nanoseconds: u64,
}

impl Weight {
    pub fn add(&mut self, other: Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
    }
}

/// A thread for as long as its process ran one program: a pid or tid that is used again is another thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub pid: u32,
    pub tid: u32,
    /// What its process is called: its command line.
    pub process: Arc<str>,
    /// What the kernel calls the thread, where that could be read and is not the process's own name.
    pub name: Option<Arc<str>>,
}

/// The number of a stack of this profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stack(u32);

/// What was seen of one thread, in one state, with one stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Index into [`Profile::threads`].
    pub thread: usize,
    pub state: State,
    /// Indexes into [`Profile::frames`], outermost first.
    pub stack: &'a [u32],
    pub weight: Weight,
}

/// Named stacks and their weights.
#[derive(Debug)]
pub struct Profile {
    limits: Limits,
    frames: Vec<Frame>,
    frame_numbers: HashMap<Frame, u32>,
    stacks: Vec<Arc<[u32]>>,
    stack_numbers: HashMap<Arc<[u32]>, u32>,
    threads: Vec<Thread>,
    entries: HashMap<(usize, State, Stack), Weight>,
    total: Weight,
    overflow: Weight,
}

impl Profile {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            frames: Vec::new(),
            frame_numbers: HashMap::new(),
            stacks: Vec::new(),
            stack_numbers: HashMap::new(),
            threads: Vec::new(),
            entries: HashMap::new(),
            total: Weight::default(),
            overflow: Weight::default(),
        }
    }

    /// Keeps a thread; its number, or `None` when there is no room.
    pub fn thread(&mut self, thread: Thread) -> Option<usize> {
        let number = self.threads.len();
        if number >= self.limits.threads {
            return None;
        }
        self.threads.push(thread);
        Some(number)
    }

    /// Gives a thread the name that it has taken since.
    pub fn rename(&mut self, thread: usize, name: Option<Arc<str>>) {
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.name = name;
        }
    }

    /// Keeps a stack, given outermost frame first; its number, or `None` when there is no room.
    pub fn stack<'f>(&mut self, outermost_first: impl IntoIterator<Item = &'f Frame>) -> Option<Stack> {
        let numbers: Option<Arc<[u32]>> =
            outermost_first.into_iter().map(|frame| self.frame(frame)).collect();
        let numbers = numbers?;
        if let Some(known) = self.stack_numbers.get(&numbers) {
            return Some(Stack(*known));
        }
        if self.stacks.len() >= self.limits.stacks {
            return None;
        }
        let number = u32::try_from(self.stacks.len()).ok()?;
        self.stacks.push(Arc::clone(&numbers));
        self.stack_numbers.insert(numbers, number);
        Some(Stack(number))
    }

    fn frame(&mut self, frame: &Frame) -> Option<u32> {
        if let Some(known) = self.frame_numbers.get(frame) {
            return Some(*known);
        }
        if self.frames.len() >= self.limits.frames {
            return None;
        }
        let number = u32::try_from(self.frames.len()).ok()?;
        self.frames.push(frame.clone());
        self.frame_numbers.insert(frame.clone(), number);
        Some(number)
    }

    /// Adds to what was seen. Without a thread or stack, or when there is no room for another entry, it goes
    /// into the overflow.
    pub fn add(&mut self, thread: Option<usize>, state: State, stack: Option<Stack>, weight: Weight) {
        self.total.add(weight);
        let room = self.entries.len() < self.limits.entries;
        let (Some(thread), Some(stack)) = (thread, stack) else {
            self.overflow.add(weight);
            return;
        };
        match self.entries.get_mut(&(thread, state, stack)) {
            Some(known) => known.add(weight),
            None if room => {
                self.entries.insert((thread, state, stack), weight);
            }
            None => self.overflow.add(weight),
        }
    }

    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// Everything that was seen, in an order that depends on nothing but the order of samples.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries: Vec<_> = self.entries.iter().map(|(key, weight)| (*key, *weight)).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
            .into_iter()
            .filter_map(|((thread, state, stack), weight)| {
                let stack = self.stacks.get(stack.0 as usize)?;
                Some(Entry { thread, state, stack, weight })
            })
            .collect()
    }

    /// Of everything added, the overflow included.
    #[must_use]
    pub fn total(&self) -> Weight {
        self.total
    }

    /// What there was no room for.
    #[must_use]
    pub fn overflow(&self) -> Weight {
        self.overflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str) -> Frame {
        Frame { function: function.into(), file: "/srv/a.py".into(), line: Some(1) }
    }

    fn thread(tid: u32) -> Thread {
        Thread { pid: 1, tid, process: "app".into(), name: None }
    }

    const ONE: Weight = Weight { samples: 1, nanoseconds: 10 };

    #[test]
    fn the_same_adds_up_and_different_things_do_not() {
        let mut profile = Profile::new(Limits::default());
        let (first, second) = (profile.thread(thread(1)), profile.thread(thread(2)));
        let (a, b) = (frame("a"), frame("b"));
        let ab = profile.stack([&a, &b]);
        assert_eq!(profile.stack([&a, &b]), ab);
        let ba = profile.stack([&b, &a]);
        profile.add(first, State::Cpu, ab, ONE);
        profile.add(first, State::Cpu, ab, ONE);
        profile.add(first, State::WaitingForGil, ab, ONE);
        profile.add(second, State::Cpu, ba, ONE);
        let entries: Vec<_> = profile
            .entries()
            .iter()
            .map(|e| (e.thread, e.state, e.stack.to_vec(), e.weight.samples))
            .collect();
        assert_eq!(
            entries,
            [
                (0, State::Cpu, vec![0, 1], 2),
                (0, State::WaitingForGil, vec![0, 1], 1),
                (1, State::Cpu, vec![1, 0], 1)
            ]
        );
        assert_eq!(profile.total(), Weight { samples: 4, nanoseconds: 40 });
        assert_eq!(profile.overflow(), Weight::default());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut profile = Profile::new(Limits { frames: 2, stacks: 2, threads: 1, entries: 1 });
        let first = profile.thread(thread(1));
        assert_eq!(profile.thread(thread(2)), None);
        let (a, b, c) = (frame("a"), frame("b"), frame("c"));
        let stack = profile.stack([&a]);
        assert_eq!(profile.stack([&a, &b, &c]), None);
        let other = profile.stack([&a, &b]);
        assert_eq!(profile.stack([&b]), None);
        profile.add(first, State::Cpu, stack, ONE);
        profile.add(first, State::Cpu, other, ONE);
        profile.add(None, State::Cpu, stack, ONE);
        profile.add(first, State::Cpu, stack, ONE);
        assert_eq!((profile.total().samples, profile.overflow().samples), (4, 2));
        assert_eq!(profile.entries().len(), 1);
    }
}
