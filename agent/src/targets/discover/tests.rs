//! Against real processes, and made-up files where no real process can be had.

use super::*;
use crate::targets::live::Tree;
use crate::targets::process::ProcessKey;
use std::path::Path;
use std::process::Command;

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

const FORKS: &str = "
import os, time
pids = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    pids.append(pid)
print(*pids, flush=True)
time.sleep(600)
";

#[test]
fn forked_workers_from_any_pid() {
    let tree = Tree::python("shop", FORKS);
    let mut discovery = Discovery::new();
    for pid in [tree.pid(), tree.pids[0], tree.pids[1]] {
        let application = discovery.application(pid).unwrap();
        assert_eq!(application.name, "shop");
        assert_eq!(application.server, None);
        assert_eq!(application.master.pid, tree.pid());
        assert_eq!(application.pids()[0], tree.pid());
        assert_eq!(sorted(application.pids()), sorted([&[tree.pid()], &tree.pids[..]].concat()));
        assert!(application.members[0].is_master && !application.members[1].is_master);
        assert_eq!(application.members[0].cmdline.last().map(String::as_str), Some("shop.py"));
    }
    let all = discovery.all().unwrap().applications;
    let found: Vec<_> = all.iter().filter(|application| application.pids().contains(&tree.pids[0])).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].master.pid, tree.pid());
}

#[test]
fn spawned_workers() {
    for method in ["spawn", "forkserver"] {
        let program = format!(
            "
import multiprocessing, time
def work(running):
    running.release()
    time.sleep(600)
if __name__ == '__main__':
    context = multiprocessing.get_context('{method}')
    # Before that a worker may be in the middle of its exec, which is nobody's yet.
    running = context.Semaphore(0)
    workers = [context.Process(target=work, args=(running,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        running.acquire()
    print(*(worker.pid for worker in workers), flush=True)
    time.sleep(600)
"
        );
        let tree = Tree::python("served", &program);
        for pid in [tree.pids[0], tree.pids[1], tree.pid()] {
            let application = Discovery::new().application(pid).unwrap();
            assert_eq!((application.master.pid, application.name.as_str()), (tree.pid(), "served"));
            // The resource tracker and the fork server belong too, beside the workers.
            for worker in &tree.pids {
                assert!(application.pids().contains(worker), "{method}: {application:?}");
            }
        }
    }
}

#[test]
fn supervisor_and_what_it_runs_are_two() {
    let tree = Tree::run(
        "supervisor",
        "
import subprocess, sys
child = subprocess.Popen([sys.executable, 'supervised.py'], stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), flush=True)
child.wait()
",
        |command| {
            let directory = command.get_current_dir().unwrap();
            let program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)";
            std::fs::write(directory.join("supervised.py"), program).unwrap();
        },
    );
    let mut discovery = Discovery::new();
    let supervisor = discovery.application(tree.pid()).unwrap();
    assert_eq!((supervisor.name.as_str(), supervisor.pids()), ("supervisor", vec![tree.pid()]));
    let supervised = discovery.application(tree.pids[0]).unwrap();
    assert_eq!((supervised.name.as_str(), supervised.pids()), ("supervised", tree.pids.clone()));
    assert!(!discovery.belongs(tree.pid(), tree.pids[0]).unwrap());
}

#[test]
fn shells_above_and_below_stay_out() {
    let directory = tempfile::tempdir().unwrap();
    let program = "
import subprocess, time
child = subprocess.Popen(['sh', '-c', 'echo $$; sleep 600; true'], stdout=subprocess.PIPE)
import os
print(os.getpid(), child.stdout.readline().decode().strip(), flush=True)
time.sleep(600)
";
    std::fs::write(directory.path().join("inner.py"), program).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "python3 inner.py; true"]);
    let tree = Tree::start(directory, shell, |_| {});
    let mut discovery = Discovery::new();
    let application = discovery.application(tree.pids[0]).unwrap();
    assert_eq!(application.pids(), [tree.pids[0]]);
    assert!(!discovery.belongs(tree.pids[0], tree.pids[1]).unwrap());
    match discovery.application(tree.pid()).unwrap_err() {
        TargetError::NotPython { pid, below, .. } => {
            assert_eq!((pid, below), (tree.pid(), Some(tree.pids[0])));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn reloader_and_its_child_are_one() {
    let tree = Tree::python(
        "manage",
        "
import os, subprocess, sys, time
if 'CHILD' in os.environ:
    print(os.getpid(), flush=True)
    time.sleep(600)
subprocess.run([*sys.orig_argv], env={**os.environ, 'CHILD': '1'})
",
    );
    let application = Discovery::new().application(tree.pids[0]).unwrap();
    assert_eq!(application.master.pid, tree.pid());
    assert_eq!(application.pids(), [tree.pid(), tree.pids[0]]);
    let directory = tree.directory.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(application.name, printable(directory));
}

#[test]
fn owners_own_name_wins() {
    for (variable, value) in [
        ("OTEL_SERVICE_NAME", "till"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=x, service.name=till"),
    ] {
        let tree = Tree::run("shop", FORKS, |command| {
            command.env(variable, value);
        });
        assert_eq!(Discovery::new().application(tree.pids[1]).unwrap().name, "till");
    }
}

#[test]
fn a_thread_stands_for_its_process() {
    let tree = Tree::python(
        "threads",
        "
import threading, time
thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
thread.start()
print(thread.native_id, flush=True)
time.sleep(600)
",
    );
    assert_ne!(tree.pids[0], tree.pid());
    assert_eq!(Discovery::new().application(tree.pids[0]).unwrap().master.pid, tree.pid());
}

#[test]
fn zombie() {
    let tree = Tree::python(
        "parent",
        "
import os, time
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(pid, flush=True)
time.sleep(600)
",
    );
    let error = Discovery::new().application(tree.pids[0]).unwrap_err();
    assert!(matches!(error, TargetError::Ended { .. }), "{error}");
    assert_eq!(Discovery::new().application(tree.pid()).unwrap().pids(), [tree.pid()]);
}

#[test]
fn what_is_no_target() {
    let mut discovery = Discovery::new();
    let own = std::process::id();
    let error = discovery.application(own).unwrap_err();
    let exe = std::env::current_exe().unwrap();
    let expected = format!("process {own} is not a Python process: it runs `{}`", exe.display());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, TargetError::NotPython { .. }));
    for pid in [u32::MAX, 0] {
        let error = discovery.application(pid).unwrap_err();
        assert_eq!(error.to_string(), format!("no process has the pid {pid}"));
    }
}

/// Workers come and go while the tree is read: the answer is an application all the same.
#[test]
fn in_the_midst_of_forks_and_exits() {
    let tree = Tree::python(
        "churn",
        "
import os
print(os.getpid(), flush=True)
while True:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
",
    );
    let mut discovery = Discovery::new();
    for _ in 0..50 {
        let application = discovery.application(tree.pid()).unwrap();
        assert_eq!((application.master.pid, application.name.as_str()), (tree.pid(), "churn"));
        assert!(application.members.len() <= 2, "{application:?}");
    }
}

/// Kernel threads are not seen from within a container, so this one is made up.
#[test]
fn kernel_thread() {
    let root = tempfile::tempdir().unwrap();
    made_up(root.path(), 2, 0, "kthreadd", 0x0020_8040);
    let mut discovery = Discovery { procfs: ProcFs::at(root.path()), ..Discovery::default() };
    let error = discovery.application(2).unwrap_err();
    assert_eq!(error.to_string(), "process 2 (`kthreadd`) is a thread of the kernel, not a program");
}

/// A table that is no tree, as hostile files could make it: parents in a circle.
#[test]
fn circle_of_parents() {
    let root = tempfile::tempdir().unwrap();
    made_up(root.path(), 10, 11, "a", 0);
    made_up(root.path(), 11, 10, "b", 0);
    let mut discovery = Discovery { procfs: ProcFs::at(root.path()), ..Discovery::default() };
    let mut table = discovery.table().unwrap();
    table.python = HashMap::from([(10, true), (11, true)]);
    discovery.climb(&mut table, 10);
    assert!(discovery.assemble(&mut table, 10).is_none());
    assert_eq!(ProcessKey { pid: 10, start_time: 5 }.to_string(), "10");
}

fn made_up(root: &Path, pid: u32, parent: u32, name: &str, flags: u64) {
    let process = root.join(pid.to_string());
    std::fs::create_dir(&process).unwrap();
    let zeros = "0 ".repeat(12);
    let stat = format!(
        "{pid} ({name}) S {parent} 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0 1 1 7 {zeros} 0 0 0 0 0 3 4 5 6 7 8 9 0"
    );
    std::fs::write(process.join("stat"), stat).unwrap();
    std::fs::write(process.join("status"), format!("Name:\t{name}\nTgid:\t{pid}\n")).unwrap();
}
