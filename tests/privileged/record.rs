//! `record`: the time is where the program itself says that it was, in every process that is asked for, in every format,
//! and the file is written however the recording ends.

use harness::inspect::Usage;
use harness::place::{self, Python};
use harness::pyapm;
use harness::record::{Recorded, Recording, Script};
use harness::wait;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

const PARTS: [&str; 3] = ["sixty", "thirty", "ten"];
/// Standard deviations of a binomial share. One of nine comparisons fails by chance once in some 1,700 runs.
const DEVIATIONS: f64 = 4.0;
const RATE: &str = "999";

/// Samples by the name of the function that ran, `--function` given.
fn by_function(recorded: &Recorded) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (stack, count) in recorded.folded().unwrap() {
        let innermost = stack.last().unwrap();
        let name = innermost.split(" (").next().unwrap();
        *counts.entry(name.to_owned()).or_default() += count;
    }
    counts
}

/// The shares found are those of the truth, as near as so many samples can tell.
fn assert_shares(what: &str, counts: &BTreeMap<String, u64>, truth: [f64; 3]) {
    let found = PARTS.map(|part| counts.get(part).copied().unwrap_or(0) as f64);
    let (samples, whole) = (found.iter().sum::<f64>(), truth.iter().sum::<f64>());
    for ((part, found), truth) in PARTS.iter().zip(found).zip(truth) {
        let (share, due) = (found / samples, truth / whole);
        let bound = DEVIATIONS * (due * (1.0 - due) / samples).sqrt();
        eprintln!(
            "{what}: {part} has {:.2} % of {samples} samples, {:.2} % are due, +- {:.2}",
            100.0 * share,
            100.0 * due,
            100.0 * bound
        );
        assert!((share - due).abs() <= bound, "{what}: {part} has {share}, not {due} +- {bound}");
    }
    let all: u64 = counts.values().sum();
    assert!(samples >= 0.95 * all as f64, "{what}: {samples} of {all} samples are in the three: {counts:?}");
}

/// `done A B C`: what each part has really had.
fn truth(said: &str) -> [f64; 3] {
    let line = said.lines().find_map(|line| line.strip_prefix("done ")).unwrap();
    let parts: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    parts.try_into().unwrap()
}

fn split() -> String {
    place::workloads().join("split.py").display().to_string()
}

#[test]
fn cpu_time_is_where_the_program_says_it_was() {
    for python in Python::all().unwrap() {
        let script = Script::start(&python.program("python"), "split.py", &["6"]).unwrap();
        let pid = script.pid().to_string();
        let arguments = ["--pid", &pid, "-r", RATE, "-d", "5", "--function"];
        let recorded = Recording::start("split.folded", &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success(), "{}", recorded.said);
        let said = script.wait().unwrap();
        eprintln!("{}: {}", python.name, recorded.said);
        assert!(recorded.said.contains("lost: 0\n"), "{}", recorded.said);
        assert_shares(&python.name, &by_function(&recorded), truth(&said));
    }
}

#[test]
fn a_program_is_followed_from_its_start_to_its_end() {
    for python in Python::all().unwrap() {
        let program = python.program("python").display().to_string();
        let recording =
            Recording::start("run.txt", &["-r", RATE, "--function"], &[&program, &split(), "3"]).unwrap();
        let recorded = recording.wait().unwrap();
        eprintln!("{}: {}", python.name, recorded.said);
        assert!(recorded.status.success(), "{}", recorded.said);
        let counts = by_function(&recorded);
        let truth = truth(&recorded.said);
        // Start-up has a share of its own in so short a run: compared are the parts among themselves.
        let parts: BTreeMap<String, u64> =
            counts.into_iter().filter(|(name, _)| PARTS.contains(&name.as_str())).collect();
        assert_shares(&python.name, &parts, truth);
        // Every sample stands for the same time, so all of them together are the CPU time of the parts.
        let samples: u64 = parts.values().sum();
        let due = truth.iter().sum::<f64>() * 999.0;
        assert!((0.9..1.1).contains(&(samples as f64 / due)), "{samples} samples, {due} are due");
    }
}

#[test]
fn a_programs_exit_code_is_passed_on_and_shells_are_followed() {
    let python = Python::first().unwrap().program("python").display().to_string();
    let code = "import sys\nfor n in range(4_000_000): pass\nprint('from the program')\nsys.exit(7)";
    let recorded =
        Recording::start("code.folded", &["-r", RATE], &[&python, "-c", code]).unwrap().wait().unwrap();
    assert_eq!(recorded.status.code(), Some(7), "{}", recorded.said);
    assert!(recorded.said.contains("from the program\n"));
    assert!(recorded.folded().unwrap().iter().any(|(stack, _)| stack[0] == "<module> (<string>:2)"));
    // A shell that starts Python and waits for it.
    let line = format!("'{python}' '{}' 1; exit 3", split());
    let recorded = Recording::start("shell.folded", &["-r", RATE, "--function"], &["sh", "-c", &line])
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(recorded.status.code(), Some(3), "{}", recorded.said);
    assert!(by_function(&recorded).contains_key("sixty"), "{}", recorded.said);
    let missing = Recording::start("none.folded", &[], &["/nowhere/python"]).unwrap().wait();
    assert!(missing.unwrap_err().to_string().contains("cannot start `/nowhere/python`"));
}

#[test]
fn forks_are_in_unless_they_are_left_out() {
    let python = Python::first().unwrap().program("python").display().to_string();
    for (arguments, processes) in [(&["-r", RATE][..], 3), (&["-r", RATE, "--no-subprocesses"][..], 1)] {
        // Forked while it is recorded.
        let recorded = Recording::start("forks.folded", arguments, &[&python, &split(), "1", "2"])
            .unwrap()
            .wait()
            .unwrap();
        assert_processes(&recorded, processes);
        // Forked before, or in the moment of attaching.
        let script = Script::start(python.as_ref(), "split.py", &["3", "2"]).unwrap();
        let pid = script.pid().to_string();
        let arguments = [&["--pid", &pid][..], arguments].concat();
        let recorded = Recording::start("forks.folded", &arguments, &[]).unwrap().wait().unwrap();
        assert_processes(&recorded, processes);
    }
}

fn assert_processes(recorded: &Recorded, processes: usize) {
    let in_a_child = recorded
        .folded()
        .unwrap()
        .iter()
        .any(|(stack, _)| stack.iter().any(|frame| frame.starts_with("in_a_child ")));
    assert_eq!(in_a_child, processes > 1, "{}", recorded.said);
    let said = if processes == 1 { "in 1 process,".to_owned() } else { format!("in {processes} processes,") };
    assert!(recorded.said.contains(&said), "not {said}: {}", recorded.said);
}

#[test]
fn whoever_was_named_is_recorded_and_nobody_else() {
    let python = Python::first().unwrap().program("python");
    // Two that are called alike, one of them with a worker, and one that is not.
    let name = format!("till-{}", std::process::id());
    let start =
        |name: &str, children| Script::start_as(name, &python, "split.py", &["1000", children]).unwrap();
    let (master, twin, other) = (start(&name, "1"), start(&name, "0"), start("another", "0"));
    let worker = wait::until("the worker", || {
        let children = format!("/proc/{0}/task/{0}/children", master.pid());
        Ok(std::fs::read_to_string(children)?.trim().parse::<u32>().ok())
    })
    .unwrap();
    let [of_master, of_other] = [&master, &other].map(|script| script.pid().to_string());
    let by_name = (vec!["--name", &name], vec![master.pid(), worker, twin.pid()]);
    let by_pid = (vec!["--pid", &of_master, "--pid", &of_other], vec![master.pid(), worker, other.pid()]);
    for (who, expected) in [by_name, by_pid] {
        let arguments = [&["-r", RATE, "-d", "1"][..], &who].concat();
        let recorded = Recording::start("who.json", &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success(), "{}", recorded.said);
        let file: serde_json::Value = serde_json::from_slice(&recorded.file).unwrap();
        let threads = file["threads"].as_array().unwrap().iter();
        let seen: BTreeSet<u64> = threads.map(|thread| thread["pid"].as_u64().unwrap()).collect();
        assert_eq!(seen, expected.into_iter().map(u64::from).collect(), "{who:?}: {}", recorded.said);
        assert!(recorded.said.contains("in 3 processes,"), "{who:?}: {}", recorded.said);
    }
}

#[test]
fn a_signal_ends_the_recording_and_the_file_is_written() {
    let python = Python::first().unwrap();
    let mut script = Script::start(&python.program("python"), "split.py", &["1000"]).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let pid = script.pid();
        let mut recording =
            Recording::start("signal.folded", &["--pid", &pid.to_string(), "--function"], &[]).unwrap();
        wait::until("the recording to begin", || {
            recording.check_alive()?;
            Ok(recording.said().contains("recording").then_some(()))
        })
        .unwrap();
        let before = Usage::of(pid).unwrap().cpu_seconds;
        wait::until("half a second of CPU time", || {
            Ok((Usage::of(pid)?.cpu_seconds > before + 0.5).then_some(()))
        })
        .unwrap();
        recording.signal(signal).unwrap();
        let recorded = recording.wait().unwrap();
        assert_eq!(recorded.status.code(), Some(0), "{signal}: {}", recorded.said);
        assert!(by_function(&recorded).contains_key("sixty"), "{signal}: {}", recorded.said);
        script.check_alive().unwrap();
    }
}

#[test]
fn every_format_is_written_and_can_be_read() {
    let python = Python::first().unwrap();
    let script = Script::start(&python.program("python"), "split.py", &["1000"]).unwrap();
    let pid = script.pid().to_string();
    let record = |name: &str, more: &[&str]| {
        let arguments = [&["--pid", &pid, "-d", "1", "-r", RATE][..], more].concat();
        let recorded = Recording::start(name, &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success(), "{name}: {}", recorded.said);
        recorded
    };
    let svg = String::from_utf8(record("a.svg", &["--threads"]).file).unwrap();
    assert!(svg.contains("sixty (workloads/split.py") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains(&format!("process {pid} (python ")));

    let speedscope: serde_json::Value =
        serde_json::from_slice(&record("a.speedscope.json", &[]).file).unwrap();
    let profile = &speedscope["profiles"][0];
    assert_eq!(profile["samples"].as_array().unwrap().len(), profile["weights"].as_array().unwrap().len());
    assert!(profile["endValue"].as_u64().unwrap() > 0);

    let json: serde_json::Value = serde_json::from_slice(&record("a.json", &[]).file).unwrap();
    let counted: u64 =
        json["stacks"].as_array().unwrap().iter().map(|stack| stack["samples"].as_u64().unwrap()).sum();
    assert!(counted > 0 && json["samples"].as_u64() == Some(counted));

    let pprof = record("a.pb.gz", &[]).file;
    assert!(inflated(&pprof).windows(5).any(|window| window == b"sixty"));

    // The baseline of a difference is a recording of the same.
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("before.folded");
    std::fs::write(&baseline, record("a.folded", &[]).file).unwrap();
    let difference = record("b.svg", &["--diff", baseline.to_str().unwrap()]).file;
    assert!(String::from_utf8(difference).unwrap().contains("against an earlier recording"));
}

/// By the system's gzip, which knows nothing of us.
fn inflated(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn what_cannot_be_recorded_is_said_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.svg");
    let file = file.to_str().unwrap();
    let sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = sleep.id().to_string();
    let told = |arguments: &[&str]| {
        let output = pyapm::run(&[&["record", "-o", file][..], arguments].concat()).unwrap();
        assert!(!output.status.success());
        assert!(!std::path::Path::new(file).exists(), "{arguments:?} left a file");
        String::from_utf8(output.stderr).unwrap()
    };
    let no_python = told(&["--pid", &pid]);
    let unknown = told(&["--name", "no-such-application"]);
    let mut sleep = sleep;
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(no_python.contains("is not a Python process"), "{no_python}");
    assert!(unknown.contains("no Python application is called `no-such-application`"), "{unknown}");
}
