//! The shop's visitors: a few threads that ask for one page after the other, with pauses, so that a laptop stays
//! usable. They count nothing.

use harness::load::{Address, Body, Connection, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// At most `CLIENTS / PAUSE` = 150 requests a second.
const CLIENTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// Pages, the frequent ones more often.
const PAGES: [&str; 16] = [
    "/",
    "/products/1",
    "/products/17",
    "/search?q=books",
    "/",
    "/nplus1",
    "/products/42",
    "/cpu/30",
    "/",
    "/search?q=no.%201",
    "/slow-sql/40",
    "/products/9999",
    "/",
    "/sqlerror",
    "/sleep/60",
    "/error",
];

/// Visitors who come until this is dropped.
#[derive(Debug)]
pub struct Visitors {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Visitors {
    /// Lets them in.
    #[must_use]
    pub fn start(address: &Address) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS)
            .map(|client| {
                let (address, stop) = (address.clone(), Arc::clone(&stop));
                std::thread::spawn(move || visit(&address, client, &stop))
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A visitor's panic has been written to stderr; there is nothing to clean up after it.
            let _ended = thread.join();
        }
    }
}

fn visit(address: &Address, client: usize, stop: &AtomicBool) {
    // Each begins on another page, and now and then sends something.
    let mut pages = PAGES.iter().cycle().skip(client * 5);
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let request = match pages.next() {
            Some(page) if !number.is_multiple_of(20) => Request::get(page),
            _ => Request::post("/upload", Body::Length(100_000)),
        };
        // While the demo ends, the shop may be gone before its visitors are.
        let _answer = Connection::open(address).and_then(|mut connection| connection.ask(&request.close()));
        std::thread::sleep(PAUSE);
    }
}
