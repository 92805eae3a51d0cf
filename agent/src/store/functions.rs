//! Functions by the samples they were seen in.

use super::intern::{Interned, OTHER};
use foldhash::HashMap;
use pyapm_model::line::Frame;
use std::sync::Arc;

/// Function and file; lines are not told apart.
pub type Name = (String, String);

/// Samples of one function: innermost, and anywhere on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub innermost: u64,
    pub anywhere: u64,
}

/// Of one second.
#[derive(Clone, Debug, Default)]
pub struct FunctionTally {
    pub samples: u64,
    pub seen: HashMap<u32, Seen>,
}

impl FunctionTally {
    /// Counts one stack, given as numbers from the innermost frame outwards. A function that called
    /// itself counts once.
    pub fn record(&mut self, stack: &[u32]) {
        self.samples += 1;
        for (depth, number) in stack.iter().enumerate() {
            let seen = self.seen.entry(*number).or_default();
            seen.innermost += u64::from(depth == 0);
            seen.anywhere += u64::from(!stack[..depth].contains(number));
        }
    }
}

/// The number of a frame's function, without copying its name when it is known.
pub fn number_of(names: &mut Interned<Name>, frame: &Frame, scratch: &mut Name) -> u32 {
    scratch.0.clear();
    scratch.0.push_str(&frame.function);
    scratch.1.clear();
    scratch.1.push_str(&frame.file);
    match names.known(&*scratch) {
        Some(number) => number,
        None if names.is_full() => OTHER,
        None => names.add(Arc::new(scratch.clone())),
    }
}
