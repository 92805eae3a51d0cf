//! Interpreters in unusual surroundings: a pthread key of the second level, a library that nobody has
//! initialised, an interpreter loaded late.

use crate::interpreters::{Running, all, is_unpacked, pyenv, python, script};
use pyapm::python::{Embedding, PythonError, inspect};
use std::path::Path;
use std::process::{Command, Stdio};

/// Compiles C with the linker's own driver, which building this test needed too.
fn compile(source: &str, output: &Path, arguments: &[&str]) {
    let file = output.with_extension("c");
    std::fs::write(&file, source).unwrap();
    let status = Command::new("cc").arg(&file).arg("-o").arg(output).args(arguments).status().unwrap();
    assert!(status.success());
}

/// 40 keys taken before `main` push `autoTSSkey` into glibc's second level.
#[test]
fn keys_of_the_second_level() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libkeys.so");
    compile(
        "#include <pthread.h>\n__attribute__((constructor)) static void take(void) {\n\
         pthread_key_t key; for (int i = 0; i < 40; i++) pthread_key_create(&key, 0); }\n",
        &library,
        &["-shared", "-fPIC"],
    );
    let mut of_second_level = 0;
    // What is compiled here is not for another C library.
    for interpreter in all().into_iter().filter(|one| !is_unpacked(one)) {
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut command = python(&interpreter, &script("waiting.py"));
        command.arg(output.path()).env("LD_PRELOAD", &library);
        let running = Running::start(command);
        let found = inspect(running.pid()).unwrap();
        println!("{}: {}", found.version, found.thread_state_route);
        let free_threaded = found.offsets.free_threaded.is_some();
        assert_eq!(found.notes.len(), usize::from(free_threaded), "{:?}", found.notes);
        if found.version.minor < 15 {
            assert_eq!(found.layout.route, pyapm_wire::python::route::INDIRECT);
            of_second_level += 1;
        }
        let (agreeing, of) = found
            .thread_state_route
            .rsplit_once("confirmed on ")
            .and_then(|(_, counts)| counts.strip_suffix(" threads")?.split_once(" of "))
            .unwrap();
        assert_eq!(agreeing, of, "{}", found.version);
        assert!(of.parse::<u32>().unwrap() >= 6, "{of}");
    }
    assert!(of_second_level > 0);
}

/// libpython is mapped, but nothing has called `Py_Initialize`.
#[test]
fn not_initialised() {
    for (prefix, minor) in pyenv().into_iter().filter(|(_, minor)| *minor >= 8) {
        let library = prefix.join("lib").join(format!("libpython3.{minor}.so.1.0"));
        let mut command = Command::new("/bin/sh");
        command.env("LD_PRELOAD", &library).arg("-c").arg("echo ready; read line").stdin(Stdio::piped());
        let running = Running::start(command);
        let error = inspect(running.pid()).unwrap_err();
        assert!(matches!(error, PythonError::NotInitialised { .. }), "3.{minor}: {error}");
        println!("{error}");
    }
}

/// Two interpreters are mapped and only the executable's is alive, the one that is looked at second.
#[test]
fn the_interpreter_that_is_alive() {
    let executable = Path::new("/usr/bin/python3.11");
    let library = pyenv().into_iter().find(|(_, minor)| *minor == 11);
    let (Some((prefix, _)), true) = (library, executable.exists()) else {
        println!("needs a static and a shared Python 3.11");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let renamed = folder.path().join("interpreter");
    std::fs::copy(executable, &renamed).unwrap();
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(&renamed);
    command
        .arg(script("waiting.py"))
        .arg(output.path())
        .env("PYTHONHOME", "/usr")
        .env("LD_PRELOAD", prefix.join("lib/libpython3.11.so.1.0"));
    let running = Running::start(command);
    let found = inspect(running.pid()).unwrap();
    assert_eq!((found.file.as_path(), found.embedding), (renamed.as_path(), Embedding::Static));
}

/// An application of its own that loads libpython at run time, as application servers do.
#[test]
fn loaded_late() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("server");
    compile(
        "#include <dlfcn.h>\n#include <stdlib.h>\nint main(int argc, char **argv) {\n\
         void *lib = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL); if (!lib) abort();\n\
         ((void (*)(int))dlsym(lib, \"Py_InitializeEx\"))(0);\n\
         return ((int (*)(const char *))dlsym(lib, \"PyRun_SimpleString\"))(argv[2]); }\n",
        &program,
        &["-ldl"],
    );
    let mut seen = 0;
    let more = std::env::var_os("PYAPM_TEST_LIBPYTHONS").unwrap_or_default();
    let libraries = pyenv()
        .into_iter()
        .filter(|(_, minor)| *minor >= 8)
        .map(|(prefix, minor)| {
            (prefix.clone(), prefix.join("lib").join(format!("libpython3.{minor}.so.1.0")), None)
        })
        .chain(std::env::split_paths(&more).filter(|path| path.is_absolute()).map(|library| {
            // PREFIX/lib/x86_64-linux-gnu/libpython...: run by the C library beside it.
            let beside = library.parent().unwrap().to_owned();
            (beside.parent().unwrap().parent().unwrap().to_owned(), library, Some(beside))
        }));
    for (prefix, library, own_libc) in libraries {
        let mut command = match &own_libc {
            Some(folder) => {
                let mut command = Command::new(folder.join("ld-linux-x86-64.so.2"));
                command.arg("--library-path").arg(folder).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command
            .arg(&library)
            .arg("import sys, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\nprint('ready', flush=True)\nsys.stdin.read()")
            .env("PYTHONHOME", &prefix);
        let running = Running::start(command);
        let found = inspect(running.pid()).unwrap();
        println!("{}: {}", found.version, found.thread_state_route);
        assert_eq!(found.embedding, Embedding::Shared);
        assert!(found.thread_state_route.ends_with("confirmed on 2 of 2 threads"));
        assert_eq!(found.notes, Vec::<String>::new());
        seen += 1;
    }
    assert!(seen > 0);
}
