//! The code of the interpreter's loop, `_PyEval_EvalFrameDefault`, wherever the compiler has put its parts. Builds that
//! are optimised by a profile put most of it, the loop itself even, into another section, where it has no symbol. Such a
//! part is known by two marks together: a part that is known jumps into it, and its unwind table begins in the middle
//! of a function, with something on the stack already.

use super::object::Unwind;
use iced_x86::{Decoder, DecoderOptions, FlowControl, OpKind};
use std::collections::BTreeMap;
use std::ops::Range;

/// The symbol of the loop; exported by every CPython from 3.8 to 3.15.
pub(super) const SYMBOL: &str = "_PyEval_EvalFrameDefault";
/// Parts of one loop.
const MAX_PARTS: usize = 16;
/// Larger functions are not looked into. The loop has 30 to 90 KiB.
const MAX_PART: u64 = 4 << 20;

/// Addresses (of the file) of the loop whose function begins at `start`. `code` gives the file's bytes.
pub(super) fn parts(start: u64, unwind: &Unwind, code: &dyn Fn(Range<u64>) -> Vec<u8>) -> Vec<Range<u64>> {
    let Some(first) = unwind.function(start) else { return Vec::new() };
    let mut parts = vec![first.range.clone()];
    let mut next = 0;
    while let Some(part) = parts.get(next).cloned() {
        next += 1;
        for target in jumps(&part, code).into_keys() {
            if parts.len() >= MAX_PARTS {
                return parts;
            }
            if parts.iter().any(|known| known.contains(&target)) {
                continue;
            }
            if let Some(function) = unwind.function(target)
                && function.is_continued
            {
                parts.push(function.range);
            }
        }
    }
    parts
}

/// Targets outside of the part that its code jumps to, and how often.
fn jumps(part: &Range<u64>, code: &dyn Fn(Range<u64>) -> Vec<u8>) -> BTreeMap<u64, u32> {
    let mut targets = BTreeMap::new();
    if part.end.saturating_sub(part.start) > MAX_PART {
        return targets;
    }
    let bytes = code(part.clone());
    for instruction in &mut Decoder::with_ip(64, &bytes, part.start, DecoderOptions::NONE) {
        let is_jump = matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
        );
        if is_jump && instruction.op0_kind() == OpKind::NearBranch64 {
            let target = instruction.near_branch64();
            if !part.contains(&target) {
                *targets.entry(target).or_default() += 1;
            }
        }
    }
    targets
}
