//! Requests of event loops that have been answered: what they started may still ask for something, and whose a thing
//! was may be told by the answer itself. They are given out a little later.

use crate::intake::Endpoint;
use crate::transactions::http::{Ended, Exchange};
use crate::transactions::spans::RequestId;
use crate::transactions::work::Work;
use foldhash::HashMap;
use std::collections::VecDeque;

/// How long a request is kept after its answer, at least.
const LINGER_NS: u64 = 2_000_000_000;
/// And at most, while something that it asked for is not answered.
const LONGEST_NS: u64 = 10_000_000_000;
/// Requests that are kept at once; beyond that the oldest go at once.
const MAX_LINGERING: usize = 16_384;

/// One request that has been answered.
#[derive(Debug)]
pub struct Answered {
    pub ended: Ended<Work>,
    pub pid: u32,
    pub peer: Option<Endpoint>,
}

#[derive(Debug, Default)]
pub struct Lingering {
    /// Each is large.
    answered: HashMap<RequestId, Box<Answered>>,
    /// When each is looked at, in that order.
    due: VecDeque<(u64, RequestId)>,
}

impl Lingering {
    pub fn keep(&mut self, request: RequestId, answered: Answered) {
        self.due.push_back((answered.ended.ended_ns.saturating_add(LINGER_NS), request));
        self.answered.insert(request, Box::new(answered));
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub fn exchange(&mut self, request: RequestId) -> Option<&mut Exchange<Work>> {
        Some(&mut self.answered.get_mut(&request)?.ended.exchange)
    }

    pub fn ended(&mut self, request: RequestId) -> Option<&mut Ended<Work>> {
        Some(&mut self.answered.get_mut(&request)?.ended)
    }

    pub fn work(&mut self, request: RequestId) -> Option<&mut Work> {
        Some(&mut self.answered.get_mut(&request)?.ended.exchange.work)
    }

    /// The next one whose time has come; `waits` says whether something that it asked for is not answered.
    pub fn take_due(&mut self, now_ns: u64, waits: impl Fn(&Work) -> bool) -> Option<Box<Answered>> {
        loop {
            let (due_ns, request) = *self.due.front()?;
            if due_ns > now_ns && self.due.len() <= MAX_LINGERING {
                return None;
            }
            self.due.pop_front();
            let Some(answered) = self.answered.get(&request) else { continue };
            let kept_ns = now_ns.saturating_sub(answered.ended.ended_ns);
            if kept_ns < LONGEST_NS && self.due.len() < MAX_LINGERING && waits(&answered.ended.exchange.work)
            {
                self.due.push_back((now_ns.saturating_add(LINGER_NS), request));
                continue;
            }
            return self.answered.remove(&request);
        }
    }

    /// All of a process, or of all of them, in the order in which they were answered.
    pub fn take_all(&mut self, pid: Option<u32>) -> Vec<Answered> {
        let is_one = |answered: &Answered| pid.is_none_or(|pid| answered.pid == pid);
        let requests: Vec<RequestId> = self
            .answered
            .iter()
            .filter(|(_, answered)| is_one(answered))
            .map(|(request, _)| *request)
            .collect();
        let mut taken: Vec<Answered> = requests
            .iter()
            .filter_map(|request| self.answered.remove(request))
            .map(|answered| *answered)
            .collect();
        taken.sort_by_key(|answered| answered.ended.ended_ns);
        taken
    }
}
