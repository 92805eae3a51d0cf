//! Several connections kept busy at once, each answer counted by path and status. Every request that was sent is in
//! the counts, answered or not; nothing is repeated in silence.

use super::connection::{Address, Answer, Connection};
use super::request::Request;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What to ask for, how often, and by how many clients.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Asked for in turn.
    pub requests: Vec<Request>,
    /// Over all clients together.
    pub total: u64,
    pub clients: usize,
}

/// One answered request.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Without the query string.
    pub path: String,
    pub status: u16,
    pub worker: Option<u32>,
    pub elapsed: Duration,
}

/// What came of a plan.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub answers: Vec<Measured>,
    /// Requests without a whole answer, with the reason.
    pub failures: Vec<String>,
}

impl Counts {
    /// Answers by path and status.
    #[must_use]
    pub fn by_path_and_status(&self) -> BTreeMap<(String, u16), u64> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry((answer.path.clone(), answer.status)).or_default() += 1;
        }
        counts
    }

    /// These counts, or an error when any request failed.
    ///
    /// # Errors
    /// When any request failed.
    pub fn without_failures(self) -> Result<Self> {
        if let Some(first) = self.failures.first() {
            bail!("{} of the load's requests failed; the first: {first}", self.failures.len());
        }
        Ok(self)
    }
}

/// Carries out the plan and returns when every request has been answered or has failed.
#[must_use]
pub fn drive(address: &Address, plan: &Plan) -> Counts {
    Stream::start(address, plan, Some(plan.total)).finish()
}

/// A plan that is being carried out, until its total or until it is told to stop.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<Counts>>,
}

impl Stream {
    /// Starts the clients; with a `total` they stop after so many requests.
    #[must_use]
    pub fn start(address: &Address, plan: &Plan, total: Option<u64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let requests = Arc::new(plan.requests.clone());
        let clients = (0..plan.clients)
            .map(|_| {
                let (address, stop, sent) = (address.clone(), Arc::clone(&stop), Arc::clone(&sent));
                let requests = Arc::clone(&requests);
                std::thread::spawn(move || client(&address, &requests, &stop, &sent, total))
            })
            .collect();
        Self { stop, sent, clients }
    }

    /// How many requests have been begun.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether all clients have ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.clients.iter().all(std::thread::JoinHandle::is_finished)
    }

    /// Lets each client end the request it is at, and returns what came of it all.
    #[must_use]
    pub fn stop(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for the total to be reached.
    #[must_use]
    pub fn finish(self) -> Counts {
        let mut all = Counts::default();
        for client in self.clients {
            match client.join() {
                Ok(counts) => {
                    all.answers.extend(counts.answers);
                    all.failures.extend(counts.failures);
                }
                Err(_panic) => all.failures.push("a client of the load panicked".to_owned()),
            }
        }
        all
    }
}

fn client(
    address: &Address,
    requests: &[Request],
    stop: &AtomicBool,
    sent: &AtomicU64,
    total: Option<u64>,
) -> Counts {
    let mut counts = Counts::default();
    let mut open: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        if total.is_some_and(|total| number >= total) {
            break;
        }
        let place = usize::try_from(number).unwrap_or(usize::MAX) % requests.len().max(1);
        let Some(request) = requests.get(place) else { break };
        match ask(address, open.take(), request) {
            Ok((answer, connection)) => {
                open = connection;
                counts.answers.push(Measured {
                    path: request.path().to_owned(),
                    status: answer.status,
                    worker: answer.worker().ok(),
                    elapsed: answer.elapsed,
                });
            }
            Err(error) => counts.failures.push(format!("{} {}: {error:#}", request.method, request.target)),
        }
    }
    counts
}

/// Asks on the open connection or on a new one, and returns the connection when the server keeps it open.
fn ask(
    address: &Address,
    open: Option<Connection>,
    request: &Request,
) -> Result<(Answer, Option<Connection>)> {
    let mut connection = match open {
        Some(connection) => connection,
        None => Connection::open(address)?,
    };
    let answer = connection.ask(request)?;
    let closed = request.closes()
        || answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok((answer, (!closed).then_some(connection)))
}
