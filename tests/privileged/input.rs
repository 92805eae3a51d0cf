//! Bad input: each time one clear line that says what and which, exit code 1, nothing on stdout, nothing attached.

use harness::guard::Guard;
use harness::place::{self, Python};
use harness::pyapm::{self, Pyapm};
use harness::workload::Workload;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

/// Exit code 1, at most a line and a hint on stderr with all of the words, nothing on stdout.
fn assert_refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "wrote to stdout: {}", String::from_utf8_lossy(&output.stdout));
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(matches!(lines.len(), 1 | 2), "not one clear line:\n{stderr}");
    let low = stderr.to_lowercase();
    for word in words {
        assert!(low.contains(word), "`{word}` is not in: {stderr}");
    }
    assert!(!low.contains("panicked"), "{stderr}");
}

fn attach(pid: u32) -> Output {
    pyapm::run(&["attach", "--pid", &pid.to_string(), "--format", "json", "--duration", "1"]).unwrap()
}

/// Runs a program of the tests that is no Python application, for as long as the guard lives.
fn process(program: &str, arguments: &[&str]) -> (Guard, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let guard =
        Guard::start(Command::new(program).args(arguments), &folder.path().join("log"), None).unwrap();
    (guard, folder)
}

#[test]
fn a_pid_that_does_not_exist() {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    assert_refused(&attach(ended.id()), &[&ended.id().to_string()]);
    // Above every kernel's PID_MAX_LIMIT of 4 194 304.
    assert_refused(&attach(4_200_000), &["4200000"]);
}

#[test]
fn a_process_that_is_not_python() {
    let (guard, _folder) = process("sleep", &["1000"]);
    assert_refused(&attach(guard.pid()), &[&guard.pid().to_string(), "not a python process"]);
}

#[test]
fn a_thread_of_the_kernel() {
    assert!(std::fs::read("/proc/2/cmdline").unwrap().is_empty(), "pid 2 is not the kernel's here");
    assert_refused(&attach(2), &["2", "kernel"]);
}

#[test]
fn a_process_that_dies_while_it_is_attached_to() {
    let python = Python::first().unwrap();
    for round in 0..5 {
        let server = Workload::http_over_tcp(&python).unwrap();
        let pid = server.pid().to_string();
        let binary = place::binary().unwrap();
        let child = Command::new(binary)
            .args(["attach", "--pid", &pid, "--format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // At another moment of the attach each time.
        std::thread::sleep(std::time::Duration::from_millis(10 * round));
        drop(server);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
        // Too late to attach is an error that names the process; an application that ends ends the attach.
        match output.status.code() {
            Some(0) => assert!(String::from_utf8_lossy(&output.stdout).contains("\"summary\""), "{stderr}"),
            Some(1) => assert!(stderr.contains(&pid), "{stderr}"),
            other => panic!("ended with {other:?}: {stderr}"),
        }
    }
}

#[test]
fn an_attach_ends_with_its_application() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    let attach = Pyapm::attach(server.pid(), &[]).unwrap();
    drop(server);
    assert_eq!(attach.finish().unwrap().status.code(), Some(0));
}

#[test]
fn somebody_who_is_not_root() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    // Where the user `nobody` can read it.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("pyapm");
    std::fs::copy(place::binary().unwrap(), &binary).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(&binary)
        .args(["attach", "--pid", &server.pid().to_string(), "--format", "json", "--duration", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_refused(&output, &["root"]);
}

#[test]
fn a_kernel_without_btf() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    // A mount namespace of its own, in which the kernel's BTF is not there.
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(place::binary().unwrap())
        .args(["attach", "--pid", &server.pid().to_string(), "--format", "json", "--duration", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_refused(&output, &["btf"]);
}

#[test]
fn a_kernel_that_is_too_old() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    // A mount namespace of its own, in which the kernel calls itself 5.4; uname(2) says 2.6 (personality(2), UNAME26).
    let folder = tempfile::tempdir().unwrap();
    let release = folder.path().join("osrelease");
    std::fs::write(&release, "5.4.0-150-generic\n").unwrap();
    let script = "mount --bind \"$1\" /proc/sys/kernel/osrelease && shift && exec setarch --uname-2.6 \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&release)
        .arg(place::binary().unwrap())
        .args(["attach", "--pid", &server.pid().to_string(), "--format", "json", "--duration", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_refused(&output, &["kernel", "5.10"]);
}

#[test]
fn a_python_that_is_not_supported() {
    let home = std::env::var("HOME").unwrap();
    let old = ["2.7.18", "3.6.15"].map(|version| format!("{home}/.pyenv/versions/{version}/bin/python"));
    let old: Vec<&String> = old.iter().filter(|file| std::path::Path::new(file).exists()).collect();
    if old.is_empty() {
        eprintln!("NOT RUN: no Python older than 3.8 on this machine");
    }
    for python in old {
        let (guard, _folder) = process(python, &["-c", "import time; time.sleep(1000)"]);
        harness::wait::until("the interpreter to sleep", || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", guard.pid()))?;
            let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", guard.pid()))?;
            Ok((state.contains(") S ") && cmdline.contains("time.sleep")).then_some(()))
        })
        .unwrap();
        assert_refused(&attach(guard.pid()), &["python", &guard.pid().to_string()]);
    }
}

#[test]
fn doctor_says_what_works_and_ends_well() {
    let server = Workload::http_over_tcp(&Python::first().unwrap()).unwrap();
    for arguments in
        [vec!["doctor".to_owned()], vec!["doctor".into(), "--pid".into(), server.pid().to_string()]]
    {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = pyapm::run(&arguments).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("kernel") && text.contains("btf"), "{text}");
    }
    let output = pyapm::run(&["doctor", "--pid", &server.pid().to_string()]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("3.11") && text.contains(&server.pid().to_string()), "{text}");
}
