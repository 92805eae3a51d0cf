//! Threads that compute without the GIL: their stacks are there, and whole.

use super::sampler::Sampler;
use harness::interpreter::{Interpreter, Script};
use harness::wait;
use pyapm::intake::StackStatus;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Samples of each thread.
const EACH: u64 = 150;

fn thread_of(script: &Script, name: &str) -> u32 {
    wait::until("the script to name its threads", || {
        let log = script.log();
        // A line that is still being written has no end.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
    })
    .unwrap()
}

#[test]
fn threads_without_the_gil_show_whole_stacks() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = Script::start_all(&interpreters, "released.py").unwrap();
    let pids: Vec<u32> = scripts.iter().map(Script::pid).collect();
    let mut threads: BTreeMap<u32, (&str, usize)> = BTreeMap::new();
    for (index, script) in scripts.iter().enumerate() {
        for name in ["hash", "compress"] {
            threads.insert(thread_of(script, &format!("{name} ")), (name, index));
        }
    }
    let seen: RefCell<BTreeMap<u32, u64>> = RefCell::default();
    let wrong: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let mut sampler = Sampler::start(&pids, 8_000).unwrap();
    sampler.sample(
        "samples of threads without the GIL",
        |sample| {
            let Some((name, index)) = threads.get(&sample.tid) else { return };
            let functions = sample.stack.as_ref().map(|stack| stack.functions()).unwrap_or_default();
            // Qualified from 3.11 on, as the interpreter has it.
            let class = if interpreters[*index].minor >= 11 { "Thread." } else { "" };
            let expected = [
                format!("{name}_without_the_gil"),
                format!("{name}_thread"),
                format!("{class}run"),
                format!("{class}_bootstrap_inner"),
                format!("{class}_bootstrap"),
            ];
            // What began before: the thread waits for the others.
            let starting = seen.borrow().get(&sample.tid).is_none()
                && functions.iter().any(|function| function.contains("wait"));
            if sample.status == StackStatus::Complete
                && functions.ends_with(&expected.each_ref().map(String::as_str))
            {
                *seen.borrow_mut().entry(sample.tid).or_default() += 1;
            } else if !starting {
                let what = format!("{}: {:?} {functions:?}", interpreters[*index], sample.status);
                *wrong.borrow_mut().entry(what).or_default() += 1;
            }
        },
        || {
            threads.keys().all(|tid| seen.borrow().get(tid).is_some_and(|count| *count >= EACH))
                || wrong.borrow().values().sum::<u64>() > 50_000
        },
    );
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let seen = seen.into_inner();
    for (tid, (name, index)) in &threads {
        eprintln!("{}: {} samples of {name}, all whole", interpreters[*index], seen[tid]);
    }
}
