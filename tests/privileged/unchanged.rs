//! Nothing changes in the target: not while pyapm is attached, not after it has ended, not after it was killed.

use harness::bpf::Held;
use harness::gunicorn::{Gunicorn, Options};
use harness::inspect::{Inspection, Text};
use harness::load::{Plan, Request, drive};
use harness::place::Python;
use harness::pyapm::Pyapm;
use harness::wait;
use std::time::Duration;

/// Libraries of a worker whose code is compared; the static executable of Debian is its own libpython.
const LIBRARIES: [&str; 3] = ["python3", "libmariadb.so", "libc.so"];

fn all(shop: &Gunicorn) -> Vec<(u32, Inspection)> {
    let pids = shop.workers().unwrap().into_iter().chain([shop.master()]);
    pids.map(|pid| (pid, Inspection::of(pid).unwrap())).collect()
}

fn without_anonymous(shop: &Gunicorn) -> Vec<(u32, Inspection)> {
    all(shop).into_iter().map(|(pid, inspection)| (pid, inspection.without_anonymous())).collect()
}

type Look = fn(&Gunicorn) -> Vec<(u32, Inspection)>;

/// A worker closes its connection some time after the client has its answer: looks until two looks are the same.
fn settled(shop: &Gunicorn, look: Look) -> Vec<(u32, Inspection)> {
    let mut last = Vec::new();
    wait::until("the shop to come to rest", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = look(shop);
        let same = now == last;
        last.clone_from(&now);
        Ok(same.then_some(now))
    })
    .unwrap()
}

/// Once at rest, everything is as it was; the error says what is not.
fn assert_same(before: &[(u32, Inspection)], shop: &Gunicorn, look: Look, when: &str) {
    let now = settled(shop, look);
    let pids = |list: &[(u32, Inspection)]| list.iter().map(|(pid, _)| *pid).collect::<Vec<_>>();
    assert_eq!(pids(before), pids(&now), "{when}: other processes than before");
    for ((pid, before), (_, now)) in before.iter().zip(&now) {
        let differences = before.differences(now);
        assert!(differences.is_empty(), "{when}: process {pid} differs:\n{}", differences.join("\n"));
    }
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
        let before = settled(&shop, all);
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        assert_same(&before, &shop, all, "while attached");
        attach.stop().unwrap();
        assert_same(&before, &shop, all, "after it ended");
        assert_text_as_in_its_files(&shop, "after it ended");
    }
}

#[test]
fn a_target_at_work_keeps_its_files_threads_and_code() {
    for python in Python::all().unwrap() {
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        load(&shop);
        assert_text_as_in_its_files(&shop, "before (is another pyapm at work on this machine?)");
        let before = settled(&shop, without_anonymous);
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        load(&shop);
        // No line `[uprobes]` either: each probe lies on an instruction that the kernel emulates.
        assert_same(&before, &shop, without_anonymous, "while attached");
        let worker = *shop.workers().unwrap().first().unwrap();
        let probed = Text::of(worker, "libmariadb.so").unwrap().differences();
        assert!(!probed.is_empty(), "no probe in the driver's library: this test would prove nothing");
        attach.stop().unwrap();
        load(&shop);
        assert_same(&before, &shop, without_anonymous, "after it ended");
        assert_text_as_in_its_files(&shop, "after it ended");
    }
}

#[test]
fn no_probe_is_left_after_a_sigkill() {
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    load(&shop);
    let before = settled(&shop, without_anonymous);
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
    assert_same(&before, &shop, without_anonymous, "after SIGKILL");
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
