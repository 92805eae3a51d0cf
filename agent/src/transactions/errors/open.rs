//! The exceptions that may still reach frames, by the numbers that the kernel half gave them.

use super::catcher::{handled, own_frame};
use super::noise::Noise;
use crate::intake::{Exception, ExceptionId, Relation};
use crate::transactions::http::Ended;
use crate::transactions::spans::{Caller, RequestId};
use crate::transactions::thread::ThreadKey;
use crate::transactions::work::Work;
use crate::transactions::{Clock, FinishedError, Output, Transactions};
use pyapm_model::error::{Chained, Error, Relation as Chain};
use pyapm_model::line::{Frame, Outcome};
use pyapm_model::task::State;
use pyapm_wire::scope::Scope;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// An exception that reaches no frame for so long has been caught.
const CAUGHT_NS: u64 = 1_000_000_000;
/// How long it is kept for a request that it belongs to and that has not been given out: longer than those of event
/// loops are kept after their answer.
const KEPT_NS: u64 = 12_000_000_000;
/// Frames of one traceback.
const MAX_FRAMES: usize = 256;

/// An exception as it was told, with names.
#[derive(Clone, Copy, Debug)]
pub struct Raised<'a> {
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    pub scope: Scope,
    pub exception: &'a Exception,
    pub class: &'a str,
    pub module: Option<&'a str>,
    pub message: Option<&'a str>,
    /// Its frames, outermost first.
    pub frames: &'a [Frame],
}

#[derive(Debug)]
struct OpenError {
    error: Error,
    /// Innermost first.
    frames: Vec<Frame>,
    /// Numbers of its causes and contexts.
    chain: Vec<ExceptionId>,
    suppressed: u32,
    place: Option<u64>,
    /// One of its frames has no name.
    has_unknown: bool,
    owner: Option<RequestId>,
    /// An answer that is still to come may tell its owner.
    waits: bool,
    raised_ns: u64,
    reached_ns: u64,
    transaction: Option<String>,
}

/// Bounded: the oldest is given up for a new one.
#[derive(Debug)]
pub struct Errors {
    open: BTreeMap<ExceptionId, OpenError>,
    /// To which open one a cause or context belongs.
    belongs: HashMap<ExceptionId, ExceptionId>,
    most: usize,
    noise: Noise,
}

impl Transactions {
    /// Takes an exception that has left the frame that raised it, or one that belongs to it.
    pub fn raised(&mut self, raised: &Raised<'_>, out: &mut Output) {
        let clock = self.finisher.clock;
        match raised.exception.relation {
            Relation::CauseOf(other) => self.chained(raised, other, Chain::Cause),
            Relation::ContextOf(other) => self.chained(raised, other, Chain::Context),
            Relation::None | Relation::Continues(_) => {
                if self.errors.open.len() >= self.errors.most
                    && let Some(oldest) = self.errors.open.keys().next().copied()
                {
                    out.errors.extend(self.errors.close(oldest, clock));
                }
                self.errors.add(raised);
                self.place(raised.exception.id, raised.time_ns, raised.pid, raised.tid, raised.scope);
            }
        }
    }

    /// Takes one more frame that an exception has reached.
    pub fn passed(&mut self, time_ns: u64, pid: u32, tid: u32, id: ExceptionId, frame: Option<Frame>) {
        let Some(open) = self.errors.open.get_mut(&id) else {
            self.counts.exception_late += 1;
            return;
        };
        open.reached_ns = time_ns;
        open.has_unknown |= frame.is_none();
        if open.frames.len() >= MAX_FRAMES {
            open.error.cut = true;
        } else {
            open.frames.extend(frame);
        }
        // Raised by a thread that worked for another: it is the other's once it is handed over.
        if open.owner.is_none() {
            self.place(id, time_ns, pid, tid, Scope::default());
        }
    }

    /// Gives out the exceptions that are done at this time.
    pub fn settle_errors(&mut self, now_ns: u64, out: &mut Output) {
        let done: Vec<ExceptionId> = self
            .errors
            .open
            .iter()
            .filter(|(_, open)| open.reached_ns.saturating_add(CAUGHT_NS) <= now_ns)
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            let Some(open) = self.errors.open.get(&id) else { continue };
            let kept = now_ns < open.reached_ns.saturating_add(KEPT_NS);
            let (owner, waits) = (open.owner, open.waits);
            match owner {
                None if waits && kept => continue,
                None => self.counts.exception_unplaced += 1,
                // Its request is yet to be given out, and may show it.
                Some(owner) if kept && self.work(owner).is_some() => continue,
                Some(_) => {}
            }
            out.quiet.extend(self.errors.heard(id));
            out.errors.extend(self.errors.close(id, self.finisher.clock));
        }
    }

    fn chained(&mut self, raised: &Raised<'_>, other: ExceptionId, relation: Chain) {
        let root = self.errors.belongs.get(&other).copied().unwrap_or(other);
        let Some(open) = self.errors.open.get_mut(&root) else {
            self.counts.exception_late += 1;
            return;
        };
        let Raised { exception, class, module, message, frames, .. } = *raised;
        open.error.cut |= exception.chain_cut || exception.frames_cut;
        open.error.chain.push(Chained {
            relation,
            kind: class.to_owned(),
            module: module.map(str::to_owned),
            message: message.map(str::to_owned),
            stack: frames.iter().rev().cloned().collect::<Vec<_>>().into(),
        });
        open.chain.push(exception.id);
        self.errors.belongs.insert(exception.id, root);
    }

    fn place(&mut self, id: ExceptionId, time_ns: u64, pid: u32, tid: u32, scope: Scope) {
        let caller = Caller { time_ns, thread: ThreadKey { pid, tid }, scope, stack: None };
        self.place_error(&caller, id);
    }
}

impl Errors {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { open: BTreeMap::new(), belongs: HashMap::new(), most: most.max(1), noise: Noise::default() }
    }

    fn add(&mut self, raised: &Raised<'_>) {
        let exception = raised.exception;
        let mut frames: Vec<Frame> = raised.frames.iter().rev().cloned().collect();
        let mut cut = exception.frames_cut;
        if let (true, Relation::Continues(other)) = (cut, exception.relation)
            && let Some(other) = self.open.get(&other)
        {
            // What did not fit is known from the one before: this one begins with all its frames.
            let outermost = raised.frames.first().cloned();
            frames = other.frames.iter().cloned().chain(outermost).collect();
            cut = other.error.cut;
        }
        frames.truncate(MAX_FRAMES);
        let error = Error {
            kind: raised.class.to_owned(),
            message: raised.message.map(str::to_owned),
            module: raised.module.map(str::to_owned),
            cut: cut || exception.chain_cut,
            tid: raised.tid,
            ..Error::default()
        };
        let open = OpenError {
            error,
            frames,
            chain: Vec::new(),
            suppressed: exception.suppressed,
            place: exception.place,
            has_unknown: exception.frames.len() != raised.frames.len(),
            owner: None,
            waits: false,
            raised_ns: raised.time_ns,
            reached_ns: raised.time_ns,
            transaction: None,
        };
        self.open.insert(exception.id, open);
    }

    /// What is learnt of the place of an exception that is done: the kernel half is to be quiet about it, or not.
    fn heard(&mut self, id: ExceptionId) -> Option<(u64, bool)> {
        let open = self.open.get(&id)?;
        let place = open.place?;
        Some((place, self.noise.done(place, open.is_noise())?))
    }

    fn close(&mut self, id: ExceptionId, clock: Clock) -> Option<FinishedError> {
        let open = self.open.remove(&id)?;
        for id in &open.chain {
            self.belongs.remove(id);
        }
        Some(FinishedError {
            suppressed: u64::from(open.suppressed),
            raised_ns: clock.wall_ns(open.raised_ns),
            transaction: open.transaction.clone(),
            frame: own_frame(&open.frames).cloned(),
            error: open.seen(),
        })
    }

    /// The exception that made a transaction fail: of those that left the application's code the last, else the last that the
    /// application caught itself. `None` for transactions that did not fail.
    #[must_use]
    pub fn that_ended(&self, ended: &Ended<Work>) -> Option<Error> {
        let failed = ended.exchange.status.is_some_and(|status| status >= 500);
        let task = ended.exchange.work.task.as_ref().and_then(|task| task.finished.as_ref());
        let failed = failed || task.is_some_and(|finished| finished.state == Some(State::Failure));
        if !failed && ended.outcome != Outcome::WorkerExited {
            return None;
        }
        let errors = ended.exchange.work.errors.iter().filter_map(|id| self.open.get(id));
        let mut candidates: Vec<(&OpenError, Option<bool>)> =
            errors.map(|open| (open, handled(&open.frames))).collect();
        candidates.sort_by_key(|(open, _)| std::cmp::Reverse(open.reached_ns));
        let left = candidates.iter().find(|(_, handled)| *handled == Some(false));
        let caught = || candidates.iter().find(|(open, _)| open.is_of_the_application());
        left.or_else(caught).map(|(open, _)| open.seen())
    }

    pub(in crate::transactions) fn owned_by(&mut self, id: ExceptionId, owner: RequestId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.owner = Some(owner);
        }
    }

    /// Whether its owner is still to be told.
    pub(in crate::transactions) fn waits(&mut self, id: ExceptionId, waits: bool) {
        if let Some(open) = self.open.get_mut(&id) {
            open.waits = waits;
        }
    }

    /// Tells exceptions the name of the transaction that they were raised in, which has ended.
    pub fn name(&mut self, ids: &VecDeque<ExceptionId>, name: &str) {
        for id in ids {
            if let Some(open) = self.open.get_mut(id) {
                open.transaction = Some(name.to_owned());
            }
        }
    }
}

impl OpenError {
    /// Libraries have raised and caught it, and the application had no part in it.
    fn is_noise(&self) -> bool {
        let chained = self.error.chain.iter().flat_map(|chained| chained.stack.iter());
        !self.has_unknown
            && !self.error.cut
            && handled(&self.frames) == Some(true)
            && !self.frames.iter().chain(chained).any(crate::transactions::callsite::is_application)
    }

    fn seen(&self) -> Error {
        Error { handled: handled(&self.frames), stack: self.frames.clone().into(), ..self.error.clone() }
    }

    fn is_of_the_application(&self) -> bool {
        own_frame(&self.frames).is_some_and(crate::transactions::callsite::is_application)
    }
}
