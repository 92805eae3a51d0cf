//! No stack is torn: a program alternates two leaf functions each of which has one caller only, so that a stack made
//! of two moments is one that cannot exist.

use super::sampler::{Sample, Sampler};
use harness::interpreter::{Interpreter, Script};
use pyapm::intake::StackStatus;
use pyapm_wire::count;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Samples of each interpreter.
const EACH: u64 = 20_000;

#[derive(Debug, Default)]
struct Seen {
    samples: u64,
    leaves: [u64; 2],
    impossible: BTreeMap<String, u64>,
}

/// Function and the lines that it can be at, innermost first.
const MODULE: (&str, &[u32]) = ("<module>", &[30, 31]);
const FLUTTER: (&str, &[u32]) = ("flutter", &[24, 25, 26, 27]);
const ONE: (&str, &[u32]) = ("only_one", &[16, 17]);
const TWO: (&str, &[u32]) = ("only_two", &[20, 21]);
const LEAF_ONE: (&str, &[u32]) = ("leaf_one", &[4, 5, 6, 7]);
const LEAF_TWO: (&str, &[u32]) = ("leaf_two", &[10, 11, 12, 13]);

impl Seen {
    fn take(&mut self, sample: &Sample) {
        self.samples += 1;
        let Some(stack) = &sample.stack else {
            *self.impossible.entry(format!("no stack: {:?}", sample.status)).or_default() += 1;
            return;
        };
        let frames: Vec<(&str, u32)> =
            stack.frames.iter().map(|frame| (frame.function.as_str(), frame.line.unwrap_or(0))).collect();
        let possible: &[&[(&str, &[u32])]] =
            &[&[LEAF_ONE, ONE, FLUTTER, MODULE], &[LEAF_TWO, TWO, FLUTTER, MODULE]];
        let fits = possible.iter().position(|whole| {
            // Whoever is not in a leaf is on the way there.
            let outer = &whole[whole.len() - frames.len().min(whole.len())..];
            frames.len() <= whole.len()
                && frames
                    .iter()
                    .zip(outer)
                    .all(|(frame, (function, lines))| frame.0 == *function && lines.contains(&frame.1))
        });
        match fits {
            // A caller's line is that of the call.
            Some(leaf) if sample.status == StackStatus::Complete => {
                if frames.len() == 4 {
                    self.leaves[leaf] += 1;
                }
            }
            _ => *self.impossible.entry(format!("{:?}: {frames:?}", sample.status)).or_default() += 1,
        }
    }
}

#[test]
fn no_stack_is_torn_and_none_is_lost() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "flutter.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    // At the rate that is promised, and then faster until each has its share: all programs share the CPUs.
    let mut totals: BTreeMap<u32, Seen> = BTreeMap::new();
    for (rate, all, each) in [(1_000, EACH, 0), (16_000, 0, EACH)] {
        let seen: RefCell<BTreeMap<u32, Seen>> = RefCell::new(BTreeMap::new());
        let mut sampler = Sampler::start(&pids, rate).unwrap();
        sampler.sample(
            &format!("samples at {rate} Hz"),
            |sample| seen.borrow_mut().entry(sample.pid).or_default().take(&sample),
            || {
                let seen = seen.borrow();
                let counts = || pids.iter().map(|pid| seen.get(pid).map_or(0, |seen| seen.samples));
                counts().sum::<u64>() >= all && counts().all(|count| count >= each)
            },
        );
        let counts = sampler.counts();
        let (due, lost) = (counts.get(count::SEEN), counts.get(count::RING_FULL));
        let taken: u64 = seen.borrow().values().map(|seen| seen.samples).sum();
        eprintln!("{rate} Hz: {taken} samples, {lost} of {due} records lost, {:?}", sampler.unnamed());
        // Fewer than one in a thousand.
        assert!(lost * 1_000 < due, "{rate} Hz: {lost} of {due} records were lost");
        assert_eq!(sampler.unannounced, 0);
        assert_eq!(sampler.unnamed(), pyapm::symbols::Counts::default());
        for (pid, seen) in seen.into_inner() {
            let total = totals.entry(pid).or_default();
            total.samples += seen.samples;
            for (sum, leaves) in total.leaves.iter_mut().zip(seen.leaves) {
                *sum += leaves;
            }
            for (stack, count) in seen.impossible {
                *total.impossible.entry(stack).or_default() += count;
            }
        }
    }
    for (interpreter, pid) in interpreters.iter().zip(&pids) {
        let seen = &totals[pid];
        let torn: u64 = seen.impossible.values().sum();
        eprintln!("{interpreter}: {} samples, {:?} in leaves, {torn} impossible", seen.samples, seen.leaves);
    }
    for (interpreter, pid) in interpreters.iter().zip(&pids) {
        let seen = &totals[pid];
        assert!(seen.impossible.is_empty(), "{interpreter}: {:#?}", seen.impossible);
        assert!(seen.leaves.iter().all(|count| *count > EACH / 20), "{interpreter}: {seen:?}");
    }
}
