//! Processes that come and go faster than they can be looked at, and one whose memory is nonsense: no stack is made up,
//! nothing hangs, and what has no stack says why.

use super::sampler::Sampler;
use harness::interpreter::{Interpreter, Script};
use harness::wait;
use pyapm::intake::StackStatus;
use pyapm_wire::count;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Rounds of each interpreter.
const ROUNDS: usize = 4;
/// Forks of a round: ten children, two of which have one each.
const FORKS: usize = 12;

fn rounds(script: &Script) -> usize {
    script.log().lines().filter(|line| line.starts_with("round")).count()
}

/// Functions that can be on a stack of the storm; children that became another program are none of ours.
const STORM: [&str; 4] = ["moment", "child", "storm", "<module>"];

#[test]
fn a_storm_of_forks_leaves_no_wrong_stack() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "storm.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    let statuses: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let wrong: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let earlier: Vec<usize> = scripts.iter().map(rounds).collect();
    let mut sampler = Sampler::start(&pids, 4_000).unwrap();
    let before: Vec<usize> = scripts.iter().map(rounds).collect();
    sampler.sample(
        "rounds of the storm",
        |sample| {
            *statuses.borrow_mut().entry(format!("{:?}", sample.status)).or_default() += 1;
            let Some(named) = sample.stack else { return };
            // At its end the interpreter runs the library's own functions below the script's.
            let functions = named.functions();
            let storm = functions.iter().rev().take_while(|name| STORM.contains(name)).count();
            let whole = functions.last() == Some(&"<module>");
            let in_library = functions.iter().any(|name| ["_shutdown", "?"].contains(name));
            if (storm == 0 || !whole)
                && !in_library
                && !named.frames.iter().any(|frame| !frame.file.ends_with("storm.py"))
            {
                *wrong.borrow_mut().entry(format!("{:?} {functions:?}", sample.status)).or_default() += 1;
            }
        },
        || scripts.iter().zip(&before).all(|(script, before)| rounds(script) >= before + ROUNDS),
    );
    // No fork from here on, but for those of children that are on their way.
    scripts.iter().for_each(|script| script.pause().unwrap());
    // The rounds that were watched from their beginning to their end; and all that may have been met, the ones that
    // were under way at the beginning and at the end included.
    let after: Vec<usize> = scripts.iter().map(rounds).collect();
    let whole =
        |rounds: &[usize]| -> usize { after.iter().zip(rounds).map(|(after, from)| after - from).sum() };
    let (least, most) = (whole(&before) - scripts.len(), whole(&earlier) + 2 * scripts.len());
    let (least, most) = ((least * FORKS) as u64, (most * FORKS) as u64);
    wait::until("what the ring still holds", || {
        sampler.drain(|_| {});
        Ok((sampler.forks >= least).then_some(()))
    })
    .unwrap();
    let counts = sampler.counts();
    eprintln!(
        "{} forks ({least} to {most} are due), {} execs, {} exits; samples {:?}; {:?}",
        sampler.forks,
        sampler.execs,
        sampler.exits,
        statuses.borrow(),
        sampler.unnamed()
    );
    assert!(wrong.borrow().is_empty(), "{:#?}", wrong.borrow());
    assert!(statuses.borrow().get("Complete").is_some_and(|count| *count > 200), "{statuses:?}");
    assert_eq!(counts.get(count::TARGETS_FULL), 0);
    assert!((least..=most).contains(&sampler.forks), "{} forks, not {least} to {most}", sampler.forks);
    assert!(sampler.exits > 0 && sampler.execs > 0);
}

#[test]
fn nonsense_in_memory_is_no_stack() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "scribble.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    let statuses: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let mut sampler = Sampler::start(&pids, 8_000).unwrap();
    let before: Vec<usize> = scripts.iter().map(rounds).collect();
    sampler.sample(
        "threads with nonsense in their memory",
        |sample| *statuses.borrow_mut().entry(format!("{:?}", sample.status)).or_default() += 1,
        || {
            let counts = statuses.borrow();
            let broken: u64 =
                counts.iter().filter(|(status, _)| *status != "Complete").map(|(_, count)| count).sum();
            broken > 500 && scripts.iter().zip(&before).all(|(script, before)| rounds(script) > *before)
        },
    );
    let counts = sampler.counts();
    let statuses = statuses.into_inner();
    eprintln!(
        "samples {statuses:?}; unnamed frames {:?}; {} unreadable, {} truncated",
        sampler.unnamed(),
        counts.get(count::STACK_UNREADABLE),
        counts.get(count::STACK_TRUNCATED)
    );
    let of = |status: StackStatus| statuses.get(&format!("{status:?}")).copied().unwrap_or_default();
    assert!(of(StackStatus::Unreadable) > 0, "{statuses:?}");
    // The reason is counted in the kernel half too, for every one that was delivered.
    assert!(counts.get(count::STACK_UNREADABLE) >= of(StackStatus::Unreadable));
    assert!(counts.get(count::STACK_TRUNCATED) >= of(StackStatus::Truncated));
    assert_eq!(sampler.unannounced, 0);
}
