//! Deep stacks come in several records. The parts of one thread's stack come in order and without another stack of
//! that thread between them; those of several threads mix. A stack of which a part was lost never gets whole: what
//! asks for it finds it unknown, and that is counted where it is asked for.

use super::event::{Body, StackPart};
use pyapm_wire::python::{DEEP_FRAMES, Frame};
use std::collections::HashMap;

/// Threads that are in the middle of sending a stack: at most one on each CPU, and those whose last part was lost.
const MAX_OPEN: usize = 1024;

/// The parts that have come, by thread.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: HashMap<u32, StackPart>,
}

impl Parts {
    /// Adds a part; the whole stack when it was the last one.
    pub(super) fn add(&mut self, tid: u32, part: &StackPart) -> Option<Body<'static>> {
        if part.before == 0 {
            // Parts that were lost leave a thread open; which is forgotten does not matter.
            if self.open.len() >= MAX_OPEN
                && let Some(other) = self.open.keys().next().copied()
            {
                self.open.remove(&other);
            }
            let mut frames: Vec<Frame> = Vec::with_capacity(part.kept.min(DEEP_FRAMES));
            frames.extend_from_slice(&part.frames);
            self.open.insert(tid, StackPart { frames, ..part.clone() });
            return None;
        }
        let open = self.open.get_mut(&tid)?;
        let follows = open.stack == part.stack && open.frames.len() == part.before && open.kept == part.kept;
        let end = part.before.saturating_add(part.frames.len());
        if !follows || end > part.kept || end > DEEP_FRAMES {
            self.open.remove(&tid);
            return None;
        }
        open.frames.extend_from_slice(&part.frames);
        open.entries.extend_from_slice(&part.entries);
        if end < part.kept {
            return None;
        }
        self.open.remove(&tid).map(StackPart::whole)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Gap, StackId, StackStatus};
    use super::*;

    fn part(stack: u64, before: usize, frames: usize, kept: usize) -> StackPart {
        let frame = |index: usize| Frame {
            code: before.wrapping_add(index).wrapping_mul(8) as u64,
            instruction: 0,
            identity: 0,
        };
        StackPart {
            stack: StackId(stack),
            frames: (0..frames).map(frame).collect(),
            entries: vec![1; frames],
            top_entries: 2,
            before,
            kept,
            gap: Some(Gap { after: 3, frames: 9 }),
            status: StackStatus::Complete,
        }
    }

    #[test]
    fn parts_of_two_threads_mix() {
        let mut parts = Parts::default();
        assert_eq!(parts.add(1, &part(7, 0, 3, 5)), None);
        assert_eq!(parts.add(2, &part(8, 0, 4, 6)), None);
        let whole = parts.add(1, &part(7, 3, 2, 5));
        let Some(Body::Stack { stack, frames, gap, .. }) = whole else { panic!("{whole:?}") };
        assert_eq!((stack, gap), (StackId(7), Some(Gap { after: 3, frames: 9 })));
        assert!(frames.iter().enumerate().all(|(index, frame)| frame.code == index as u64 * 8));
        assert_eq!(frames.len(), 5);
        assert!(parts.add(2, &part(8, 4, 2, 6)).is_some());
    }

    #[test]
    fn a_lost_part_loses_the_stack_and_no_other() {
        let mut parts = Parts::default();
        for lost in 0..3 {
            for index in (0..3).filter(|index| *index != lost) {
                assert_eq!(parts.add(1, &part(7, index * 2, 2, 6)), None, "{lost}");
            }
        }
        // The next one of that thread is whole, also when it is the same stack.
        assert_eq!(parts.add(1, &part(7, 0, 3, 4)), None);
        assert!(parts.add(1, &part(7, 3, 1, 4)).is_some());
    }

    #[test]
    fn parts_that_make_no_sense() {
        let mut parts = Parts::default();
        for before in [0, 1, 5000, usize::MAX] {
            for kept in [0, 1, 3, 5000, usize::MAX] {
                for tid in 0..2000 {
                    assert_eq!(parts.add(tid, &part(7, before, 2, kept)), None);
                }
            }
        }
        assert!(parts.open.len() <= MAX_OPEN);
    }
}
