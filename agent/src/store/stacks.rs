//! On-CPU samples by whole stack, until somebody takes them. Before anybody has taken any, none are kept.

use pyapm_model::line::{SampleState, Samples};
use pyapm_model::stack::Stack;
use std::collections::HashMap;

/// Different stacks between two takings, at most; those of a second are some hundred.
const MOST: usize = 2_000;

#[derive(Debug, Default)]
pub struct Stacks {
    wanted: bool,
    counts: HashMap<Stack, u64>,
    left_out: u64,
}

impl Stacks {
    /// Counts one; `frames` from the innermost outwards.
    pub fn record(&mut self, frames: &Stack) {
        if !self.wanted {
            return;
        }
        if let Some(count) = self.counts.get_mut(frames) {
            *count += 1;
        } else if self.counts.len() < MOST {
            self.counts.insert(frames.clone(), 1);
        } else {
            self.left_out += 1;
        }
    }

    /// Everything since the last time, and how many samples found no room; `None` when there was none.
    pub fn take(&mut self) -> Option<(Vec<Samples>, u64)> {
        self.wanted = true;
        let left_out = std::mem::take(&mut self.left_out);
        if self.counts.is_empty() {
            return None;
        }
        let counts = self.counts.drain();
        let samples = counts.map(|(frames, count)| Samples { count, state: SampleState::Cpu, stack: frames });
        Some((samples.collect(), left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::Frame;

    fn stack(name: &str) -> Stack {
        vec![Frame { function: name.into(), file: "a.py".into(), line: Some(1) }].into()
    }

    #[test]
    fn equal_stacks_are_counted_together_from_the_first_taking_on() {
        let mut stacks = Stacks::default();
        stacks.record(&stack("early"));
        assert!(stacks.take().is_none());
        for name in ["a", "b", "a"] {
            stacks.record(&stack(name));
        }
        let (mut samples, left_out) = stacks.take().unwrap();
        samples.sort_by_key(|samples| samples.count);
        let counts: Vec<(&str, u64)> =
            samples.iter().map(|samples| (samples.stack[0].function.as_str(), samples.count)).collect();
        assert_eq!((counts, left_out), (vec![("b", 1), ("a", 2)], 0));
        assert!(stacks.take().is_none());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut stacks = Stacks::default();
        assert!(stacks.take().is_none());
        for number in 0..MOST + 7 {
            stacks.record(&stack(&number.to_string()));
        }
        let (samples, left_out) = stacks.take().unwrap();
        assert_eq!((samples.len(), left_out), (MOST, 7));
    }
}
