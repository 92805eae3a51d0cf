//! Names and lines of what is sampled, held against the interpreter's own answer, in the standard library's busy code.

use super::sampler::{Named, Sampler};
use harness::interpreter::{Interpreter, Script};
use pyapm::symbols;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Distinct pairs of code object and instruction, of each interpreter at least.
const PAIRS: usize = 2_000;
/// The same of all together: where there are few interpreters, each gives more.
const ALL_PAIRS: usize = 20_000;
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
        if (frame.function.as_str(), frame.file.as_str(), frame.line)
            != (code.function.as_str(), code.file.as_str(), line)
        {
            wrong.push(format!("{frame:?} at byte {}, not {} {line:?}", raw.instruction, code.function));
        }
    }
    wrong
}

/// The code objects that a program has told of.
fn truth(script: &Script) -> HashMap<u64, Code> {
    let text = std::fs::read(script.folder().join("truth.json")).unwrap();
    let truth: Vec<Truth> = serde_json::from_slice(&text).unwrap();
    let codes = truth
        .into_iter()
        .map(|(address, function, file, first, lines)| (address, Code { function, file, first, lines }));
    codes.collect()
}

/// What was found of one program.
#[derive(Default)]
struct Found {
    pairs: BTreeSet<(u64, i32)>,
    wrong: BTreeSet<String>,
    samples: u64,
    frames: u64,
}

#[test]
fn every_sampled_line_is_the_interpreters_own() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all_paused(&interpreters, "lines.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    let each = PAIRS.max(ALL_PAIRS.div_ceil(interpreters.len()));
    let mut sampler = Sampler::start(&pids, RATE).unwrap();
    let mut all = 0;
    // One after the other: each shall come far in its round of the library, on however slow a machine.
    for (interpreter, script) in interpreters.iter().zip(&scripts) {
        let codes = truth(script);
        let found: RefCell<Found> = RefCell::default();
        let checked: RefCell<HashMap<*const Named, Arc<Named>>> = RefCell::default();
        script.resume().unwrap();
        sampler.sample(
            "pairs of code object and instruction",
            |sample| {
                let Some(stack) = sample.stack.filter(|_| sample.pid == script.pid()) else { return };
                let mut found = found.borrow_mut();
                found.samples += 1;
                found.frames += stack.raw.len() as u64;
                if checked.borrow_mut().insert(Arc::as_ptr(&stack), Arc::clone(&stack)).is_none() {
                    found.pairs.extend(stack.raw.iter().map(|raw| (raw.code, raw.instruction)));
                    found.wrong.extend(differences(&stack, &codes));
                }
            },
            || found.borrow().pairs.len() >= each || !found.borrow().wrong.is_empty(),
        );
        script.pause().unwrap();
        let found = found.into_inner();
        all += found.pairs.len();
        eprintln!(
            "{interpreter}: {} pairs in {} samples of {} frames; {} wrong",
            found.pairs.len(),
            found.samples,
            found.frames,
            found.wrong.len()
        );
        let first: Vec<&String> = found.wrong.iter().take(20).collect();
        assert!(found.wrong.is_empty(), "{interpreter}: {} wrong, such as {first:#?}", found.wrong.len());
    }
    eprintln!("{all} pairs of {} interpreters; {:?}", interpreters.len(), sampler.unnamed());
    assert!(all >= ALL_PAIRS, "{all}");
}
