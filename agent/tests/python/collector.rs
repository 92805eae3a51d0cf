//! What collectors have done, of every interpreter: as read from outside, and as `gc.get_stats()` has it.

use crate::interpreters::{Running, all, python, script};
use pyapm::python::{GENERATIONS, Generation, ProcessMemory, collections, inspect};
use serde::Deserialize;
use std::path::Path;

/// One generation in `gc.get_stats()`.
#[derive(Deserialize)]
struct Truth {
    collections: u64,
    collected: u64,
    uncollectable: u64,
    /// Seconds, from 3.15 on.
    duration: Option<f64>,
}

/// Collections of each generation: none, few, and more than a ring of 3.15 holds.
const ROUNDS: [[u64; GENERATIONS]; 4] = [[0, 0, 0], [1, 2, 3], [25, 0, 7], [0, 9, 1]];

fn check(interpreter: &Path) -> String {
    let mut running = Running::start(python(interpreter, &script("collector.py")));
    let found = inspect(running.pid()).unwrap_or_else(|error| panic!("{}: {error}", interpreter.display()));
    let memory = ProcessMemory::new(running.pid());
    let version = found.version;
    let mut before = [Generation::default(); GENERATIONS];
    for (round, times) in ROUNDS.iter().enumerate() {
        running.tell(&serde_json::to_string(times).unwrap());
        let truth: Vec<Truth> = serde_json::from_str(&running.line()).unwrap();
        let read = collections(&memory, &found).unwrap();
        let [one] = read.as_slice() else { panic!("{version}: {read:?}") };
        for (generation, (now, truth)) in one.generations.iter().zip(&truth).enumerate() {
            let told = (truth.collections, truth.collected, truth.uncollectable);
            let seen = (now.collections, now.collected, now.uncollectable);
            assert_eq!(seen, told, "{version}: generation {generation} of {read:?}");
            let pause_ns = truth.duration.map(|seconds| (seconds * 1e9).round() as u64);
            assert_eq!(now.pause_ns.is_some(), pause_ns.is_some(), "{version}");
            let apart = now.pause_ns.unwrap_or(0).abs_diff(pause_ns.unwrap_or(0));
            assert!(apart <= 1, "{version}: {now:?}, {pause_ns:?}");
            if round > 0 {
                let more = now.collections - before[generation].collections;
                assert_eq!(more, times[generation], "{version}: generation {generation}");
            }
        }
        before = one.generations;
    }
    format!("{version} {:?}: {before:?}", found.collector.unwrap())
}

#[test]
fn collections_of_every_interpreter() {
    for interpreter in all() {
        println!("{}", check(&interpreter));
    }
}
