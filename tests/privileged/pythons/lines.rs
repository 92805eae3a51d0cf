//! Names and lines of what is sampled, held against the interpreter's own answer, in the standard library's busy code.

use super::sampler::{Named, Sampler};
use harness::interpreter::{Interpreter, Script};
use pyapm::symbols;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Distinct pairs of code object and instruction, of each interpreter.
const PAIRS: usize = 1_200;
/// As fast as a build without optimisation takes them.
const RATE: u32 = 4_000;

/// Address, function, file, first line, and `[start, end, line]` of each range of its bytecode.
type Truth = (u64, String, String, u32, Vec<(i32, i32, Option<u32>)>);

struct Code {
    function: String,
    file: String,
    first: u32,
    lines: Vec<(i32, i32, Option<u32>)>,
}

/// What is wrong with a stack, frame by frame.
fn differences(stack: &Named, codes: &HashMap<u64, Code>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (raw, frame) in stack.raw.iter().zip(&*stack.frames) {
        let Some(code) = codes.get(&raw.code) else {
            // Made since: functions of generated classes, which have gone again.
            if !frame.file.starts_with('<') && frame.function != symbols::UNKNOWN {
                wrong.push(format!("{frame:?} is no code object of the program"));
            }
            continue;
        };
        // Before the first instruction a frame is at the first line (`PyCode_Addr2Line`, `Objects/codeobject.c`).
        let line = match raw.instruction {
            ..0 => Some(code.first),
            at => code
                .lines
                .iter()
                .find(|(start, end, _)| (*start..*end).contains(&at))
                .and_then(|range| range.2),
        };
        if (&frame.function, &frame.file, frame.line) != (&code.function, &code.file, line) {
            wrong.push(format!("{frame:?} at byte {}, not {} {line:?}", raw.instruction, code.function));
        }
    }
    wrong
}

#[test]
fn every_sampled_line_is_the_interpreters_own() {
    let interpreters = Interpreter::all().unwrap();
    // A few at a time: each shall come far in its round of the library.
    let mut report = Vec::new();
    for group in interpreters.chunks(9) {
        let scripts = Script::start_all(group, "lines.py").unwrap();
        let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
        let truths: HashMap<u32, HashMap<u64, Code>> = scripts
            .iter()
            .map(|script| {
                let text = std::fs::read(script.folder().join("truth.json")).unwrap();
                let truth: Vec<Truth> = serde_json::from_slice(&text).unwrap();
                let codes = truth.into_iter().map(|(address, function, file, first, lines)| {
                    (address, Code { function, file, first, lines })
                });
                (script.pid(), codes.collect())
            })
            .collect();
        let pairs: RefCell<BTreeMap<u32, BTreeSet<(u64, i32)>>> = RefCell::default();
        let samples = Cell::new(0_u64);
        let frames = Cell::new(0_u64);
        let wrong: RefCell<BTreeSet<String>> = RefCell::default();
        let checked: RefCell<HashMap<*const Named, Arc<Named>>> = RefCell::default();
        let mut sampler = Sampler::start(&pids, RATE).unwrap();
        sampler.sample(
            "pairs of code object and instruction",
            |sample| {
                let Some(stack) = sample.stack else { return };
                samples.set(samples.get() + 1);
                frames.set(frames.get() + stack.raw.len() as u64);
                if checked.borrow_mut().insert(Arc::as_ptr(&stack), Arc::clone(&stack)).is_none() {
                    let mut pairs = pairs.borrow_mut();
                    pairs
                        .entry(sample.pid)
                        .or_default()
                        .extend(stack.raw.iter().map(|raw| (raw.code, raw.instruction)));
                    let found = differences(&stack, &truths[&sample.pid]);
                    let name = &group[pids.iter().position(|pid| *pid == sample.pid).unwrap()];
                    wrong.borrow_mut().extend(found.into_iter().map(|what| format!("{name}: {what}")));
                }
            },
            || pids.iter().all(|pid| pairs.borrow().get(pid).is_some_and(|pairs| pairs.len() >= PAIRS)),
        );
        for (interpreter, pid) in group.iter().zip(&pids) {
            report.push(format!("{interpreter}: {} pairs", pairs.borrow()[pid].len()));
        }
        let wrong = wrong.into_inner();
        let unnamed = sampler.unnamed();
        report.push(format!(
            "{} samples, {} frames; {} wrong; {unnamed:?}",
            samples.get(),
            frames.get(),
            wrong.len()
        ));
        let first: Vec<&String> = wrong.iter().take(20).collect();
        assert!(wrong.is_empty(), "{} wrong, such as {first:#?}\n{}", wrong.len(), report.join("\n"));
    }
    eprintln!("{}", report.join("\n"));
}
