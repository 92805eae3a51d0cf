//! The requests of one process's connections, in the order in which they came: which was being served when.

use crate::intake::ConnectionId;
use crate::transactions::spans::RequestId;
use foldhash::HashMap;
use std::collections::{BTreeMap, VecDeque};

/// Requests of one connection that are remembered; older ones have long been answered.
const MAX_REMEMBERED: usize = 32;

#[derive(Debug, Default)]
pub struct Served {
    connections: HashMap<ConnectionId, VecDeque<Turn>>,
    /// When the requests began that have not ended, by number of requests.
    open: BTreeMap<u64, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    began_ns: u64,
    request: RequestId,
    /// It began while another one of its connection was open: which is being worked on cannot be told by time.
    overlapping: bool,
    ended: bool,
    /// What serves the connection was at work on it after its answer.
    tail: bool,
}

impl Served {
    pub fn began(&mut self, began_ns: u64, request: RequestId) {
        *self.open.entry(began_ns).or_default() += 1;
        let turns = self.connections.entry(request.connection).or_default();
        let overlapping = turns.back().is_some_and(|before| !before.ended);
        if overlapping && let Some(before) = turns.back_mut() {
            before.overlapping = true;
        }
        if turns.len() >= MAX_REMEMBERED {
            turns.pop_front();
        }
        turns.push_back(Turn { began_ns, request, overlapping, ended: false, tail: false });
    }

    pub fn ended(&mut self, began_ns: u64, request: RequestId) {
        if let Some(open) = self.open.get_mut(&began_ns) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&began_ns);
            }
        }
        let turns = self.connections.get_mut(&request.connection);
        if let Some(turn) = turns.and_then(|turns| turns.iter_mut().find(|turn| turn.request == request)) {
            turn.ended = true;
        }
    }

    pub fn closed(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// The request that what serves this connection was at work on at this time: the latest that had begun. When it
    /// was still at work on the one before, after its answer, it cannot be told when it turned to the next.
    #[must_use]
    pub fn request_at(&self, connection: ConnectionId, time_ns: u64) -> Option<RequestId> {
        let turns = self.connections.get(&connection)?;
        let at = turns.iter().rposition(|turn| turn.began_ns <= time_ns)?;
        let turn = turns.get(at)?;
        let busy = at.checked_sub(1).and_then(|before| turns.get(before)).is_some_and(|before| before.tail);
        (!turn.overlapping && !busy).then_some(turn.request)
    }

    /// What serves the connection did something at this time.
    pub fn was_at_work(&mut self, connection: ConnectionId, time_ns: u64) {
        let turns = self.connections.get_mut(&connection);
        let turn = turns.and_then(|turns| turns.iter_mut().rev().find(|turn| turn.began_ns <= time_ns));
        if let Some(turn) = turn {
            turn.tail |= turn.ended;
        }
    }

    /// A request of this connection has not ended.
    #[must_use]
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|turns| turns.iter().any(|turn| !turn.ended))
    }

    /// A later request of its connection had begun by this time.
    #[must_use]
    pub fn is_followed(&self, request: RequestId, time_ns: u64) -> bool {
        self.connections.get(&request.connection).is_some_and(|turns| {
            turns.iter().any(|turn| turn.request.sequence > request.sequence && turn.began_ns <= time_ns)
        })
    }

    /// When the oldest request began that has not ended.
    #[must_use]
    pub fn oldest_open_ns(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }
}
