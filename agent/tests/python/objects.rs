//! Objects of real interpreters, read from outside: equal to what the interpreter says of them.

use crate::interpreters::{Running, all, python, script};
use pyapm::python::{Objects, ProcessMemory, inspect};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Truth {
    reprs: Vec<(u64, String)>,
    dicts: Vec<(u64, Vec<(u64, u64)>)>,
    attributes: Vec<(u64, Vec<(String, u64)>)>,
    tuples: Vec<(u64, Vec<u64>)>,
    lists: Vec<(u64, Vec<u64>)>,
    /// A class, and its instances, all of which only the collector knows.
    tracked: (u64, Vec<u64>),
    /// 0: there is none.
    modules: Vec<(String, u64)>,
    ident: u64,
    threads: Vec<(u64, String)>,
}

fn check(interpreter: &Path) -> String {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut command = python(interpreter, &script("objects.py"));
    command.arg(output.path());
    let running = Running::start(command);
    let truth: Truth = serde_json::from_slice(&std::fs::read(output.path()).unwrap()).unwrap();
    let found = inspect(running.pid()).unwrap();
    let memory = ProcessMemory::new(running.pid());
    let objects = Objects::new(&memory, &found.offsets, found.version.minor).unwrap();
    let version = found.version;

    for (address, expected) in &truth.reprs {
        assert_eq!(objects.repr(*address).as_ref(), Ok(expected), "{version}");
    }
    for (index, (address, expected)) in truth.dicts.iter().enumerate() {
        let items = objects.dict_items(*address).unwrap_or_else(|error| panic!("{version} {index}: {error}"));
        let items: Vec<(u64, u64)> = items.iter().map(|item| (item.key, item.value)).collect();
        assert_eq!(items, *expected, "{version} {index}");
    }
    for (index, (address, expected)) in truth.attributes.iter().enumerate() {
        for (name, value) in expected {
            assert_eq!(objects.attribute(*address, name), Ok(Some(*value)), "{version} {index} {name}");
        }
        assert_eq!(objects.attribute(*address, "no such name"), Ok(None), "{version} {index}");
    }
    for (address, expected) in &truth.tuples {
        assert_eq!(objects.tuple_items(*address, 100).as_ref(), Ok(expected), "{version}");
    }
    for (address, expected) in &truth.lists {
        assert_eq!(objects.list_items(*address, 1000).as_ref(), Ok(expected), "{version}");
    }
    let main = objects.main_interpreter(found.runtime_address).unwrap();
    for (name, dict) in &truth.modules {
        let expected = if *dict == 0 { None } else { Some(*dict) };
        assert_eq!(objects.module_dict(main, name), Ok(expected), "{version} {name}");
    }
    // Before 3.9, and without the GIL, the collector has no such lists.
    if version.minor >= 9 && found.offsets.free_threaded.is_none() {
        let (class, instances) = &truth.tracked;
        let mut tracked = objects.tracked(main, found.collector, 10, |own| own == *class).unwrap();
        tracked.sort_unstable();
        assert_eq!(tracked, *instances, "{version}");
    }
    let mut names: Vec<(u64, String)> = objects.thread_names(main).unwrap().into_iter().collect();
    names.sort();
    let mut expected = truth.threads.clone();
    expected.sort();
    assert_eq!(names, expected, "{version}");
    assert!(names.iter().any(|(ident, name)| *ident == truth.ident && name == "MainThread"), "{version}");
    // All its threads wait.
    let gil = objects.gil(found.runtime_address, main).unwrap();
    assert!(!gil.held, "{version}: {gil:?}");
    format!(
        "{version}: {} values, {} dicts, {} instances, {} threads",
        truth.reprs.len(),
        truth.dicts.len(),
        truth.attributes.len(),
        names.len()
    )
}

#[test]
fn objects_of_every_interpreter() {
    for interpreter in all() {
        println!("{}", check(&interpreter));
    }
}
