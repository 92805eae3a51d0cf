//! `record --mode wall`, `gil` and `offcpu`: how long, where and for what threads wait, against what the program measures
//! of itself; and threads in numbers, threads that never run, and processes that end while they wait.

use harness::inspect::Usage;
use harness::interpreter::Interpreter;
use harness::place::{self, Python};
use harness::record::{Recorded, Recording, Script};
use harness::wait;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a share may be off by: of a function's whole time.
const TOLERANCE: f64 = 0.02;
const SECONDS: &str = "10";
/// Of the samples, in nanoseconds.
const PERIOD: f64 = 1e9 / 999.0;

/// A recording in pyapm's own format.
struct Waits {
    file: Value,
}

impl Waits {
    fn of(recorded: &Recorded) -> Self {
        Self { file: serde_json::from_slice(&recorded.file).unwrap() }
    }

    fn stacks(&self) -> &[Value] {
        self.file["stacks"].as_array().unwrap()
    }

    /// Functions of a stack, innermost first.
    fn functions(&self, stack: &Value) -> Vec<&str> {
        let number = |index: &Value| usize::try_from(index.as_u64().unwrap()).unwrap();
        let frames = stack["frames"].as_array().unwrap();
        frames.iter().map(|index| self.file["frames"][number(index)]["function"].as_str().unwrap()).collect()
    }

    /// Nanoseconds of stacks with this function, by state.
    fn by_state(&self, function: &str) -> BTreeMap<String, f64> {
        self.sums(self.stacks().iter().filter(|stack| self.functions(stack).contains(&function)))
    }

    /// The same of one process.
    fn by_state_of(&self, pid: u32, function: &str) -> BTreeMap<String, f64> {
        self.sums(self.stacks_of(pid, function))
    }

    fn sums<'a>(&self, stacks: impl Iterator<Item = &'a Value>) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for stack in stacks {
            *sums.entry(stack["state"].as_str().unwrap().to_owned()).or_default() +=
                stack["nanoseconds"].as_u64().unwrap() as f64;
        }
        sums
    }

    /// Nanoseconds off the CPU of a process's stacks with this function.
    fn away_of(&self, pid: u32, function: &str) -> f64 {
        self.by_state_of(pid, function)
            .iter()
            .filter(|(state, _)| *state != "cpu")
            .map(|(_, time)| time)
            .sum()
    }

    fn stacks_of<'a>(&'a self, pid: u32, function: &str) -> impl Iterator<Item = &'a Value> {
        self.stacks().iter().filter(move |stack| {
            let thread = usize::try_from(stack["thread"].as_u64().unwrap()).unwrap();
            self.file["threads"][thread]["pid"] == pid && self.functions(stack).contains(&function)
        })
    }

    /// Threads of a process that have a stack with this function.
    fn threads_of(&self, pid: u32, function: &str) -> BTreeSet<u64> {
        self.stacks_of(pid, function).map(|stack| stack["thread"].as_u64().unwrap()).collect()
    }
}

fn assert_nothing_lost(recorded: &Recorded) {
    assert!(recorded.said.contains("lost: 0"), "{}", recorded.said);
}

/// Every wait is exact but for the instant between the program's look at the clock and the kernel's; on-CPU time of the
/// same functions is sampled.
#[test]
fn waits_are_as_long_as_the_program_measures() {
    let folder =
        tempfile::Builder::new().prefix("pyapm-waits-").tempdir_in(place::root().join("target")).unwrap();
    let python = Python::first().unwrap().program("python");
    let script = Script::start(&python, "waits.py", &[SECONDS, folder.path().to_str().unwrap()]).unwrap();
    let arguments = ["--mode", "wall", "-r", "999", "--pid", &script.pid().to_string()];
    let mut recording = Recording::start("waits.json", &arguments, &[]).unwrap();
    wait::until("the recording to begin", || {
        recording.check_alive()?;
        Ok(recording.said().contains("recording").then_some(()))
    })
    .unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    let recorded = recording.wait().unwrap();
    assert!(recorded.status.success(), "{}", recorded.said);
    assert_nothing_lost(&recorded);
    let said = script.wait().unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("measured ")).unwrap();
    let measured: BTreeMap<String, BTreeMap<String, f64>> = serde_json::from_str(line).unwrap();
    let waits = Waits::of(&recorded);
    let mut wrong = Vec::new();
    for (function, reason) in [
        ("sleeping", "sleep"),
        ("locking", "lock"),
        ("receiving", "socket"),
        ("accepting", "socket"),
        ("piping", "pipe"),
        ("polling", "events"),
        ("syncing", "disk"),
        ("parenting", "child"),
        ("computing", "gil"),
    ] {
        let own = &measured[function];
        let (wall, cpu, queued) = (own["wall"], own["cpu"], own["queued"]);
        let states = waits.by_state(function);
        let of = |state: &str| states.get(state).copied().unwrap_or(0.0);
        let away: f64 = states.iter().filter(|(state, _)| *state != "cpu").map(|(_, time)| time).sum();
        // What is neither the reason nor waiting for a CPU is waiting for the interpreter's lock after it.
        let gil = if reason == "gil" { 0.0 } else { of("gil") };
        for (what, found, due) in [
            ("off the CPU", away, wall - cpu),
            ("whole", away + of("cpu"), wall),
            (reason, of(reason) + gil, wall - cpu - queued),
            ("waiting for a CPU", of("runnable"), queued),
        ] {
            let off = (found - due) / wall;
            // What is sampled has a sampling error: three times its standard deviation, of `cpu` / PERIOD samples.
            let sampled = if what == "whole" { 3.0 * (cpu * PERIOD).sqrt() / wall } else { 0.0 };
            eprintln!(
                "{function}: {what} {:.1} ms, {:.1} ms are due of {:.1} ({:+.2} %)",
                found / 1e6,
                due / 1e6,
                wall / 1e6,
                100.0 * off
            );
            if off.abs() > TOLERANCE + sampled {
                wrong.push(format!("{function}, {what}: {found} ns, not {due}; {states:?}"));
            }
        }
        assert!(gil < 0.1 * wall, "{function} waits for the GIL: {states:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Threads that a program has of each kind.
const CROWDS: [usize; 3] = [1, 64, 500];

/// Threads that wake again and again, and as many that never do: each is there, for as long as it lived, on builds of
/// both kinds, with one lock for all interpreters and with one for each.
#[test]
fn threads_in_numbers() {
    let all = Interpreter::all().unwrap();
    let builds = [(9, false), (11, true), (14, false), (15, true)].map(|(minor, shared)| {
        let is = |one: &&Interpreter| (one.minor, one.shared, one.free_threaded) == (minor, shared, false);
        all.iter().find(is).unwrap()
    });
    // Not all of them awake at once: there are thousands.
    let crowd = |interpreter: &Interpreter, threads: usize| {
        harness::interpreter::Script::start_with("crowd.py", |scratch| {
            let mut command = interpreter.command("crowd.py", scratch);
            command.args([&threads.to_string(), "0", "0.5"]);
            Ok(command)
        })
        .unwrap()
    };
    let crowds: Vec<_> = builds
        .iter()
        .flat_map(|build| CROWDS.map(|threads| (build, threads, crowd(build, threads))))
        .collect();
    let cpu_ns = |pid: u32| Usage::of(pid).unwrap().cpu_seconds * 1e9;
    let of_processes: Vec<String> =
        crowds.iter().flat_map(|(_, _, script)| ["--pid".to_owned(), script.pid().to_string()]).collect();
    let of_processes: Vec<&str> = of_processes.iter().map(String::as_str).collect();
    for idle in [&["--idle"][..], &[]] {
        let before: Vec<f64> = crowds.iter().map(|(_, _, script)| cpu_ns(script.pid())).collect();
        let arguments = [&["--mode", "wall", "-d", "2"][..], &of_processes, idle].concat();
        let recorded = Recording::start("crowd.json", &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success(), "{}", recorded.said);
        assert_nothing_lost(&recorded);
        let waits = Waits::of(&recorded);
        let duration = waits.file["about"]["duration_ns"].as_u64().unwrap() as f64;
        for ((build, threads, script), before) in crowds.iter().zip(before) {
            let pid = script.pid();
            let expected = if idle.is_empty() { 0 } else { *threads };
            assert_eq!(waits.threads_of(pid, "ticking").len(), *threads, "{build}: {}", recorded.said);
            assert_eq!(waits.threads_of(pid, "parked").len(), expected, "{build}: {}", recorded.said);
            // What is missing of those that tick was on a CPU, and so is what the clock of the kernel does not tell.
            let on_cpu = cpu_ns(pid) - before + 2e7;
            for (function, missing) in [("ticking", on_cpu), ("parked", 0.0)] {
                let whole = waits.away_of(pid, function);
                let due = duration * waits.threads_of(pid, function).len() as f64;
                eprintln!(
                    "{build}, {threads} {function}: {:.2} s off the CPU of {:.2} s",
                    whole / 1e9,
                    due / 1e9
                );
                assert!(whole <= due * (1.0 + TOLERANCE), "{build}: {function}: {whole} of {due}");
                assert!(
                    whole >= due * (1.0 - TOLERANCE) - missing,
                    "{build}: {function}: {whole} of {due}, {missing} on a CPU"
                );
            }
        }
        if idle.is_empty() {
            // The main threads sleep all the time, too.
            let asleep: usize = crowds.iter().map(|(_, threads, _)| threads + 1).sum();
            let said = format!("left out: {asleep} threads that slept all the time");
            assert!(recorded.said.contains(&said), "no {said}: {}", recorded.said);
        }
    }
}

/// Only one thread holds the lock at a time: its time is no more than the time there was, and the time of those who
/// compute is all of it.
#[test]
fn one_thread_at_a_time_holds_the_gil() {
    let python = Python::first().unwrap().program("python").display().to_string();
    let script = Script::start(python.as_ref(), "pythons/crowd.py", &[".", "4", "2"]).unwrap();
    let pid = script.pid().to_string();
    let record = |mode: &str| {
        let arguments = ["--mode", mode, "--pid", &pid, "-d", "3", "-r", "999"];
        let recorded = Recording::start("gil.json", &arguments, &[]).unwrap().wait().unwrap();
        assert_nothing_lost(&recorded);
        recorded
    };
    let held = Waits::of(&record("gil"));
    let duration = held.file["about"]["duration_ns"].as_u64().unwrap() as f64;
    let whole = held.file["nanoseconds"].as_u64().unwrap() as f64;
    let burning: f64 = held.by_state("burning").values().sum();
    eprintln!(
        "{:.3} s with the GIL of {:.3} s, {:.3} s of it computing",
        whole / 1e9,
        duration / 1e9,
        burning / 1e9
    );
    assert!(whole <= duration * 1.05 && whole >= duration * 0.9, "{whole} of {duration}");
    assert!(burning >= whole * 0.9, "{burning} of {whole}");
    // Off the CPU there is nothing on a CPU.
    let away = Waits::of(&record("offcpu"));
    assert!(away.stacks().iter().all(|stack| stack["state"] != "cpu"));
    assert!(away.by_state("burning").contains_key("gil"), "{:?}", away.by_state("burning"));
}

/// Every version keeps its lock elsewhere. All in one recording.
#[test]
fn every_interpreter_tells_its_own_lock_from_others() {
    let interpreters = Interpreter::all().unwrap();
    let scripts = harness::interpreter::Script::start_all(&interpreters, "contention.py").unwrap();
    let pids: Vec<String> = scripts.iter().map(|script| script.pid().to_string()).collect();
    let mut arguments = vec!["--mode", "offcpu", "-d", "3"];
    pids.iter().for_each(|pid| arguments.extend(["--pid", pid]));
    let recorded = Recording::start("locks.json", &arguments, &[]).unwrap().wait().unwrap();
    let waits = Waits::of(&recorded);
    for (interpreter, script) in interpreters.iter().zip(&scripts) {
        let of = |function: &str| waits.by_state_of(script.pid(), function);
        let (computing, locking, sleeping) = (of("computing"), of("locking"), of("sleeping"));
        eprintln!("{interpreter}: computing {computing:?}, locking {locking:?}, sleeping {sleeping:?}");
        if interpreter.free_threaded {
            // Nobody needs the lock, but the collector stops all threads, and they wait for it to end.
            let all = [&computing, &locking, &sleeping];
            assert!(all.iter().all(|states| !states.contains_key("gil")), "{interpreter}: {all:?}");
        } else {
            assert!(
                computing.contains_key("gil") && !computing.contains_key("lock"),
                "{interpreter}: {computing:?}"
            );
        }
        assert!(locking.contains_key("lock"), "{interpreter}: {locking:?}");
        assert!(
            sleeping.contains_key("sleep") && (interpreter.free_threaded || !sleeping.contains_key("lock")),
            "{interpreter}: {sleeping:?}"
        );
    }
}

/// Forks, programs started and ends, while others of the same process wait: nothing is recorded of who is not there, and
/// nothing of it for longer than the recording.
#[test]
fn processes_that_end_while_they_wait() {
    // One of each kind: before 3.11, with a lock of its own for each interpreter, and the newest.
    let mut interpreters = Interpreter::all().unwrap();
    interpreters.retain(|interpreter| !interpreter.shared && [9, 13, 15].contains(&interpreter.minor));
    // Without the GIL, nothing waits for it.
    interpreters.retain(|interpreter| !interpreter.free_threaded);
    interpreters.dedup_by_key(|interpreter| interpreter.minor);
    for script in ["storm.py", "scribble.py"] {
        let scripts = harness::interpreter::Script::start_all(&interpreters, script).unwrap();
        let pids: Vec<String> = scripts.iter().map(|script| script.pid().to_string()).collect();
        let mut arguments = vec!["--mode", "wall", "--idle", "-d", "4"];
        for pid in &pids {
            arguments.extend(["--pid", pid]);
        }
        let recorded = Recording::start("ends.json", &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success(), "{script}: {}", recorded.said);
        eprintln!("{script}: {}", recorded.said);
        let waits = Waits::of(&recorded);
        let duration = waits.file["about"]["duration_ns"].as_u64().unwrap() as f64;
        let mut away: BTreeMap<u64, f64> = BTreeMap::new();
        for stack in waits.stacks().iter().filter(|stack| stack["state"] != "cpu") {
            *away.entry(stack["thread"].as_u64().unwrap()).or_default() +=
                stack["nanoseconds"].as_u64().unwrap() as f64;
        }
        assert!(away.len() >= interpreters.len(), "{script}: {} threads", away.len());
        for (thread, time) in away {
            assert!(
                time <= duration * (1.0 + TOLERANCE),
                "{script}: thread {thread} was away for {time} of {duration}"
            );
        }
    }
}
