//! Depth: a stack of 4,000 frames is whole, and of a deeper one the two ends are there, with the number of frames
//! between them, each held against the interpreter's own walk.

use super::sampler::{Named, Sampler};
use harness::interpreter::{Interpreter, Script};
use harness::record::Recording;
use pyapm::intake::StackStatus;
use pyapm::symbols;
use pyapm_wire::python::{DEEP_FRAMES, INNER_FRAMES, SWITCH_STEPS};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Functions and how often they stand in a row, innermost first.
type Runs = Vec<(String, usize)>;

fn truths(script: &Script) -> HashMap<u32, Vec<String>> {
    let text = std::fs::read(script.folder().join("truth.json")).unwrap();
    let runs: HashMap<u32, Runs> = serde_json::from_slice(&text).unwrap();
    let expand = |runs: Runs| runs.into_iter().flat_map(|(name, times)| vec![name; times]).collect();
    runs.into_iter().map(|(tid, runs)| (tid, expand(runs))).collect()
}

/// What is wrong with a stack, if anything.
fn difference(named: &Named, truth: &[String]) -> Option<String> {
    let mut functions = named.functions();
    let spins = functions.first() == Some(&"spin");
    if !spins {
        return Some(format!("begins with {:?}", functions.first()));
    }
    let all = truth.len() + 1;
    let Some(gap) = named.gap else {
        functions.remove(0);
        let same = functions == truth;
        return (!same || all > DEEP_FRAMES)
            .then(|| format!("{} of {all} frames without a gap", named.frames.len()));
    };
    if all <= DEEP_FRAMES {
        return Some(format!("a gap in a stack of {all} frames"));
    }
    if gap.after != INNER_FRAMES || named.frames.len() + gap.frames as usize != all {
        return Some(format!("{gap:?} in {} frames of {all}", named.frames.len()));
    }
    let (inner, outer) = functions.split_at(gap.after);
    let same = inner[1..] == truth[..gap.after - 1] && *outer == truth[truth.len() - outer.len()..];
    (!same).then(|| "the ends are others".to_owned())
}

#[test]
fn deep_stacks_are_whole_or_say_what_is_missing() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "depth.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    let truths: HashMap<u32, Vec<String>> = scripts.iter().flat_map(truths).collect();
    let missing: RefCell<BTreeMap<u32, usize>> =
        RefCell::new(truths.iter().map(|(tid, truth)| (*tid, truth.len())).collect());
    let wrong: RefCell<Vec<String>> = RefCell::default();
    let turns = Cell::new(0_u32);
    let mut sampler = Sampler::start(&pids, 199).unwrap();
    sampler.sample(
        "a sample of each thread",
        |sample| {
            let (Some(truth), Some(named)) = (truths.get(&sample.tid), &sample.stack) else { return };
            missing.borrow_mut().remove(&sample.tid);
            let status = (sample.status != StackStatus::Complete).then(|| format!("{:?}", sample.status));
            if let Some(what) = status.or_else(|| difference(named, truth)) {
                let who = pids.iter().position(|pid| *pid == sample.pid).unwrap();
                wrong.borrow_mut().push(format!("{}: {} deep: {what}", interpreters[who], truth.len()));
            }
        },
        || {
            if turns.replace(turns.get() + 1) % 1_000 == 999 {
                eprintln!("not seen yet: {:?}", missing.borrow().values());
            }
            missing.borrow().is_empty() || !wrong.borrow().is_empty()
        },
    );
    assert!(wrong.borrow().is_empty(), "{:#?}", wrong.borrow());
    assert_eq!(sampler.unannounced, 0);
    eprintln!("{} threads of {} interpreters", truths.len(), interpreters.len());
}

/// As a user sees it.
#[test]
fn the_gap_is_a_frame_of_the_recording() {
    let script = Script::start(&Interpreter::of_machine().unwrap(), "depth.py").unwrap();
    let truths = truths(&script);
    let pid = script.pid().to_string();
    let recorded = Recording::start("deep.folded", &["--pid", &pid, "-d", "5"], &[]).unwrap().wait().unwrap();
    assert!(recorded.status.success(), "{}", recorded.said);
    let mut seen: BTreeMap<usize, u64> = BTreeMap::new();
    for (frames, count) in recorded.folded().unwrap() {
        let mark = frames.iter().find(|frame| frame.starts_with("[... "));
        let left_out: usize = mark
            .map_or(0, |mark| mark.trim_start_matches("[... ").split(' ').next().unwrap().parse().unwrap());
        assert_eq!(mark.is_none(), left_out == 0);
        if let Some(frames) = mark {
            assert_eq!(*frames, symbols::left_out(left_out as u32).function);
        }
        let down = frames.iter().filter(|frame| frame.starts_with("down")).count();
        *seen.entry(down + left_out).or_default() += count;
    }
    for truth in truths.values() {
        let down = truth.iter().filter(|name| *name == "down").count();
        assert!(seen.contains_key(&down), "{down}: {seen:?}, {}", recorded.said);
    }
    assert_eq!(seen.keys().filter(|depth| **depth > 20_000).count(), 0, "{seen:?}");
}

/// Of waits, too: those of which the kernel half tells, and those of threads that sleep all the time and are read from outside.
#[test]
fn waits_are_as_deep_as_samples() {
    for (naps, idle) in [("naps", &[][..]), ("sleeps", &["--idle"][..])] {
        let interpreter = Interpreter::of_machine().unwrap();
        let script = Script::start_with("depth.py", |scratch| {
            let mut command = interpreter.command("depth.py", scratch);
            command.arg(naps);
            Ok(command)
        })
        .unwrap();
        let truths = truths(&script);
        let pid = script.pid().to_string();
        let arguments = [&["--pid", &pid, "--mode", "offcpu", "-d", "2"][..], idle].concat();
        let recorded = Recording::start("deep.folded", &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success() && recorded.said.contains("lost: 0"), "{}", recorded.said);
        // Frames, and those of them that a mark stands for.
        let mut seen: BTreeSet<(usize, usize)> = BTreeSet::new();
        for (frames, _) in recorded.folded().unwrap() {
            let mark = frames.iter().find(|frame| frame.starts_with("[... "));
            let left_out: usize = mark.map_or(0, |mark| {
                mark.trim_start_matches("[... ").split(' ').next().unwrap().parse().unwrap()
            });
            let down = frames.iter().filter(|frame| frame.starts_with("down")).count();
            if !frames.iter().any(|frame| frame.starts_with("[outer frames")) {
                seen.insert((down + left_out, left_out));
            }
        }
        for truth in truths.values() {
            let down = truth.iter().filter(|name| *name == "down").count();
            // The caller of `down`, and what sleeps.
            let is_whole = truth.len() < DEEP_FRAMES;
            // A switch gives up after so many steps.
            if down <= SWITCH_STEPS || naps == "sleeps" {
                let found = seen.iter().any(|(all, left_out)| *all == down && (*left_out == 0) == is_whole);
                assert!(found, "{naps}, {down} deep: {seen:?}, {}", recorded.said);
            }
        }
    }
}
