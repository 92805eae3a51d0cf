//! No stack is torn: a program alternates two leaf functions each of which has one caller only, so that a stack made
//! of two moments is one that cannot exist. Whether a walk is torn does not depend on how long ago the last one was, so
//! most of them are taken at a higher rate than is promised, which fills the ring sooner.

use super::sampler::{Sample, Sampler};
use harness::interpreter::{Interpreter, Script};
use pyapm::intake::StackStatus;
use pyapm_wire::count;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Samples of one build of each version.
const EACH: u64 = 20_000;
/// Samples of every other build.
const OTHERS: u64 = 2_000;
/// Samples a second on each CPU.
const PROMISED: u32 = 1_000;
const FASTER: u32 = 16_000;
/// When it is set (`cargo xtask test torn`), [`EACH`] are taken of each version at the promised rate, too: a minute or two.
const LITERAL: &str = "PYAPM_TEST_TORN";

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

/// One program: its interpreter, and how many samples it is to give.
struct Program {
    interpreter: Interpreter,
    script: Script,
    due: u64,
}

/// The first build of each version gives more than the others.
fn programs() -> Vec<Program> {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all_paused(&interpreters, "flutter.py").unwrap();
    let mut versions = BTreeSet::new();
    let programs = interpreters.into_iter().zip(scripts).map(|(interpreter, script)| {
        let first = versions.insert((interpreter.minor, interpreter.free_threaded));
        Program { interpreter, script, due: if first { EACH } else { OTHERS } }
    });
    programs.collect()
}

/// Samples these programs until they have given as many as `enough` wants of each; those that have are paused, so that
/// the others come to theirs. What was seen is added to `totals`.
fn gather(
    sampler: &mut Sampler,
    programs: &[&Program],
    totals: &RefCell<BTreeMap<u32, Seen>>,
    enough: impl Fn(&Program, u64) -> bool,
) {
    let running: RefCell<Vec<&Program>> = RefCell::new(programs.to_vec());
    let before = |pid: u32| totals.borrow().get(&pid).map_or(0, |seen| seen.samples);
    let before: BTreeMap<u32, u64> =
        programs.iter().map(|program| (program.script.pid(), before(program.script.pid()))).collect();
    programs.iter().for_each(|program| program.script.resume().unwrap());
    sampler.sample(
        "samples of each program",
        |sample| totals.borrow_mut().entry(sample.pid).or_default().take(&sample),
        || {
            running.borrow_mut().retain(|program| {
                let pid = program.script.pid();
                let samples = totals.borrow().get(&pid).map_or(0, |seen| seen.samples) - before[&pid];
                let goes_on = !enough(program, samples);
                if !goes_on {
                    program.script.pause().unwrap();
                }
                goes_on
            });
            running.borrow().is_empty()
        },
    );
}

/// Every record is accounted for, and fewer than one in a thousand was lost.
fn assert_nothing_lost(sampler: &Sampler, rate: u32) {
    let counts = sampler.counts();
    let (due, lost) = (counts.get(count::SEEN), counts.get(count::RING_FULL));
    eprintln!("{rate} Hz: {lost} of {due} records lost, {:?}", sampler.unnamed());
    assert!(lost * 1_000 < due, "{rate} Hz: {lost} of {due} records were lost");
    assert_eq!(sampler.unannounced, 0);
    assert_eq!(sampler.unnamed(), pyapm::symbols::Counts::default());
}

#[test]
fn no_stack_is_torn_and_none_is_lost() {
    let programs = programs();
    let pids: Vec<u32> = programs.iter().map(|program| program.script.pid()).collect();
    let totals: RefCell<BTreeMap<u32, Seen>> = RefCell::default();
    // At the rate that is promised: of each version only when that is asked for, because each CPU gives 1,000 a second.
    let mut sampler = Sampler::start(&pids, PROMISED).unwrap();
    if std::env::var_os(LITERAL).is_some() {
        let firsts: Vec<&Program> = programs.iter().filter(|program| program.due == EACH).collect();
        // As many as there are CPUs here: each gives 1,000 a second then.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        for some in firsts.chunks(cpus) {
            gather(&mut sampler, some, &totals, |_, samples| samples >= EACH);
        }
        for program in firsts {
            let samples = totals.borrow()[&program.script.pid()].samples;
            eprintln!("{}: {samples} samples at {PROMISED} Hz", program.interpreter);
        }
    } else {
        let all: Vec<&Program> = programs.iter().collect();
        let together = || totals.borrow().values().map(|seen| seen.samples).sum::<u64>();
        gather(&mut sampler, &all, &totals, |_, _| together() >= EACH);
        eprintln!("{} samples at {PROMISED} Hz, of all together", together());
    }
    assert_nothing_lost(&sampler, PROMISED);
    drop(sampler);
    // And faster, which is harder, until each has its share.
    let mut sampler = Sampler::start(&pids, FASTER).unwrap();
    let all: Vec<&Program> = programs.iter().collect();
    gather(&mut sampler, &all, &totals, |program, samples| samples >= program.due);
    assert_nothing_lost(&sampler, FASTER);
    let totals = totals.into_inner();
    for program in &programs {
        let seen = &totals[&program.script.pid()];
        let torn: u64 = seen.impossible.values().sum();
        let name = &program.interpreter;
        eprintln!("{name}: {} samples, {:?} in leaves, {torn} impossible", seen.samples, seen.leaves);
    }
    for Program { interpreter, script, due } in &programs {
        let seen = &totals[&script.pid()];
        assert!(seen.impossible.is_empty(), "{interpreter}: {:#?}", seen.impossible);
        assert!(seen.samples >= *due, "{interpreter}: {seen:?}");
        assert!(seen.leaves.iter().all(|count| *count > due / 20), "{interpreter}: {seen:?}");
    }
}
