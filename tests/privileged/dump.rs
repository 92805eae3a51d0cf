//! `pyapm dump` on threads that stay in known places: each is shown where it is, in the state that it is in, on every
//! version of Python, and none is held up.

use harness::guard::Guard;
use harness::gunicorn::{Gunicorn, Options};
use harness::place::{self, Python};
use harness::wait;
use pyapm_model::dump::{Dump, NameSource, Stack, State, Thread};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

/// Dumps until each thing that happens now and then was seen.
const MANY: usize = 40;

/// `threads.py`, and what it says of itself. Its process group goes with it.
struct Workload {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Workload {
    fn start(python: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(python);
        command.arg(place::workloads().join("threads.py")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        harness::guard::die_with_this_thread(&mut command);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut workload = Self { child, stdin, stdout };
        assert_eq!(workload.line(), "ready");
        workload
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// How often each working thread has gone around.
    fn counts(&mut self) -> BTreeMap<String, u64> {
        writeln!(self.stdin, "how far").unwrap();
        let line = self.line();
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _gone = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ended = self.child.wait();
    }
}

fn pyapm(pid: u32, arguments: &[&str]) -> Output {
    let mut command = Command::new(place::binary().unwrap());
    command.args(["dump", "--pid", &pid.to_string()]).args(arguments).output().unwrap()
}

fn dump(pid: u32, arguments: &[&str]) -> Dump {
    let output = pyapm(pid, &[&["--json"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The threads of the only process, by name.
fn threads(dump: &Dump) -> BTreeMap<&str, &Thread> {
    assert_eq!(dump.processes.len(), 1);
    dump.processes[0].threads.iter().map(|thread| (thread.name.as_deref().unwrap(), thread)).collect()
}

/// Lines of `threads.py` by the name in their comment `WAITS: name`.
fn places() -> BTreeMap<String, u32> {
    marked("threads.py", "# WAITS: ")
}

fn marked(workload: &str, mark: &str) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(place::workloads().join(workload)).unwrap();
    let marked = (1..).zip(text.lines()).filter_map(|(number, line)| {
        let (_, name) = line.split_once(mark)?;
        Some((name.to_owned(), number))
    });
    marked.collect()
}

/// The innermost frame that is the workload's own, without the class before the function's name.
fn own(thread: &Thread) -> (&str, u32) {
    let frame = thread.frames.iter().find(|frame| frame.frame.file.ends_with("threads.py")).unwrap();
    (&frame.frame.function, frame.frame.line.unwrap())
}

/// Kind of a state, and file of one that waits for one.
fn state(thread: &Thread) -> (&'static str, Option<&str>) {
    match &thread.state {
        State::OnCpu => ("on_cpu", None),
        State::Running => ("running", None),
        State::Gil => ("gil", None),
        State::Lock { .. } => ("lock", None),
        State::Sleep { .. } => ("sleep", None),
        State::Io { file, .. } => ("io", file.as_deref()),
        State::Child { .. } => ("child", None),
        State::Call { .. } => ("call", None),
        State::Kernel => ("kernel", None),
        State::Stopped => ("stopped", None),
        State::Unknown => ("unknown", None),
    }
}

/// The threads that wait are where the source says, and nowhere else.
fn check_parked(threads: &BTreeMap<&str, &Thread>, python: &str) {
    let places = places();
    let expected = [
        ("MainThread", "answer", "io", Some("pipe")),
        ("sleeping", "sleeping", "sleep", None),
        ("locking", "locking", "lock", None),
        ("receiving", "receiving", "io", Some("unix socket")),
        ("receiving-tcp", "receiving_tcp", "io", Some("tcp 127.0.0.1:")),
        ("getting", "getting", "lock", None),
        ("polling", "polling", "io", Some("unix socket")),
        ("child", "child", "child", None),
    ];
    for (name, function, kind, file) in expected {
        let thread = threads[name];
        assert_eq!(thread.stack, Stack::Parked, "{python} {name}");
        if name == "MainThread" {
            // It has just answered the test's own question, and may be on its way back to the next.
            assert_eq!(own(thread).0, function, "{python} {name}");
            continue;
        }
        assert_eq!(own(thread), (function, places[name]), "{python} {name}");
        let (found_kind, found_file) = state(thread);
        assert_eq!(found_kind, kind, "{python} {name}: {:?}", thread.state);
        match file {
            Some(file) => assert!(found_file.unwrap().starts_with(file), "{python} {name}: {found_file:?}"),
            None => assert_eq!(found_file, None, "{python} {name}"),
        }
        assert_eq!(thread.holds_gil, Some(false), "{python} {name}");
        let outermost = &thread.frames.last().unwrap().frame.function;
        let expected = if name == "MainThread" { "<module>" } else { "_bootstrap" };
        assert_eq!(outermost.rsplit('.').next(), Some(expected), "{python} {name}");
    }
    let recursive = threads["recursive"];
    assert_eq!(recursive.left_out, None);
    let functions = recursive.frames.iter().map(|frame| frame.frame.function.as_str());
    let of_it: Vec<&str> = functions.take_while(|function| *function == "recursive").collect();
    assert_eq!(of_it.len(), 501, "{python}");
    assert_eq!(recursive.frames.len(), 504, "{python}");
    let inner = recursive.frames[1..501].iter();
    assert!(inner.into_iter().all(|frame| frame.frame.line == Some(places["recursive"])), "{python}");
}

#[test]
fn every_thread_is_shown_where_it_is() {
    let places = places();
    for python in place::interpreters().unwrap() {
        let name = python.display().to_string();
        let mut workload = Workload::start(&python, &[]);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut taken = 0;
        let start = workload.counts();
        // Without the GIL, threads that compute wait for an object's lock at most.
        let free_threaded = name.ends_with('t');
        let of_lock: &[&str] =
            if free_threaded { &["busy-2 on_cpu"] } else { &["busy-2 gil", "held by busy-1"] };
        let wanted = [&["hashing on_cpu", "hashing where it hashes", "busy-1 on_cpu"], of_lock].concat();
        while taken < MANY && !wanted.iter().all(|what| seen.contains_key(*what)) {
            let before = workload.counts();
            let dump = dump(workload.pid(), &[]);
            let after = workload.counts();
            taken += 1;
            assert_eq!(dump.notes, [""; 0], "{name}");
            let process = &dump.processes[0];
            assert_eq!(process.pid, workload.pid());
            assert!(process.command.last().unwrap().ends_with("threads.py"), "{name}");
            let threads = threads(&dump);
            assert_eq!(threads.len(), 13, "{name}: {:?}", threads.keys());
            for thread in threads.values() {
                assert_eq!(thread.name_source, NameSource::Python, "{name}: {thread:?}");
                assert_eq!(thread.is_main, thread.name.as_deref() == Some("MainThread"), "{name}");
            }
            assert!(process.threads[0].is_main);
            check_parked(&threads, &name);
            for (thread, function) in [("busy-1", "busy"), ("busy-2", "busy"), ("hashing", "hashing")] {
                let found = threads[thread];
                *seen.entry(format!("{thread} {}", state(found).0)).or_default() += 1;
                if found.stack == Stack::Unreadable {
                    continue;
                }
                assert_eq!(own(found).0, function, "{name} {thread}");
                assert!(matches!(found.stack, Stack::Parked | Stack::Sampled), "{name}: {found:?}");
                let waits = match &found.state {
                    State::Gil => !free_threaded,
                    State::Lock { .. } => free_threaded,
                    state => *state == State::OnCpu,
                };
                assert!(waits, "{name}: {found:?}");
                let line = own(found).1;
                let head = if function == "busy" { places["busy"] - 1 } else { places["hashing"] - 1 };
                assert!((head..=head + 2).contains(&line), "{name} {thread}: line {line}");
                if line == places["hashing"] && thread == "hashing" {
                    *seen.entry("hashing where it hashes".to_owned()).or_default() += 1;
                }
            }
            let gil = process.gil.unwrap();
            if let Some(holder) = gil.holder {
                let holder = process.threads.iter().find(|thread| thread.tid == holder).unwrap();
                *seen.entry(format!("held by {}", holder.name.as_deref().unwrap())).or_default() += 1;
            }
            // Nobody was held up: all that works has gone on while it was looked at.
            for (thread, count) in before.iter().filter(|(thread, _)| *thread != "hashing") {
                assert!(after[thread] > *count, "{name}: {thread} did not get on, {before:?} {after:?}");
            }
        }
        // One round of this one may take longer than a dump.
        assert!(workload.counts()["hashing"] > start["hashing"], "{name}");
        eprintln!("{name}: {taken} dumps, {seen:?}");
        for what in wanted {
            assert!(seen.contains_key(what), "{name}: `{what}` never in {taken} dumps: {seen:?}");
        }
    }
}

#[test]
fn local_variables_are_private_unless_asked_for() {
    for python in place::interpreters().unwrap() {
        let name = python.display().to_string();
        let workload = Workload::start(&python, &["--no-busy"]);
        for format in [&[][..], &["--json"]] {
            let output = String::from_utf8(pyapm(workload.pid(), format).stdout).unwrap();
            assert!(output.contains("sleeping"), "{name}");
            assert!(!output.contains("sesame") && !output.contains("secret"), "{name}: {output}");
        }
        let dump = dump(workload.pid(), &["--locals"]);
        let threads = threads(&dump);
        let locals = threads["sleeping"].frames[0].locals.as_ref().unwrap();
        let found: Vec<(&str, &str)> =
            locals.iter().map(|local| (local.name.as_str(), local.value.as_str())).collect();
        let shape = found[1].1.to_owned();
        assert!(shape.starts_with("<Shape object at 0x"), "{name}: {shape}");
        let expected = [
            ("secret", "'sesame'"),
            ("shape", shape.as_str()),
            ("number", "42"),
            ("negative", "-7"),
            ("large", "1267650600228229401496703205376"),
            ("ratio", "2.5"),
            ("nothing", "None"),
            ("yes", "True"),
            ("huge", "<int of up to 4020 bits>"),
            ("text", "'it\\'s\\n€'"),
            ("raw", "<bytes of 3>"),
            ("items", "<list of 3>"),
            ("pair", "<tuple of 2>"),
            ("table", "<dict of 1>"),
            ("members", "<set of 2>"),
            ("cell", "'in a cell'"),
        ];
        assert_eq!(found, expected, "{name}");
        let depths: Vec<&str> = threads["recursive"].frames[..501]
            .iter()
            .map(|frame| frame.locals.as_ref().unwrap()[0].value.as_str())
            .collect();
        let expected: Vec<String> = (0..=500).map(|depth| depth.to_string()).collect();
        assert_eq!(depths, expected, "{name}");
    }
}

#[test]
fn many_threads_and_deep_stacks() {
    for python in place::interpreters().unwrap() {
        let name = python.display().to_string();
        for sleepers in [64, 500] {
            let workload = Workload::start(&python, &["--no-busy", "--sleepers", &sleepers.to_string()]);
            let dump = dump(workload.pid(), &[]);
            let threads = threads(&dump);
            check_parked(&threads, &name);
            for number in 0..sleepers {
                let thread = threads[format!("sleeper-{number}").as_str()];
                assert_eq!((thread.stack, state(thread).0), (Stack::Parked, "sleep"), "{name} {number}");
                let innermost = &thread.frames[0].frame.function;
                assert_eq!(innermost.rsplit('.').next(), Some("run"), "{name} {number}");
            }
        }
        let workload = Workload::start(&python, &["--no-busy", "--depth", "20000"]);
        let dump = dump(workload.pid(), &[]);
        let threads = threads(&dump);
        let deep = threads["recursive"];
        let left_out = deep.left_out.unwrap();
        let given = deep.frames.len() as u64;
        assert_eq!(given + left_out.frames.unwrap(), 20_004, "{name}");
        assert_eq!(
            deep.frames.last().unwrap().frame.function.rsplit('.').next(),
            Some("_bootstrap"),
            "{name}"
        );
        assert!((left_out.after as u64) < given, "{name}");
    }
}

#[test]
fn text_for_people() {
    let python = place::interpreters().unwrap().pop().unwrap();
    let workload = Workload::start(&python, &["--depth", "3"]);
    let output = pyapm(workload.pid(), &[]);
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = places()["sleeping"];
    for part in [
        &format!("Process {}: ", workload.pid()),
        "\nGIL: ",
        ", 13 threads\n",
        &format!(
            "\nThread {} \"MainThread\" (main): blocked in read on fd 0 (pipe)\n    answer (",
            workload.pid()
        ),
        "\"sleeping\": sleeping (clock_nanosleep)\n    sleeping (",
        &format!("threads.py:{line})\n"),
        "\"locking\": waiting for a lock (futex)\n",
        "\"child\": waiting for a child process (wait4)\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn all_processes_of_an_application() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let worker = *shop.workers().unwrap().first().unwrap();
    let dump = dump(worker, &["--application"]);
    let mut found: Vec<u32> = dump.processes.iter().map(|process| process.pid).collect();
    assert_eq!(found.first(), Some(&shop.master()));
    found.sort_unstable();
    let mut expected: Vec<u32> = shop.workers().unwrap().into_iter().chain([shop.master()]).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for process in &dump.processes {
        assert!(process.problem.is_none() && !process.threads[0].frames.is_empty(), "{process:?}");
    }
    let one = super::dump::dump(worker, &[]);
    assert_eq!(one.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [worker]);
}

#[test]
fn processes_that_end_meanwhile() {
    let python = place::interpreters().unwrap().pop().unwrap();
    for round in 0..30 {
        let mut command = Command::new(&python);
        command.args(["-c", "import threading, time\nfor _ in range(20): threading.Thread(target=time.sleep, args=(.01,)).start(); time.sleep(.005)"]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(8 * round));
        let output = pyapm(child.id(), &["--json", "--locals"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                let _well_formed: Dump = serde_json::from_slice(&output.stdout).unwrap();
            }
            Some(1) => assert!(stderr.starts_with("error: ") && output.stdout.is_empty(), "{stderr}"),
            other => panic!("{other:?}: {stderr}"),
        }
        child.wait().unwrap();
    }
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let output = pyapm(child.id(), &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("no process has the pid") && stderr.contains("hint: "), "{stderr}");
}

#[test]
fn a_stopped_process_is_told_as_one() {
    let python = place::interpreters().unwrap().pop().unwrap();
    let workload = Workload::start(&python, &["--no-busy"]);
    let pid = nix::unistd::Pid::from_raw(workload.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    wait::until("the process to stop", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.contains(") T ").then_some(()))
    })
    .unwrap();
    let dump = dump(workload.pid(), &[]);
    let threads = threads(&dump);
    assert_eq!(threads["sleeping"].state, State::Stopped);
    assert_eq!(own(threads["sleeping"]), ("sleeping", places()["sleeping"]));
}

#[test]
fn suspended_tasks_of_asyncio() {
    let marks = marked("tasks.py", "# AWAITS: ");
    for python in place::interpreters().unwrap() {
        let name = python.display().to_string();
        let minor: u32 = name.rsplit("python3.").next().unwrap().parse().unwrap();
        let mut command = Command::new(&python);
        command.arg(place::workloads().join("tasks.py"));
        let folder = tempfile::tempdir().unwrap();
        let mut process = Guard::start(&mut command, &folder.path().join("log"), None).unwrap();
        wait::until("the tasks to be in their places", || {
            process.check_alive()?;
            Ok(process.log().contains("ready").then_some(()))
        })
        .unwrap();
        let dump = dump(process.pid(), &[]);
        let process = &dump.processes[0];
        let tasks = process.tasks.as_ref();
        let mut found: Vec<_> = tasks
            .unwrap()
            .iter()
            .map(|task| {
                let frames: Vec<(&str, Option<u32>)> = task
                    .frames
                    .iter()
                    .filter(|frame| frame.file.ends_with("workloads/tasks.py"))
                    .map(|frame| (frame.function.as_str(), marks.get(frame.function.as_str()).copied()))
                    .collect();
                for frame in task.frames.iter().filter(|frame| marks.contains_key(frame.function.as_str())) {
                    assert_eq!(frame.line, marks.get(frame.function.as_str()).copied(), "{name}: {frame:?}");
                }
                assert_eq!(task.tid, process.pid);
                let functions: Vec<&str> = frames.iter().map(|(function, _)| *function).collect();
                // The number that a task without a name has is not the test's business.
                let task_name = if task.name.starts_with("Task-") { "unnamed" } else { task.name.as_str() };
                (task_name, functions, task.awaited_by.clone())
            })
            .collect();
        found.sort();
        let main = vec!["main".to_owned()];
        // A group says what it waits for from 3.14 on.
        let group = if minor >= 14 { vec!["group".to_owned()] } else { Vec::new() };
        let mut expected = vec![
            ("first", vec!["innermost", "middle", "worker"], main.clone()),
            ("group", vec!["group"], vec![]),
            ("in the group", vec!["sleeper"], group),
            ("main", vec!["main", "start"], vec![]),
            ("unnamed", vec!["sleeper"], main),
        ];
        if minor < 11 {
            expected.retain(|(name, ..)| !name.contains("group"));
        }
        assert_eq!(found, expected, "{name}");
        let blocked =
            process.threads.iter().find(|thread| thread.name.as_deref() == Some("blocked")).unwrap();
        assert_eq!(blocked.task.as_deref(), Some("busybody"), "{name}");
        let held_up = blocked.frames.iter().find(|frame| frame.frame.function == "held_up").unwrap();
        assert_eq!(held_up.frame.line, Some(marks["held_up"]), "{name}");
    }
}

#[test]
fn structs_full_of_garbage() {
    for python in place::interpreters().unwrap() {
        for what in ["state", "frame", "names"] {
            // Most of each is waiting for programs to start: they do so together.
            std::thread::scope(|scope| {
                for seed in 0..4 {
                    let python = &python;
                    scope.spawn(move || garbage(python, what, seed));
                }
            });
        }
    }
}

/// A dump of a process that writes over these structs of its own: it has its two threads, whatever their stacks look like.
fn garbage(python: &Path, what: &str, seed: u32) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(place::workloads().join("scribbling.py")).args([&seed.to_string(), what]);
    let mut scribbler = Guard::start(&mut command, &folder.path().join("log"), None).unwrap();
    wait::until("the scribbler to be ready", || {
        scribbler.check_alive()?;
        Ok(scribbler.log().contains("ready").then_some(()))
    })
    .unwrap();
    let output = pyapm(scribbler.pid(), &["--json", "--locals"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let name = format!("{} {what} {seed}", python.display());
    assert_eq!(output.status.code(), Some(0), "{name}: {stderr}");
    let dump: Dump = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(dump.processes[0].threads.len(), 2, "{name}");
}
