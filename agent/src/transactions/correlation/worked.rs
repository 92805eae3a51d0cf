//! The time of the event loops of one process, request by request: what was found out at once is handed on, the rest
//! waits until the answers have told.

use super::ancestry::Number;
use super::lineage::{Lineage, Whose};
use super::loop_time::{For, LoopTime, Shown, Stretch};
use crate::intake::Left;
use crate::transactions::spans::RequestId;
use foldhash::HashMap;
use pyapm_model::line::SpanKind;
use pyapm_wire::scope::{Scope, flag};
use std::collections::VecDeque;

/// Loops of one process that are followed.
const MAX_LOOPS: usize = 64;
/// Stretches whose request is not known yet.
const MAX_UNTOLD: usize = 16_384;
/// Of those, the ones that are too old for requests that were short.
const MAX_OLD: usize = 4_096;
/// A request that has ended is given out later than this: what it did is asked for before.
const SETTLED_NS: u64 = 1_500_000_000;

/// What a request did on a loop's thread.
pub type Work = (RequestId, Stretch);

/// A stretch, with whose it is once that context's request at that time is known.
type Untold = (Number, u64, Stretch);

/// What an event says beside who ran.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    /// The request that bytes were moved for.
    pub request: Option<RequestId>,
    /// Somebody is asked for something, or answered.
    pub calls: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Worked {
    loops: HashMap<u32, LoopTime>,
    untold: VecDeque<Untold>,
    /// Their requests, if any, take longer than others.
    old: VecDeque<Untold>,
    /// A request that took long has ended since the old ones were asked.
    ask_old: bool,
    /// Greenlets have been met.
    greenlets: bool,
}

impl<T> Lineage<T> {
    /// An event of a thread shows whom it works for.
    pub fn shows(&mut self, time_ns: u64, tid: u32, scope: &Scope, about: About) -> Option<Work> {
        let has = |flag| scope.flags & flag != 0;
        if !self.worked.loops.contains_key(&tid) {
            let is_loop = has(flag::LOOP | flag::COROUTINE | flag::GREENLETS);
            if !is_loop || self.worked.loops.len() >= MAX_LOOPS {
                return None;
            }
            self.worked.loops.insert(tid, LoopTime::new(time_ns));
        }
        let whose = |request: Option<RequestId>| request.map_or(For::Nobody, For::Request);
        let shown = if has(flag::GREENLETS) {
            self.worked.greenlets = true;
            let request = match self.whose(time_ns, tid, scope, None) {
                Whose::Request(request) => Some(request),
                _ => None,
            };
            // Nobody's, or of a request that is not known to have it.
            if request.is_none() && (scope.task == 0 || about.calls) {
                self.worked.loops.get_mut(&tid)?.doubt(time_ns);
            }
            Shown::Works(whose(request))
        } else if !has(flag::COROUTINE) || scope.context == 0 {
            Shown::Begins(whose(about.request))
        } else if has(flag::BIRTHS) {
            Shown::Works(For::Context(self.ancestry.at(scope.context), time_ns))
        } else {
            // An address says nothing later, when the answers tell whose it was.
            self.worked.loops.get_mut(&tid)?.doubt(time_ns);
            Shown::Works(For::Nobody)
        };
        self.shown(time_ns, tid, shown)
    }

    /// A thread has made this context: for whom, its maker says.
    pub fn shows_by_copy(&mut self, time_ns: u64, tid: u32, made: Number) -> Option<Work> {
        if self.worked.greenlets {
            return None;
        }
        self.shown(time_ns, tid, Shown::Works(For::Context(made, time_ns)))
    }

    fn shown(&mut self, time_ns: u64, tid: u32, shown: Shown) -> Option<Work> {
        let (whose, stretch) = self.worked.loops.get_mut(&tid)?.shows(time_ns, shown);
        self.whose_stretch(whose, stretch)
    }

    /// A loop's thread is back on a CPU, after so long, of which the last part was spent waiting for one.
    pub fn back(
        &mut self,
        time_ns: u64,
        tid: u32,
        left: &Left,
        calling: Option<SpanKind>,
        away_ns: (u64, u64),
    ) -> Option<Work> {
        let (whose, stretch) = self.worked.loops.get_mut(&tid)?.back(time_ns, left, calling, away_ns)?;
        self.whose_stretch(whose, stretch)
    }

    fn whose_stretch(&mut self, whose: For, stretch: Stretch) -> Option<Work> {
        if stretch.began_ns >= stretch.ended_ns {
            return None;
        }
        let (number, time_ns) = match whose {
            For::Nobody => return None,
            For::Request(request) => return Some((request, stretch)),
            For::Context(number, time_ns) => (number, time_ns),
        };
        if let Some(request) = self.ancestry.resolve(number, time_ns, &self.served) {
            return Some((request, stretch));
        }
        self.worked.untold.push_back((number, time_ns, stretch));
        if self.worked.untold.len() <= MAX_UNTOLD {
            return None;
        }
        let (number, time_ns, stretch) = self.worked.untold.pop_front()?;
        match self.ancestry.resolve(number, time_ns, &self.served) {
            Some(request) => Some((request, stretch)),
            None => {
                self.worked.keep_old((number, time_ns, stretch));
                self.worked.ask_old = true;
                None
            }
        }
    }

    /// A request has ended, after so long: what it did may be asked for.
    pub fn ended_after(&mut self, nanoseconds: u64) {
        self.worked.ask_old |= nanoseconds >= SETTLED_NS && !self.worked.old.is_empty();
    }

    /// What is known by now of stretches whose request was not. Nothing else is ever known of those that can belong to no
    /// request any more.
    pub fn settle_worked(&mut self, now_ns: u64) -> Vec<Work> {
        let mut works = Vec::new();
        let oldest_open_ns = self.served.oldest_open_ns().unwrap_or(u64::MAX);
        let before_ns = now_ns.saturating_sub(SETTLED_NS);
        self.worked.ask_old |= now_ns == u64::MAX;
        if std::mem::take(&mut self.worked.ask_old) {
            for (number, time_ns, stretch) in std::mem::take(&mut self.worked.old) {
                match self.ancestry.resolve(number, time_ns, &self.served) {
                    Some(request) => works.push((request, stretch)),
                    None if time_ns >= oldest_open_ns => {
                        self.worked.old.push_back((number, time_ns, stretch));
                    }
                    None => {}
                }
            }
        }
        while let Some((number, time_ns, stretch)) =
            self.worked.untold.pop_front_if(|(_, time_ns, _)| *time_ns <= before_ns)
        {
            match self.ancestry.resolve(number, time_ns, &self.served) {
                Some(request) => works.push((request, stretch)),
                None if time_ns >= oldest_open_ns => self.worked.keep_old((number, time_ns, stretch)),
                None => {}
            }
        }
        works
    }

    /// Of a thread with an event loop; `None` of one that is not known to have one.
    #[must_use]
    pub fn loop_time(&self, tid: u32) -> Option<&LoopTime> {
        let is_loop = self.worked.greenlets || self.is_loop(tid);
        self.worked.loops.get(&tid).filter(|_| is_loop)
    }

    /// Of the same, when some of its time was not seen.
    pub fn doubt_loop(&mut self, time_ns: u64, tid: u32) {
        if let Some(time) = self.worked.loops.get_mut(&tid) {
            time.doubt(time_ns);
        }
    }
}

impl Worked {
    fn keep_old(&mut self, untold: Untold) {
        if self.old.len() >= MAX_OLD
            && let Some((_, time_ns, _)) = self.old.pop_front()
        {
            // It may have been anybody's who was there.
            for time in self.loops.values_mut() {
                time.doubt(time_ns);
            }
        }
        self.old.push_back(untold);
    }
}
