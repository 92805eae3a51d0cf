//! Thousands of code objects of every interpreter: names, files, first lines, and the line of every
//! instruction, all equal to what the interpreter itself says. Each is also held against its debug
//! information, where it has any.

use crate::interpreters::{Running, all, is_unpacked, python, script};
use pyapm::python::{
    Embedding, MAX_FILE, MAX_NAME, OffsetsSource, ProcessMemory, compare_with_dwarf, free_threaded_table,
    inspect, read_code, table,
};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Truth {
    version: String,
    hex: u32,
    shared: bool,
    free_threaded: bool,
    codes: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    address: u64,
    function: String,
    file: String,
    firstlineno: u32,
    lines: Vec<(i32, i32, Option<u32>)>,
}

/// Bytes of bytecode up to which every instruction is compared. Longer code would take quadratic time: of
/// some 300 ranges spread over it, the first, a middle and the last instruction are.
const WHOLE: i32 = 512;

fn check(interpreter: &Path) -> String {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut command = python(interpreter, &script("truth.py"));
    command.arg(output.path()).arg(MAX_NAME.to_string()).arg(MAX_FILE.to_string());
    let running = Running::start(command);
    let truth: Truth = serde_json::from_slice(&std::fs::read(output.path()).unwrap()).unwrap();

    let found = inspect(running.pid()).unwrap_or_else(|error| panic!("{}: {error}", interpreter.display()));
    assert_eq!(found.version.to_string(), truth.version);
    if let Some(hex) = found.version.hex {
        assert_eq!(hex, truth.hex);
    }
    let debug_offsets = found.version.minor >= 13;
    assert_eq!(found.offsets_source == OffsetsSource::DebugOffsets, debug_offsets);
    let (table, notes) = if truth.free_threaded {
        (free_threaded_table(found.version.minor).unwrap(), 1)
    } else {
        (table(found.version.minor).unwrap(), 0)
    };
    assert_eq!(found.notes.len(), notes, "{:?}", found.notes);
    assert!(found.notes.iter().all(|note| note.starts_with("free-threaded build")), "{:?}", found.notes);
    assert_eq!(&found.offsets, table);
    assert!(
        found.thread_state_route.ends_with("confirmed on 1 of 1 threads"),
        "{}",
        found.thread_state_route
    );
    // Distributions build both; the executable is then the static one.
    let shared = truth.shared && !interpreter.starts_with("/usr/bin") && !is_unpacked(interpreter);
    if !interpreter.starts_with("/tmp") {
        assert_eq!(found.embedding == Embedding::Shared, shared, "{}", found.file.display());
    }

    let memory = ProcessMemory::new(running.pid());
    let mut pairs = 0_u64;
    for expected in &truth.codes {
        let code = read_code(&memory, &found.offsets, expected.address)
            .unwrap_or_else(|error| panic!("{}: `{}`: {error}", truth.version, expected.function));
        assert_eq!(&*code.function, expected.function, "{}", truth.version);
        assert_eq!(&*code.file, expected.file, "{}", truth.version);
        assert_eq!(code.firstlineno, expected.firstlineno);
        assert_eq!(code.lines.line(-2), Some(expected.firstlineno));
        let short = expected.lines.last().is_none_or(|(_, end, _)| *end <= WHOLE);
        let stride = if short { 1 } else { expected.lines.len() / 300 + 1 };
        for (start, end, line) in expected.lines.iter().step_by(stride) {
            let all = (*start..*end).step_by(2);
            let ends = [*start, (start + (end - start) / 2) & !1, end - 2];
            let chosen: Vec<i32> = if short { all.collect() } else { ends.to_vec() };
            for offset in chosen {
                assert_eq!(
                    code.lines.line(offset),
                    *line,
                    "{} `{}` ({}) at byte {offset}",
                    truth.version,
                    expected.function,
                    expected.file
                );
                pairs += 1;
            }
        }
    }
    assert!(pairs > 50_000, "only {pairs} instructions in {}", truth.version);

    let reachable = Path::new("/proc").join(running.pid().to_string()).join("root");
    let file = reachable.join(found.file.strip_prefix("/").unwrap());
    let dwarf = match compare_with_dwarf(&file, &found.offsets) {
        Ok(comparison) => {
            assert_eq!(comparison.differences, [], "{}", truth.version);
            assert_eq!(comparison.missing, Vec::<String>::new(), "{}", truth.version);
            format!("{} fields equal in DWARF", comparison.compared)
        }
        Err(error) => error.to_string(),
    };
    format!(
        "{} {:?}: {} code objects, {pairs} instructions, all equal; {dwarf}; {}",
        truth.version,
        found.embedding,
        truth.codes.len(),
        found.thread_state_route
    )
}

#[test]
fn names_files_and_lines_of_every_interpreter() {
    let interpreters = all();
    let reports: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            interpreters.iter().map(|interpreter| scope.spawn(|| check(interpreter))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{}", reports.join("\n"));
}

/// pyenv builds libpython with debug information: for those the comparison must have happened.
#[test]
fn debug_information_of_pyenv_builds() {
    for (prefix, minor) in crate::interpreters::pyenv().into_iter().filter(|(_, minor)| *minor >= 8) {
        let library = prefix.join("lib").join(format!("libpython3.{minor}.so.1.0"));
        if !library.exists() {
            println!("{}: no shared library", prefix.display());
            continue;
        }
        let offsets = table(minor).unwrap();
        let comparison = compare_with_dwarf(&library, offsets).unwrap();
        assert_eq!(comparison.differences, [], "3.{minor}");
        assert_eq!(comparison.missing, Vec::<String>::new(), "3.{minor}");
        assert!(comparison.compared >= 20, "3.{minor}: {}", comparison.compared);
        println!("3.{minor}: {} fields compared", comparison.compared);
        // A table that is wrong is found out.
        let mut wrong = *offsets;
        wrong.code_filename += 8;
        let comparison = compare_with_dwarf(&library, &wrong).unwrap();
        assert_eq!(comparison.differences.len(), 1);
        assert_eq!(comparison.differences[0].field, "PyCodeObject.co_filename");
    }
}
