//! With the interpreter's JIT compiler on: the functions on a stack are right, native frames have their places, and it is
//! said that lines may be late.

use harness::interpreter::{Interpreter, Script};
use harness::place;
use harness::record::{Recorded, Recording};
use std::process::Command;

/// What is said by `record` and by `doctor --pid`.
const SAID: &str = "its JIT compiler is on";
/// The one interpreter that is always here and has it.
const MINOR: u8 = 15;

fn start(interpreter: &Interpreter, jit: &str) -> Script {
    Script::start_with("flutter.py", |scratch| {
        let mut command = interpreter.command("flutter.py", scratch);
        command.env("PYTHON_JIT", jit);
        Ok(command)
    })
    .unwrap()
}

fn record(pid: u32, arguments: &[&str]) -> Recorded {
    let pid = pid.to_string();
    let mut all = vec!["--pid", &pid, "-d", "1", "-r", "999"];
    all.extend(arguments);
    Recording::start("a.folded", &all, &[]).unwrap().wait().unwrap()
}

fn doctor(pid: u32) -> String {
    let mut command = Command::new(place::binary().unwrap());
    let output = command.args(["doctor", "--pid", &pid.to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Outermost first, with the lines of each function.
fn is_possible(stack: &[String]) -> bool {
    let wholes: [[(&str, std::ops::RangeInclusive<u32>); 4]; 2] = [
        [("<module>", 30..=31), ("flutter", 24..=27), ("only_one", 16..=17), ("leaf_one", 4..=7)],
        [("<module>", 30..=31), ("flutter", 24..=27), ("only_two", 20..=21), ("leaf_two", 10..=13)],
    ];
    wholes.iter().any(|whole| {
        stack.len() <= 4
            && stack.iter().zip(whole).all(|(frame, (function, lines))| {
                let (name, rest) = frame.split_once(" (").unwrap();
                let line =
                    rest.trim_end_matches(')').rsplit_once(':').and_then(|(_, line)| line.parse().ok());
                name == *function && line.is_some_and(|line: u32| lines.contains(&line))
            })
    })
}

#[test]
fn compiled_code_shows_the_right_functions_and_says_what_it_cannot() {
    let interpreters: Vec<_> = Interpreter::all()
        .unwrap()
        .into_iter()
        .filter(|one| one.minor == MINOR && !one.free_threaded)
        .collect();
    assert!(!interpreters.is_empty());
    for interpreter in interpreters {
        let script = start(&interpreter, "1");
        let recorded = record(script.pid(), &[]);
        let stacks = recorded.folded().unwrap();
        for (stack, count) in &stacks {
            assert!(is_possible(stack), "{interpreter}: {count} of {stack:?}");
        }
        for leaf in ["leaf_one", "leaf_two"] {
            assert!(
                stacks.iter().any(|(stack, _)| stack.last().unwrap().starts_with(leaf)),
                "{interpreter}: {stacks:?}"
            );
        }
        assert!(recorded.said.contains(SAID), "{interpreter}: {}", recorded.said);
        assert!(doctor(script.pid()).contains(SAID), "{interpreter}: {}", doctor(script.pid()));
        let native = record(script.pid(), &["--native"]);
        let stacks = native.folded().unwrap();
        let all: u64 = stacks.iter().map(|(_, count)| count).sum();
        let compiled = |stack: &[String]| stack.iter().any(|frame| frame.starts_with("[generated code]"));
        let of_compiled: u64 =
            stacks.iter().filter(|(stack, _)| compiled(stack)).map(|(_, count)| count).sum();
        assert!(of_compiled * 10 > all, "{interpreter}: {of_compiled} of {all} samples are of compiled code");
        let mismatched = native.reason("native_join_mismatch");
        assert!(mismatched * 100 <= all, "{interpreter}: {}", native.said);
        eprintln!("{interpreter}: {of_compiled} of {all} samples of compiled code, {mismatched} not joined");

        let script = start(&interpreter, "0");
        let recorded = record(script.pid(), &[]);
        assert!(!recorded.said.contains(SAID), "{interpreter}: {}", recorded.said);
        assert!(!doctor(script.pid()).contains(SAID), "{interpreter}");
    }
}
