//! Nothing changes in the target: not while pyapm is attached, not after it has ended, not after it was killed.

use harness::bpf::Held;
use harness::gunicorn::{Gunicorn, Options};
use harness::inspect::{Inspection, Text};
use harness::load::{Plan, Request, drive};
use harness::place::Python;
use harness::pyapm::Pyapm;
use harness::wait;

/// Libraries of a worker whose code is compared; the static executable of Debian is its own libpython.
const LIBRARIES: [&str; 3] = ["python3", "libmariadb.so", "libc.so"];

fn all(shop: &Gunicorn) -> Vec<(u32, Inspection)> {
    let pids = shop.workers().unwrap().into_iter().chain([shop.master()]);
    pids.map(|pid| (pid, Inspection::of(pid).unwrap())).collect()
}

fn without_anonymous(inspections: Vec<(u32, Inspection)>) -> Vec<(u32, Inspection)> {
    inspections.into_iter().map(|(pid, inspection)| (pid, inspection.without_anonymous())).collect()
}

fn assert_text_as_in_its_files(shop: &Gunicorn, when: &str) {
    for worker in shop.workers().unwrap() {
        for library in LIBRARIES {
            let differences = Text::of(worker, library).unwrap().differences();
            assert!(differences.is_empty(), "{when}: `{library}` of {worker} differs at {differences:x?}");
        }
    }
}

fn load(shop: &Gunicorn) {
    let requests = ["/", "/nplus1", "/products/1", "/cpu/5", "/sqlerror"].map(Request::get).to_vec();
    drive(&shop.address, &Plan { requests, total: 400, clients: 4 }).without_failures().unwrap();
}

#[test]
fn an_idle_target_is_the_same_to_the_last_mapping() {
    for python in Python::all().unwrap() {
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        let before = all(&shop);
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        assert_eq!(all(&shop), before, "while attached");
        attach.stop().unwrap();
        assert_eq!(all(&shop), before, "after it ended");
        assert_text_as_in_its_files(&shop, "after it ended");
    }
}

#[test]
fn a_target_at_work_keeps_its_files_threads_and_code() {
    for python in Python::all().unwrap() {
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        load(&shop);
        assert_text_as_in_its_files(&shop, "before");
        let before = without_anonymous(all(&shop));
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        load(&shop);
        // No line `[uprobes]` either: each probe lies on an instruction that the kernel emulates.
        assert_eq!(without_anonymous(all(&shop)), before, "while attached");
        let worker = *shop.workers().unwrap().first().unwrap();
        let probed = Text::of(worker, "libmariadb.so").unwrap().differences();
        assert!(!probed.is_empty(), "no probe in the driver's library: this test would prove nothing");
        attach.stop().unwrap();
        load(&shop);
        assert_eq!(without_anonymous(all(&shop)), before, "after it ended");
        assert_text_as_in_its_files(&shop, "after it ended");
    }
}

#[test]
fn no_probe_is_left_after_a_sigkill() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    load(&shop);
    let before = without_anonymous(all(&shop));
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    load(&shop);
    let held = Held::by(attach.pid()).unwrap();
    assert!(!held.programs.is_empty() && !held.still_there().unwrap().is_empty(), "{held:?}");
    attach.kill().unwrap();
    // The kernel frees programs and links when the last reader has gone by.
    wait::until("the kernel to free pyapm's programs", || Ok(held.still_there()?.is_empty().then_some(())))
        .unwrap();
    assert_text_as_in_its_files(&shop, "after SIGKILL");
    load(&shop);
    assert_eq!(without_anonymous(all(&shop)), before, "after SIGKILL");
}

#[test]
fn no_probe_is_left_after_an_attach_that_ended() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let held = Held::by(attach.pid()).unwrap();
    attach.stop().unwrap();
    wait::until("the kernel to free pyapm's programs", || Ok(held.still_there()?.is_empty().then_some(())))
        .unwrap();
}
