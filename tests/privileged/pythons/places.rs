//! Interpreters in unusual places: containers, renamed and deleted executables, other programs.

use super::sampler::{Named, Sampler};
use harness::interpreter::{GUARANTEED, Interpreter, Script, in_root};
use harness::place::workloads;
use pyapm::intake::StackStatus;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const SCRIPT: &str = "container.py";
/// Samples of each place.
const ENOUGH: usize = 100;

/// Every sample of the process is a whole stack of the script: functions are named, and the lines are its lines.
fn assert_named(pid: u32, what: &str) {
    let stacks: RefCell<Vec<(StackStatus, Option<Arc<Named>>)>> = RefCell::default();
    let mut sampler = Sampler::start(&[pid], 4_000).unwrap();
    sampler.sample(
        what,
        |sample| {
            if sample.pid == pid {
                stacks.borrow_mut().push((sample.status, sample.stack));
            }
        },
        || stacks.borrow().len() >= ENOUGH,
    );
    let mut inside = 0;
    for (status, named) in stacks.into_inner() {
        let Some(named) = named else { panic!("{what}: no stack: {status:?}") };
        let functions = named.functions();
        // At the moment of `ready` it is not there yet.
        if functions.contains(&"outer") {
            inside += 1;
            let at = functions.iter().position(|name| *name == "outer").unwrap();
            assert!(matches!(functions[..at], [] | ["inner"]), "{what}: {functions:?}");
            // A program of its own runs the script as a module, another program imports it from C.
            let outermost = functions.last().copied();
            assert!(matches!(outermost, Some("<module>" | "_find_and_load")), "{what}: {functions:?}");
            let frame = &named.frames[at];
            assert!(frame.file.ends_with(SCRIPT) && matches!(frame.line, Some(14..=16)), "{what}: {frame:?}");
            assert_eq!(status, StackStatus::Complete, "{what}");
        }
    }
    assert!(inside >= ENOUGH / 2, "{what}: {inside} samples");
    eprintln!(
        "{what}: {} ({:?}), {inside} samples named",
        sampler.interpreter(pid).version,
        sampler.interpreter(pid).embedding
    );
}

/// The builds that are always here, each in its root.
fn in_roots() -> Vec<(Interpreter, PathBuf)> {
    let all = Interpreter::all().unwrap();
    let found: Vec<_> =
        all.into_iter().filter_map(|one| one.root().map(Path::to_owned).map(|root| (one, root))).collect();
    assert!(found.len() >= 2 * GUARANTEED.len());
    found
}

/// `unshare` waits outside for the process that is the first of its pid namespace.
fn first_child(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_container_with_its_own_mounts_and_pids() {
    for (interpreter, root) in in_roots() {
        let script = Script::start_with(SCRIPT, |scratch| {
            let mut command = in_root(&root, scratch, &["--pid", "--fork", "--kill-child"]);
            let program = Path::new("/").join(interpreter.executable().strip_prefix(&root)?);
            command.arg(program).arg("/mnt/container.py");
            Ok(command)
        })
        .unwrap();
        let pid = first_child(script.pid());
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert!(inside.trim().ends_with("\t1"), "not in a pid namespace of its own: {inside}");
        assert_named(pid, &format!("{interpreter} in a container"));
    }
}

#[test]
fn a_renamed_executable_that_is_deleted_and_replaced() {
    for minor in GUARANTEED {
        let (interpreter, root) =
            in_roots().into_iter().find(|(one, _)| one.minor == minor && !one.shared).unwrap();
        let script = Script::start_with(SCRIPT, |scratch| {
            std::fs::copy(interpreter.executable(), scratch.join("application-server"))?;
            let mut command = in_root(&root, scratch, &[]);
            // Where the library is, a renamed executable must be told.
            command.env("PYTHONHOME", "/usr").arg("/tmp/application-server").arg("/mnt/container.py");
            Ok(command)
        })
        .unwrap();
        assert_named(script.pid(), &format!("{interpreter}, renamed"));
        // As an upgrade does it: another file takes its name.
        let executable = script.folder().join("application-server");
        let other = script.folder().join("other");
        std::fs::copy("/bin/true", &other).unwrap();
        std::fs::rename(&other, &executable).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", script.pid())).unwrap();
        assert!(maps.contains("application-server (deleted)"), "{maps}");
        assert_named(script.pid(), &format!("{interpreter}, replaced"));
    }
}

/// A C program that loads libpython when it has run for a while.
#[test]
fn a_library_that_is_loaded_late() {
    const SOURCE: &str = "#include <dlfcn.h>\n#include <stdlib.h>\nint main(int argc, char **argv) {\n\
        void *lib = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL); if (!lib) abort();\n\
        return ((int (*)(int, char **))dlsym(lib, \"Py_BytesMain\"))(argc - 1, argv + 1); }\n";
    let mut seen = Vec::new();
    for interpreter in Interpreter::all().unwrap().into_iter().filter(|one| one.shared) {
        // Built on this machine: only what was built for its C library, or an older one's interface, can be loaded.
        let library = match interpreter.root() {
            Some(root) if interpreter.minor == 11 => {
                root.join("usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0")
            }
            Some(_) => continue,
            None => {
                let prefix = interpreter.executable().parent().unwrap().parent().unwrap().to_owned();
                let threads = if interpreter.free_threaded { "t" } else { "" };
                prefix.join(format!("lib/libpython3.{}{threads}.so.1.0", interpreter.minor))
            }
        };
        let script = Script::start_with(SCRIPT, |scratch| {
            let (source, program) = (scratch.join("server.c"), scratch.join("server"));
            std::fs::write(&source, SOURCE)?;
            let status = Command::new("cc").arg("-o").arg(&program).arg(&source).arg("-ldl").status()?;
            anyhow::ensure!(status.success(), "`cc` ended with {status}");
            let mut command = Command::new(program);
            let home = interpreter.root().map_or_else(
                || interpreter.executable().parent().unwrap().parent().unwrap().to_owned(),
                |root| root.join("usr"),
            );
            command.arg(&library).arg(workloads().join("pythons").join(SCRIPT)).env("PYTHONHOME", home);
            Ok(command)
        })
        .unwrap();
        assert_named(script.pid(), &format!("{interpreter}, loaded late"));
        seen.push(interpreter);
    }
    assert!(!seen.is_empty());
}

#[test]
fn embedded_in_uwsgi() {
    let mut seen = 0;
    for (interpreter, root) in in_roots() {
        let Some(plugin) = ["python311", "python313"].into_iter().find(|name| {
            interpreter.shared
                && name[6..] == format!("3{}", interpreter.minor)[..]
                && root.join(format!("usr/lib/uwsgi/plugins/{name}_plugin.so")).is_file()
        }) else {
            continue;
        };
        let script = Script::start_with("uwsgi", |scratch| {
            let mut command = in_root(&root, scratch, &[]);
            command.args(["/usr/bin/uwsgi-core", "--plugin", plugin, "--socket", "/tmp/socket"]);
            command.args(["--pythonpath", "/mnt", "--module", "uwsgi_application", "--enable-threads"]);
            Ok(command)
        })
        .unwrap();
        assert_named(script.pid(), &format!("{interpreter} in uwsgi"));
        seen += 1;
    }
    assert_eq!(seen, 2, "uwsgi of bookworm and of trixie");
}
