//! Builds without the GIL: what is said of them, and that their lock is one once it has been switched on. Their stacks
//! are held against the truth by the tests of this folder that run on every interpreter.

use harness::interpreter::{Interpreter, Script};
use harness::place;
use harness::record::Recording;
use pyapm_model::dump::{Dump, State};
use std::process::{Command, Output};

const SCRIPT: &str = "contention.py";

/// Those that are here. None has to be: the closing lines name those that are not.
fn builds() -> Vec<Interpreter> {
    let mut found = Interpreter::all().unwrap();
    found.retain(|interpreter| interpreter.free_threaded);
    if found.is_empty() {
        eprintln!("NOT RUN: no free-threaded Python here; `cargo xtask setup --free-threaded` builds one");
    }
    found
}

/// `switch` as `PYTHON_GIL` has it.
fn start(interpreter: &Interpreter, switch: &str) -> Script {
    Script::start_with(SCRIPT, |scratch| {
        let mut command = interpreter.command(SCRIPT, scratch);
        command.env("PYTHON_GIL", switch);
        Ok(command)
    })
    .unwrap()
}

fn pyapm(arguments: &[&str]) -> Output {
    Command::new(place::binary().unwrap()).args(arguments).output().unwrap()
}

fn dump(pid: &str) -> Dump {
    let output = pyapm(&["dump", "--json", "--pid", pid]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_lock_that_nobody_needs_is_not_waited_for() {
    for interpreter in builds() {
        let script = start(&interpreter, "0");
        let pid = script.pid().to_string();
        let doctor = pyapm(&["doctor", "--pid", &pid]);
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(said.contains("free-threaded build: no exceptions are seen"), "{interpreter}: {said}");

        let refused = pyapm(&["record", "--mode", "gil", "--pid", &pid, "-d", "1", "-o", "/dev/null"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{interpreter}: {said}");
        assert!(said.contains("free-threaded") && said.contains("`--mode gil`"), "{interpreter}: {said}");

        let dump = dump(&pid);
        let process = &dump.processes[0];
        let gil = process.gil.unwrap();
        assert!(!gil.enabled && !gil.held && gil.holder.is_none(), "{interpreter}: {gil:?}");
        assert!(process.threads.iter().all(|thread| thread.state != State::Gil), "{interpreter}");
        assert!(process.threads.iter().all(|thread| thread.holds_gil != Some(true)), "{interpreter}");
    }
}

#[test]
fn a_lock_that_was_switched_on_is_one() {
    for interpreter in builds() {
        let script = start(&interpreter, "1");
        let pid = script.pid().to_string();
        assert!(dump(&pid).processes[0].gil.unwrap().enabled, "{interpreter}");
        let arguments = ["--mode", "gil", "--pid", &pid, "-d", "2", "-r", "499"];
        let recorded = Recording::start("gil.json", &arguments, &[]).unwrap().wait().unwrap();
        assert!(recorded.status.success(), "{interpreter}: {}", recorded.said);
        let file: serde_json::Value = serde_json::from_slice(&recorded.file).unwrap();
        let [held, duration] = [&file["nanoseconds"], &file["about"]["duration_ns"]]
            .map(|number| number.as_u64().unwrap() as f64);
        eprintln!("{interpreter}: {:.3} s with the GIL of {:.3} s", held / 1e9, duration / 1e9);
        // Two threads compute all the time, and one at a time has the lock.
        assert!(held > 0.0 && held <= duration * 1.05, "{interpreter}: {held} of {duration}");
    }
}
