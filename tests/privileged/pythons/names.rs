//! Names: what the interpreter itself calls the functions of a stack, and never the name of a function that has been
//! freed.

use super::sampler::{Named, Sampler};
use harness::interpreter::{Interpreter, Script};
use pyapm::symbols::UNKNOWN;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Stack = Vec<(String, String)>;

/// Samples of each interpreter, of functions that come and go.
const EACH: u64 = 300;

fn stack_of(named: &Named) -> Stack {
    named.frames.iter().map(|frame| (frame.function.to_string(), frame.file.to_string())).collect()
}

/// Frames of the program's own reporting, and of what runs inside the functions whose stacks are known.
fn is_inside(frame: &(String, String)) -> bool {
    ["tell", "<listcomp>", "<genexpr>", "busy"].iter().any(|name| frame.0.ends_with(name))
}

/// From 3.11 on, a coroutine is made by the first instruction of its own code (`RETURN_GENERATOR`), in a frame that the
/// function which asks for it calls: a true stack that the program cannot tell of itself, because nothing of the
/// coroutine's body runs in it.
fn without_what_is_being_made(stack: &[(String, String)]) -> &[(String, String)] {
    match stack {
        [made, maker, ..] if made.0 == "coroutine" && maker.0 != "run" => &stack[1..],
        _ => stack,
    }
}

#[test]
fn names_are_the_interpreters_own() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "names.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    let truths: HashMap<u32, BTreeSet<Stack>> = scripts
        .iter()
        .map(|script| {
            let text = std::fs::read(script.folder().join("truth.json")).unwrap();
            (script.pid(), serde_json::from_slice(&text).unwrap())
        })
        .collect();
    let missing: RefCell<HashMap<u32, BTreeSet<Stack>>> = RefCell::new(truths.clone());
    // Short ones: a moment of 3,000 steps is met before long, one of 20 is not.
    for stacks in missing.borrow_mut().values_mut() {
        stacks.retain(|stack| !is_inside(&stack[0]));
        assert!(stacks.len() >= 25, "{}", stacks.len());
    }
    let wrong: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let turns = Cell::new(0_u32);
    let mut sampler = Sampler::start(&pids, 8_000).unwrap();
    sampler.sample(
        "a sample of each function",
        |sample| {
            let Some(named) = &sample.stack else {
                *wrong.borrow_mut().entry(format!("no stack: {:?}", sample.status)).or_default() += 1;
                return;
            };
            let stack = stack_of(named);
            let stack = without_what_is_being_made(&stack);
            let known = &truths[&sample.pid];
            // On the way to a function, or a little further in.
            let inner = stack.iter().take_while(|frame| is_inside(frame)).count();
            let mut missing = missing.borrow_mut();
            for from in 0..=inner {
                missing.get_mut(&sample.pid).unwrap().remove(&stack[from..]);
            }
            let fits = |stack: &[(String, String)]| known.iter().any(|whole| whole.ends_with(stack));
            if !(0..=inner).any(|from| fits(&stack[from..])) {
                let who = pids.iter().position(|pid| *pid == sample.pid).unwrap();
                let what = format!("{}: {stack:?}", interpreters[who]);
                *wrong.borrow_mut().entry(what).or_default() += 1;
            }
        },
        || {
            // What is wrong is told at once, and what has not come by name.
            let left: Vec<Stack> = missing.borrow().values().flatten().take(3).cloned().collect();
            if turns.replace(turns.get() + 1) % 1_000 == 999 {
                eprintln!("not seen yet: {left:?}");
            }
            left.is_empty() || !wrong.borrow().is_empty()
        },
    );
    let wrong = wrong.into_inner();
    let first: Vec<_> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{} stacks that are not the program's, such as {first:#?}", wrong.len());
    for (interpreter, pid) in interpreters.iter().zip(&pids) {
        eprintln!("{interpreter}: {} stacks, all seen with their names", truths[pid].len());
    }
}

#[test]
fn a_freed_function_names_no_other() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "churn.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    #[derive(Debug, Default)]
    struct Seen {
        named: u64,
        unnamed: u64,
        /// The last number that was seen.
        number: u32,
        wrong: BTreeMap<String, u64>,
    }
    let seen: RefCell<BTreeMap<u32, Seen>> = RefCell::default();
    let mut sampler = Sampler::start(&pids, 2_000).unwrap();
    sampler.sample(
        "samples of functions that come and go",
        |sample| {
            let Some(named) = &sample.stack else { return };
            let mut seen = seen.borrow_mut();
            let seen = seen.entry(sample.pid).or_default();
            let mut numbers = BTreeSet::new();
            let mut unnamed = false;
            for frame in &*named.frames {
                if frame.function == UNKNOWN {
                    unnamed = true;
                } else if let Some((_, number)) = frame.function.split_once("er_") {
                    let number: u32 = number.parse().unwrap();
                    numbers.insert(number);
                    let line = frame.line.unwrap_or(0);
                    let (first, last) = (number % 97 + 1, number % 97 + 9);
                    if frame.file != format!("/churn/{number:05}.py") || !(first..=last).contains(&line) {
                        *seen.wrong.entry(format!("{frame:?}")).or_default() += 1;
                    }
                }
            }
            // Two numbers in one stack, or a number after a higher one: a name is of a function that has gone.
            let number = numbers.first().copied().unwrap_or(seen.number);
            let is_gone = number < seen.number && seen.number - number < 50_000;
            seen.number = number;
            if numbers.len() > 1 || is_gone {
                *seen.wrong.entry(format!("{:?}", named.functions())).or_default() += 1;
            }
            if unnamed {
                seen.unnamed += 1;
            } else if !numbers.is_empty() {
                seen.named += 1;
            }
        },
        || {
            pids.iter()
                .all(|pid| seen.borrow().get(pid).is_some_and(|seen| seen.named + seen.unnamed >= EACH))
        },
    );
    let seen = seen.into_inner();
    for (interpreter, pid) in interpreters.iter().zip(&pids) {
        let seen = &seen[pid];
        let wrong: u64 = seen.wrong.values().sum();
        eprintln!(
            "{interpreter}: {} samples named, {} without a name, {wrong} wrong",
            seen.named, seen.unnamed
        );
    }
    for (interpreter, pid) in interpreters.iter().zip(&pids) {
        let seen = &seen[pid];
        assert!(seen.wrong.is_empty(), "{interpreter}: {:#?}", seen.wrong);
    }
}
