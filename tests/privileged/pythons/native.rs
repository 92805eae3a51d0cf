//! Native frames: the unwound ones are those that a debugger finds, function by function, and they have their places
//! between the Python frames.

use harness::interpreter::{Interpreter, Script};
use harness::place::workloads;
use harness::record::Recording;
use harness::wait;
use pyapm::host::{Btf, settings};
use pyapm::intake::{Body, Reader};
use pyapm::native::Unwinders;
use pyapm::probes::{OffCpu, Probes, Setup};
use pyapm::python::inspect;
use pyapm_wire::target::Target;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// How the module's middle part is built.
#[derive(Clone, Copy, Debug)]
enum Middle {
    UnwindTables,
    FramePointers,
}

fn compile(interpreter: &Interpreter, folder: &Path, middle: Middle) {
    let source = workloads().join("pythons/native.c");
    let cc = |arguments: &[&str]| {
        let status = Command::new("cc").current_dir(folder).args(arguments).status().unwrap();
        assert!(status.success(), "cc {arguments:?}");
    };
    let source = source.to_str().unwrap();
    let head = if interpreter.free_threaded { "-DFREE_THREADED" } else { "-UFREE_THREADED" };
    cc(&["-O2", "-fPIC", head, "-c", "-o", "ends.o", source]);
    let mut arguments = vec!["-O2", "-fPIC", head, "-DMIDDLE", "-c", "-o", "middle.o", source];
    if let Middle::FramePointers = middle {
        arguments.extend([
            "-fno-asynchronous-unwind-tables",
            "-fno-unwind-tables",
            "-fno-omit-frame-pointer",
        ]);
    }
    cc(&arguments);
    // Of no C library: the roots have others than the machine.
    cc(&["-nostdlib", "-shared", "-o", "native.so", "ends.o", "middle.o"]);
}

fn start(interpreter: &Interpreter, middle: Middle) -> Script {
    Script::start_with("native.py", |scratch| {
        compile(interpreter, scratch, middle);
        Ok(interpreter.command("native.py", scratch))
    })
    .unwrap()
}

/// What the debugger finds, innermost first; functions that have no frame (inlined, or gone by a jump) left out, `None` for one without a symbol.
fn by_debugger(pid: u32) -> Vec<Option<String>> {
    // `info symbol` asks the symbol tables alone. A return address may lie behind the function's end.
    const WALK: &str = "python\n\
        frame = gdb.newest_frame()\n\
        inner = 0\n\
        while frame is not None:\n\
        \x20   if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):\n\
        \x20       print('FRAME', gdb.execute('info symbol %#x' % (frame.pc() - inner), to_string=True).strip())\n\
        \x20       inner = 1\n\
        \x20   frame = frame.older()\n\
        end\n";
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("walk.gdb");
    std::fs::write(&script, WALK).unwrap();
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"])
        .args(["-iex", "set debug-file-directory /nonexistent", "-iex", "set backtrace past-main on"])
        .arg("-iex")
        .arg(format!("set sysroot /proc/{pid}/root"))
        .arg(format!("/proc/{pid}/exe"))
        .args(["-p", &pid.to_string()])
        .arg("-x")
        .arg(&script)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let frames: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("FRAME "))
        .map(|line| {
            line.split_once(" in section ").map(|(symbol, _)| symbol.split(" + ").next().unwrap().to_owned())
        })
        .collect();
    assert!(!frames.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    frames
}

/// What pyapm finds, innermost first, of a process that stays where it is; `None` for one without a symbol.
fn by_pyapm(pid: u32) -> Vec<Option<String>> {
    let settings = settings(&Btf::running_kernel().unwrap()).unwrap();
    let mut probes =
        Probes::load(Setup { settings, ring_bytes: 1 << 22, native: true, off_cpu: OffCpu::None }).unwrap();
    let mut tables = probes.tables().unwrap();
    let mut reader = Reader::new(probes.ring().unwrap());
    let layout = inspect(pid).unwrap().layout;
    tables.watch(pid, Target { layout, generation: 1, ..Target::default() }, false).unwrap();
    probes.attach_sampling(499).unwrap();
    let mut unwinders = Unwinders::default();
    let mut stacks: HashMap<Vec<Option<String>>, u32> = HashMap::new();
    wait::until("samples with native stacks", || {
        reader.drain(1000, |event| {
            let Body::Native(native) = &event.body else { return };
            let stack = unwinders.unwind(event.pid, event.time_ns, native);
            assert!(stack.is_whole, "{:#?}", stack.frames);
            let names = stack.frames.iter().map(|frame| {
                let name = &frame.frame.function;
                (!name.contains("+0x")).then(|| name.to_string())
            });
            *stacks.entry(names.collect()).or_default() += 1;
        });
        Ok((stacks.values().sum::<u32>() >= 50).then_some(()))
    })
    .unwrap();
    assert_eq!(stacks.len(), 1, "it stays where it is, but: {stacks:#?}");
    stacks.into_keys().next().unwrap()
}

/// Two names of one function: libraries have many a function under several.
fn agree(left: &str, right: &str) -> bool {
    let plain = |name: &str| name.trim_start_matches('_').split('@').next().unwrap().to_owned();
    let (left, right) = (plain(left), plain(right));
    left == right || left.starts_with(&right) || right.starts_with(&left)
}

#[test]
fn native_frames_are_those_of_a_debugger() {
    for interpreter in Interpreter::all().unwrap() {
        let script = start(&interpreter, Middle::UnwindTables);
        let (ours, theirs) = (by_pyapm(script.pid()), by_debugger(script.pid()));
        let together = || {
            let lines = (0..ours.len().max(theirs.len()))
                .map(|at| format!("{:?} {:?}\n", ours.get(at), theirs.get(at)));
            lines.collect::<String>()
        };
        assert_eq!(ours.len(), theirs.len(), "{interpreter}\n{}", together());
        let mut both = 0;
        for (our, their) in ours.iter().zip(&theirs) {
            if let (Some(our), Some(their)) = (our, their) {
                assert!(agree(our, their), "{interpreter}: `{our}` is `{their}`\n{}", together());
                both += 1;
            }
        }
        assert!(both >= 8, "{interpreter}\n{}", together());
        eprintln!(
            "{interpreter}: {} frames, {both} of them with names, as the debugger has them",
            ours.len()
        );
    }
}

/// Functions of the program and of its module, outermost first; of Python's own only one.
const EXPECTED: [&str; 15] = [
    "<module>",
    "outermost",
    "list_sort",
    "key",
    "<listcomp>",
    "generator",
    "native_call_method",
    "native_middle",
    "native_inner_middle",
    "Callback.__call__",
    "innermost",
    "native_spin_method",
    "native_aligned",
    "native_spin",
    "native_leaf",
];

fn record(script: &Script, arguments: &[&str]) -> (Vec<(Vec<String>, u64)>, harness::record::Recorded) {
    let pid = script.pid().to_string();
    let mut all = vec!["--pid", &pid, "-d", "0.3", "-r", "999", "-F"];
    all.extend(arguments);
    let recorded = Recording::start("a.folded", &all, &[]).unwrap().wait().unwrap();
    (recorded.folded().unwrap(), recorded)
}

/// Without their files.
fn functions(stack: &[String]) -> Vec<&str> {
    stack.iter().map(|frame| frame.split(" (").next().unwrap_or(frame)).collect()
}

#[test]
fn native_frames_stand_between_the_python_frames() {
    let mut named_sort = 0;
    let machine = Interpreter::of_machine().unwrap();
    for interpreter in Interpreter::all().unwrap() {
        for middle in [Middle::UnwindTables, Middle::FramePointers] {
            if interpreter != machine && matches!(middle, Middle::FramePointers) {
                continue;
            }
            let script = start(&interpreter, middle);
            let (stacks, recorded) = record(&script, &["--native"]);
            assert_eq!(stacks.len(), 1, "{interpreter} {middle:?}: {stacks:#?}");
            for reason in
                ["native_join_mismatch", "native_stack_broken", "native_stack_cut", "native_stack_lost"]
            {
                assert_eq!(recorded.reason(reason), 0, "{interpreter} {middle:?}: {}", recorded.said);
            }
            let all = functions(&stacks[0].0);
            // Names are qualified from 3.11 on, and comprehensions are no functions from 3.12 on.
            let expected = EXPECTED.map(|name| match name {
                "Callback.__call__" if interpreter.minor < 11 => "__call__",
                name => name,
            });
            let mut expected = expected.to_vec();
            if interpreter.minor >= 12 {
                expected.retain(|name| *name != "<listcomp>");
            }
            if all.contains(&"list_sort") {
                named_sort += 1;
            } else {
                // A stripped build has no name for it.
                expected.retain(|name| *name != "list_sort");
            }
            let mut found = all.clone();
            found.retain(|name| {
                expected.contains(&name.rsplit("<locals>.").next().unwrap()) || name.contains("listcomp")
            });
            let found: Vec<_> = found
                .iter()
                .map(|name| if name.contains("listcomp") { "<listcomp>" } else { name })
                .collect();
            assert_eq!(found, expected, "{interpreter} {middle:?}: {all:#?}");
            assert!(!all.iter().any(|name| name.contains("EvalFrameDefault")), "{interpreter}: {all:#?}");
            // Between two Python frames that nothing but the interpreter lies between there is nothing.
            let place = |name: &str| all.iter().position(|other| other.ends_with(name)).unwrap();
            assert_eq!(place("__call__") + 1, place("innermost"), "{interpreter} {middle:?}: {all:#?}");
            assert_eq!(place("<module>") + 1, place("outermost"), "{interpreter} {middle:?}: {all:#?}");
            // Without `--native` there are the same Python frames, and no others.
            let (plain, _) = record(&script, &[]);
            let plain = functions(&plain[0].0);
            let python = |name: &&str| plain.contains(name);
            assert_eq!(
                all.iter().copied().filter(python).collect::<Vec<_>>(),
                plain,
                "{interpreter}: {all:#?}"
            );
        }
    }
    assert!(named_sort > 0, "no interpreter has a name for its own function");
}
