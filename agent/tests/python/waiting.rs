//! Threads that wait: their stacks read from outside, equal to what the interpreter says of them; a thread
//! that runs has none; a forked child has the same, also when its memory cannot be read any more.

use crate::interpreters::{Running, all, python, script};
use pyapm::python::{BufferMemory, Interpreter, ProcessMemory, inspect, parked_stack};
use pyapm::symbols::{Counts, Limits, Symbols};
use pyapm_model::line::Frame;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Thread {
    tid: u32,
    stack: Vec<(String, String, u32)>,
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) }, 0);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

fn parked(pid: u32, tid: u32, interpreter: &Interpreter) -> Vec<pyapm_wire::python::Frame> {
    parked_stack(pid, tid, interpreter, &ProcessMemory::new(pid))
        .unwrap_or_else(|| panic!("{}: no stack of thread {tid} of {pid}", interpreter.version))
}

fn check(interpreter: &Path) -> String {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut command = python(interpreter, &script("waiting.py"));
    command.arg(output.path());
    let mut running = Running::start(command);
    let pid = running.pid();
    let truth: BTreeMap<String, Thread> =
        serde_json::from_slice(&std::fs::read(output.path()).unwrap()).unwrap();
    assert_eq!(truth.len(), 5);

    let found = inspect(pid).unwrap();
    let memory = ProcessMemory::new(pid);
    let mut symbols = Symbols::new(Limits::default());
    let mut main = None;
    let mut frames_seen = 0;
    for (name, thread) in &truth {
        let frames = parked(pid, thread.tid, &found);
        let named = symbols.resolve(pid, &found, &memory, &frames);
        let expected: Vec<Frame> = thread
            .stack
            .iter()
            .map(|(function, file, line)| Frame {
                function: function.as_str().into(),
                file: file.as_str().into(),
                line: Some(*line),
            })
            .collect();
        assert_eq!(*named, *expected, "{} {name}", found.version);
        frames_seen += named.len();
        if name == "main" {
            main = Some((frames, expected));
        }
    }
    assert_eq!(symbols.counts(), Counts::default());
    let (frames, expected) = main.unwrap();

    // The thread that never waits is the one that is not in the list.
    let waiting: Vec<u32> = truth.values().map(|thread| thread.tid).collect();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let tid: u32 = task.unwrap().file_name().to_string_lossy().parse().unwrap();
        let stack = parked_stack(pid, tid, &found, &memory);
        // It may be asleep for a moment, waiting for the GIL: then its stack is a true one.
        if let (false, Some(stack)) = (waiting.contains(&tid), stack) {
            let named = symbols.resolve(pid, &found, &memory, &stack);
            assert!(named.iter().any(|frame| frame.function == "busy"), "{named:?}");
        }
    }

    // The child waits elsewhere in the same function, and has its parent's code objects.
    running.tell("fork");
    let child: u32 = running.line().parse().unwrap();
    symbols.fork(pid, child, monotonic_ns());
    let gone = BufferMemory::new();
    let inherited = symbols.resolve(child, &found, &gone, &frames);
    assert_eq!(*inherited, *expected);
    assert_eq!(symbols.counts(), Counts::default());
    let of_child = (0..500).find_map(|_| {
        let stack = parked_stack(child, child, &found, &ProcessMemory::new(child));
        std::thread::sleep(Duration::from_millis(if stack.is_some() { 0 } else { 10 }));
        stack
    });
    let of_child = of_child.unwrap_or_else(|| panic!("{}: no stack of the child", found.version));
    let named = symbols.resolve(child, &found, &gone, &of_child);
    let functions: Vec<&str> = named.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(functions, ["wait_for_the_test", "<module>"], "{}", found.version);
    let of_fresh = inspect(child).unwrap();
    // All is inherited but what is said of the process itself: its threads, and the way to its files.
    let mut expected = found.clone();
    expected.thread_state_route.clone_from(&of_fresh.thread_state_route);
    let seen_from_child = |path: &Path| -> PathBuf {
        let path = path.to_str().unwrap();
        path.replacen(&format!("/proc/{pid}/"), &format!("/proc/{child}/"), 1).into()
    };
    expected.contexts.image = seen_from_child(&expected.contexts.image);
    if let Some(raising) = &mut expected.raising {
        raising.path = seen_from_child(&raising.path);
    }
    if let Some(deaths) = &mut expected.code_deaths {
        deaths.path = seen_from_child(&deaths.path);
    }
    assert_eq!(of_fresh, expected);
    assert!(of_fresh.thread_state_route.ends_with("confirmed on 1 of 1 threads"));

    running.tell("end");
    format!(
        "{} {:?}: {} threads, {frames_seen} frames equal; {}",
        found.version,
        found.embedding,
        truth.len(),
        found.thread_state_route
    )
}

#[test]
fn waiting_threads_of_every_interpreter() {
    for interpreter in all() {
        println!("{}", check(&interpreter));
    }
}

/// A thread that sleeps for moments at a time: what is given of it is always one of the two stacks that
/// exist, never a mixture.
#[test]
fn no_stack_is_torn() {
    const SHALLOW: &[(&str, u32)] = &[("shallow", 6), ("flutter", 23), ("<module>", 28)];
    const DEEP: &[(&str, u32)] =
        &[("deepest", 18), ("deeper", 14), ("deep", 10), ("flutter", 24), ("<module>", 28)];
    for interpreter in all() {
        let running = Running::start(python(&interpreter, &script("fluttering.py")));
        let pid = running.pid();
        let found = inspect(pid).unwrap();
        let memory = ProcessMemory::new(pid);
        let mut symbols = Symbols::new(Limits::default());
        let (mut shallow, mut deep, mut refused) = (0, 0, 0);
        let end = Instant::now() + PATIENCE;
        // A loaded machine may need many looks for one that falls into a sleep as a whole.
        while shallow + deep + refused <= 3000 || shallow <= 20 || deep <= 20 {
            assert!(
                Instant::now() < end,
                "{}: {shallow} shallow, {deep} deep, {refused} refused",
                found.version
            );
            let Some(frames) = parked_stack(pid, pid, &found, &memory) else {
                refused += 1;
                continue;
            };
            let named = symbols.resolve(pid, &found, &memory, &frames);
            let stack: Vec<(&str, u32)> =
                named.iter().map(|frame| (frame.function.as_str(), frame.line.unwrap())).collect();
            match &*stack {
                SHALLOW => shallow += 1,
                DEEP => deep += 1,
                // The script had said `ready` and was not there yet.
                [("<module>", 27)] if shallow + deep == 0 => {}
                other => panic!("{}: {other:?} is no stack of this program", found.version),
            }
        }
        println!("{}: {shallow} shallow, {deep} deep, {refused} refused, 0 torn", found.version);
    }
}
