//! Which transactions the dumped threads were in, as the running service knows. `dump` itself attaches to no sockets.
//!
//! The service is asked after the threads were looked at, and answers with a picture that it makes from then on, at most a
//! second later. A transaction that is still active there, and older than the dump, was active all the time in between.
//! One that has ended since is not told of: that it was this thread's when the thread was looked at cannot be known.

use crate::exports::socket::{Connection, ConnectionError};
use crate::pipeline::clock::monotonic_ns;
use pyapm_model::dump::{Dump, InTransaction};
use pyapm_model::service::{Request, Response, State, Watch};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Pictures come every second to those who ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes into each thread which transactions it was in while `dump` was taken, if a service listens at `socket` and
/// watches process `pid`; leaves all as it is if not. `from_ns` is when the first thread was looked at, `to_ns` when the
/// last was, by the monotonic clock.
pub(super) fn add_transactions(dump: &mut Dump, socket: &Path, pid: u32, from_ns: u64, to_ns: u64) {
    let state = match ask(socket, pid) {
        Ok(Some(state)) => state,
        Ok(None) => return,
        Err(error) => {
            dump.notes
                .push(format!("the service did not tell which transactions the threads are in: {error:#}"));
            return;
        }
    };
    add(dump, &state, from_ns, to_ns, monotonic_ns());
}

/// `None` when there is no service that this user may ask, or it does not watch the process.
fn ask(socket: &Path, pid: u32) -> anyhow::Result<Option<Arc<State>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = Request::Watch(Watch { application: None, name: None, pid: Some(pid) });
    let answer = async {
        let mut connection = Connection::open(socket, &watch).await?;
        connection.next().await
    };
    match runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await })? {
        Ok(Some(Response::Snapshot(state))) => Ok(Some(state)),
        Ok(_) => Err(ConnectionError::Closed.into()),
        Err(ConnectionError::Connect { .. } | ConnectionError::Refused(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `now_ns` is no earlier than when the picture was made.
fn add(dump: &mut Dump, state: &State, from_ns: u64, to_ns: u64, now_ns: u64) {
    for process in &mut dump.processes {
        for thread in &mut process.threads {
            let theirs = state.snapshot.active.iter().filter(|active| {
                (active.pid, active.tid) == (process.pid, thread.tid)
                    && active.elapsed_ns > now_ns.saturating_sub(from_ns)
            });
            let theirs = theirs.map(|active| InTransaction {
                name: active.name.clone(),
                path: active.path.clone(),
                trace_id: active.trace_id.clone(),
                elapsed_ns: active.elapsed_ns.saturating_sub(now_ns.saturating_sub(to_ns)),
            });
            thread.transactions = Some(theirs.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::dump::{self, Process, Thread};
    use pyapm_model::service::{ApplicationInfo, State};
    use pyapm_model::snapshot::{Active, Doing, Snapshot};

    const SECOND: u64 = 1_000_000_000;

    fn thread(tid: u32) -> Thread {
        Thread {
            tid,
            name: None,
            name_source: dump::NameSource::Kernel,
            is_main: false,
            state: dump::State::Running,
            task: None,
            transactions: None,
            holds_gil: None,
            stack: dump::Stack::Unreadable,
            frames: Vec::new(),
            left_out: None,
        }
    }

    #[test]
    fn only_what_was_active_all_the_time() {
        let active = |name: &str, tid, elapsed_ns| Active {
            name: name.to_owned(),
            path: None,
            pid: 7,
            tid,
            elapsed_ns,
            trace_id: None,
            doing: Doing::Unknown,
            calls: 0,
            state: None,
            stack: pyapm_model::stack::Stack::default(),
            place: None,
        };
        let snapshot = Snapshot {
            active: vec![
                active("long", 7, 5 * SECOND),
                active("since", 8, SECOND),
                active("other", 9, 9 * SECOND),
            ],
            ..Snapshot::default()
        };
        let state = State { info: Arc::new(ApplicationInfo::default()), snapshot, ..State::default() };
        let process =
            Process { pid: 7, threads: vec![thread(7), thread(8), thread(10)], ..Process::default() };
        let mut dump = Dump { processes: vec![process], ..Dump::default() };
        // Taken from 10 to 11; the picture came at 12.
        add(&mut dump, &state, 10 * SECOND, 11 * SECOND, 12 * SECOND);
        let [long, since, none] = &dump.processes[0].threads[..] else { panic!() };
        let long = long.transactions.as_deref().unwrap();
        assert_eq!((long.len(), long[0].name.as_str(), long[0].elapsed_ns), (1, "long", 4 * SECOND));
        assert_eq!(since.transactions.as_deref(), Some(&[][..]));
        assert_eq!(none.transactions.as_deref(), Some(&[][..]));
    }
}
