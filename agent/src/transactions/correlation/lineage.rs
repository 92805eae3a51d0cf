//! Which request an event belongs to where one thread serves many: one process, one pass over its events. No I/O,
//! no clock.
//!
//! A request's bytes are read in no context of its own; its answer is written in one. What is asked in between is
//! asked in that context, or in a copy of it, or in a copy of a copy. So: every copy inherits the request of what it
//! is copied from, at the moment when it is made; the answer tells which request that is, and what came before the
//! answer waits for it. What is never told stays unplaced.
//!
//! Where a server makes a task for each request, as soon as it has read it, the copy for that task tells the request
//! too, and at once. That is a guess: it is believed after an answer has shown it right, and never again after one
//! has shown it wrong.

use super::ancestry::{Ancestry, Learnt, Made, Number};
use super::greenlets::Greenlets;
use super::served::Served;
use super::worked::Worked;
use crate::intake::{ConnectionId, Context, Greenlet};
use crate::transactions::spans::RequestId;
use foldhash::{HashMap, HashMapExt};
use pyapm_wire::scope::{Scope, flag};
use std::collections::VecDeque;

/// Things that wait for an answer to tell whose they are.
const MAX_WAITING: usize = 4_096;
/// How long they wait at most.
const LONGEST_WAIT_NS: u64 = 10_000_000_000;
/// Threads that are remembered.
const MAX_THREADS: usize = 4_096;

/// Whose something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Request(RequestId),
    /// An answer that is still to come may tell.
    Later(Waits),
    /// Nothing will tell.
    Nobodys(Reason),
    /// The thread serves one request at a time: ask the thread.
    Threads,
    /// The thread will show it: see [`super::handed`].
    Handed,
}

/// Why nothing tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An event loop's thread, outside of every coroutine: its own work, or what it does later for many.
    OutsideCoroutines,
    /// A thread that nobody asked to work in a context: its own, a pool's, a greenlet's that nobody knows.
    NoContext,
    /// No answer told in time.
    NeverAnswered,
    /// Too many waited.
    TooMany,
}

/// What an answer is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    context: Number,
    address: u64,
    time_ns: u64,
    tid: u32,
    /// The thread has not shown yet what it is. This is what it says itself, if it serves one request at a time.
    undecided: Option<Option<RequestId>>,
    /// No context is reported when it is made here: an address is only good while its request is open.
    by_address: bool,
}

/// What a thread has shown itself to be, by what it did after it read a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Manner {
    #[default]
    Undecided,
    /// It answers from a coroutine, or says that a loop runs on it.
    Loop,
    /// It answers by itself.
    OneAtATime,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    manner: Manner,
    /// The request that was read last, in which context; `None` once something else has been read.
    read: Option<(RequestId, u64)>,
    /// Greenlets read requests here: what its first one does is none of theirs.
    has_greenlets: bool,
}

/// How far guesses are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trust {
    #[default]
    NotYet,
    Proven,
    Refuted,
}

/// See the module. `T` is what waits.
#[derive(Debug)]
pub struct Lineage<T> {
    pub(super) ancestry: Ancestry,
    pub(super) served: Served,
    pub(super) worked: Worked,
    threads: HashMap<u32, Thread>,
    greenlets: Greenlets,
    trust: Trust,
    /// Whether every request has a context of its own.
    one_each: Trust,
    waiting: VecDeque<(Waits, T)>,
    /// What has been told since it was last asked for.
    told: Vec<(T, Result<RequestId, Reason>)>,
}

/// Contexts are aligned to 16 bytes: an odd address is none's.
fn name_of(connection: ConnectionId) -> u64 {
    connection.0 << 1 | 1
}

impl<T> Default for Lineage<T> {
    fn default() -> Self {
        Self {
            ancestry: Ancestry::default(),
            served: Served::default(),
            worked: Worked::default(),
            threads: HashMap::new(),
            greenlets: Greenlets::default(),
            trust: Trust::default(),
            one_each: Trust::default(),
            waiting: VecDeque::new(),
            told: Vec::new(),
        }
    }
}

impl<T> Lineage<T> {
    /// A thread has made a context; its number.
    pub fn made(&mut self, time_ns: u64, tid: u32, made: &Context) -> Number {
        if made.empty || made.parent == 0 {
            return self.ancestry.made(made.context, Made { time_ns, ..Made::default() });
        }
        let read = self.threads.get(&tid).and_then(|thread| thread.read);
        // Made where a request has just been read: in that very context, or in a fresh one entered from it.
        let guess = read.filter(|(_, context)| {
            *context != 0 && (made.parent == *context || made.grandparent == *context)
        });
        let guess = guess.map(|(request, _)| request);
        let parent = self.ancestry.at(made.parent);
        let owner = match (guess, self.trust) {
            (Some(request), Trust::Proven) => Some(request),
            (Some(_), Trust::NotYet) => None,
            (None, _) | (Some(_), Trust::Refuted) => self.ancestry.resolve(parent, time_ns, &self.served),
        };
        self.ancestry.made(made.context, Made { time_ns, parent: Some(parent), owner, guess })
    }

    /// A thread has made a greenlet.
    pub fn greenlet_made(&mut self, time_ns: u64, tid: u32, made: &Greenlet) {
        let new = (tid, made.greenlet);
        if made.is_thread || made.maker == 0 {
            self.greenlets.forget(new);
        } else {
            self.greenlets.made(time_ns, new, (tid, made.maker), &self.served);
        }
    }

    /// Bytes of a served connection were read; `request` is the one that they are of, when that is one alone.
    pub fn read(&mut self, tid: u32, scope: &Scope, connection: ConnectionId, request: Option<RequestId>) {
        let Some(thread) = self.thread(tid) else { return };
        if scope.flags & flag::GREENLETS != 0 {
            thread.has_greenlets = true;
            if scope.task != 0 {
                self.greenlets.read((tid, scope.task), connection, &self.served);
            }
            return;
        }
        let in_coroutine = scope.flags & flag::COROUTINE != 0;
        if in_coroutine || scope.flags & flag::LOOP != 0 {
            thread.manner = Manner::Loop;
        }
        thread.read = request.filter(|_| !in_coroutine).map(|request| (request, scope.context));
        if scope.context != 0 && scope.flags & flag::BIRTHS != 0 {
            let context = self.ancestry.at(scope.context);
            self.ancestry.read_in(context, connection);
        }
    }

    /// Something else was read on this thread.
    pub fn read_elsewhere(&mut self, tid: u32) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.read = None;
        }
    }

    pub fn began(&mut self, began_ns: u64, request: RequestId) {
        self.served.began(began_ns, request);
    }

    /// The answer to `request` was written, or a part of it.
    pub fn answered(&mut self, time_ns: u64, tid: u32, scope: &Scope, request: RequestId, began_ns: u64) {
        if scope.flags & flag::GREENLETS != 0 {
            return;
        }
        let in_coroutine = scope.flags & flag::COROUTINE != 0;
        if let Some(thread) = self.thread(tid) {
            if in_coroutine || scope.flags & flag::LOOP != 0 {
                thread.manner = Manner::Loop;
            } else if thread.manner == Manner::Undecided
                && scope.flags & (flag::STACK_CUT | flag::ENTERED | flag::DEFERS) == 0
            {
                thread.manner = Manner::OneAtATime;
            }
            let manner = thread.manner;
            if manner != Manner::Undecided {
                self.decided(tid, manner);
            }
        }
        if !in_coroutine || scope.context == 0 {
            return;
        }
        if scope.flags & flag::BIRTHS == 0 {
            self.tell(|waits| {
                (waits.by_address
                    && waits.undecided.is_none()
                    && waits.address == scope.context
                    && (began_ns..=time_ns).contains(&waits.time_ns))
                .then_some(Ok(request))
            });
            return;
        }
        let context = self.ancestry.at(scope.context);
        let before = self.trust;
        if let Some(guess) = self.ancestry.guess(context, began_ns) {
            if guess != request {
                self.trust = Trust::Refuted;
            } else if self.trust == Trust::NotYet {
                self.trust = Trust::Proven;
            }
        }
        let learnt = self.ancestry.answered_in(context, request, began_ns, &self.served);
        if learnt == Learnt::ServesMany {
            self.trust = Trust::Refuted;
        }
        let before = (before, self.ancestry.one_each);
        self.ancestry.one_each = match (learnt, self.one_each) {
            (Learnt::ServesMany, _) | (_, Trust::Refuted) => {
                self.one_each = Trust::Refuted;
                false
            }
            // The task of a connection is older than its second request.
            _ if request.sequence > 0 && self.ancestry.is_younger(context, began_ns) => {
                self.one_each = Trust::Proven;
                true
            }
            (_, known) => known == Trust::Proven,
        };
        if learnt != Learnt::Nothing || (self.trust, self.ancestry.one_each) != before {
            self.tell_resolved();
        }
    }

    /// Whether a loop runs on this thread, or greenlets serve there: what is asked for a request may come after its
    /// answer.
    #[must_use]
    pub fn is_loop(&self, tid: u32) -> bool {
        !self.greenlets.is_empty()
            || self.threads.get(&tid).is_some_and(|thread| thread.manner == Manner::Loop)
    }

    fn thread(&mut self, tid: u32) -> Option<&mut Thread> {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            return None;
        }
        Some(self.threads.entry(tid).or_default())
    }

    /// A write on this connection was put off: what is written there next is for whoever asks now.
    pub fn queued(&mut self, scope: &Scope, connection: ConnectionId) {
        if scope.context != 0 && scope.flags & flag::COROUTINE != 0 {
            let context = self.ancestry.at(scope.context);
            self.ancestry.name(name_of(connection), context);
        } else {
            self.ancestry.forget_name(name_of(connection));
        }
    }

    /// Who writes on this connection, where writes are put off and none runs any more.
    #[must_use]
    pub fn writer(&self, scope: Scope, connection: ConnectionId) -> Scope {
        let off = scope.flags & (flag::DEFERS | flag::COROUTINE | flag::STACK_CUT) == flag::DEFERS;
        if off && self.ancestry.is_named(name_of(connection)) {
            Scope { context: name_of(connection), flags: scope.flags | flag::COROUTINE, ..scope }
        } else {
            scope
        }
    }

    /// A request has ended, or its connection's answers can no longer be followed.
    pub fn ended(&mut self, began_ns: u64, request: RequestId) {
        self.served.ended(began_ns, request);
    }

    pub fn closed(&mut self, connection: ConnectionId) {
        self.served.closed(connection);
        self.ancestry.forget_name(name_of(connection));
    }

    /// Whose is what this thread does now? `by_thread` is what the thread itself says, if it serves one request at
    /// a time.
    pub fn whose(&mut self, time_ns: u64, tid: u32, scope: &Scope, by_thread: Option<RequestId>) -> Whose {
        if scope.flags & flag::GREENLETS != 0 {
            let known = scope.task != 0;
            let request =
                known.then(|| self.greenlets.request(time_ns, (tid, scope.task), &self.served)).flatten();
            return request.map_or(Whose::Nobodys(Reason::NoContext), Whose::Request);
        }
        let thread = self.threads.get(&tid);
        if thread.is_some_and(|thread| thread.has_greenlets) {
            return Whose::Nobodys(Reason::OutsideCoroutines);
        }
        let manner = thread.map(|thread| thread.manner);
        if manner == Some(Manner::OneAtATime) {
            return Whose::Threads;
        }
        let has = |flag| scope.flags & flag != 0;
        let told_by_context = match manner {
            // Its own work, or what it does later for many.
            Some(_) => has(flag::COROUTINE),
            None => has(flag::COROUTINE | flag::ENTERED | flag::HANDED_ON),
        };
        let undecided = (manner == Some(Manner::Undecided)).then_some(by_thread);
        let waits = |context, by_address| Waits {
            context,
            address: scope.context,
            time_ns,
            tid,
            undecided,
            by_address,
        };
        if !told_by_context || scope.context == 0 {
            let reason = if manner.is_some() { Reason::OutsideCoroutines } else { Reason::NoContext };
            // Nothing but the thread can tell: 0 is no context's number.
            return if undecided.is_some() { Whose::Later(waits(0, false)) } else { Whose::Nobodys(reason) };
        }
        if !has(flag::BIRTHS) {
            return Whose::Later(waits(0, true));
        }
        let context = self.ancestry.at(scope.context);
        match self.ancestry.resolve(context, time_ns, &self.served) {
            Some(request) if undecided.is_none() => Whose::Request(request),
            _ => Whose::Later(waits(context, false)),
        }
    }

    /// A call was made in this context: whatever serves its connection is at work still.
    pub fn called(&mut self, time_ns: u64, scope: &Scope) {
        if scope.flags & (flag::COROUTINE | flag::BIRTHS) != flag::COROUTINE | flag::BIRTHS {
            return;
        }
        let context = self.ancestry.at(scope.context);
        if let Some(connection) = self.ancestry.node(context).and_then(|node| node.connection) {
            self.served.was_at_work(connection, time_ns);
        }
    }

    /// Keeps something until it is told whose it is.
    pub fn wait(&mut self, waits: Waits, what: T) {
        if self.waiting.len() >= MAX_WAITING
            && let Some((_, oldest)) = self.waiting.pop_front()
        {
            self.told.push((oldest, Err(Reason::TooMany)));
        }
        self.waiting.push_back((waits, what));
    }

    /// What has been told of those that waited. What nothing can tell any more is told as well: of all requests that
    /// were open when it was asked, none is.
    pub fn told(&mut self, now_ns: u64) -> Vec<(T, Result<RequestId, Reason>)> {
        let oldest_open_ns = self.served.oldest_open_ns().unwrap_or(u64::MAX);
        while let Some((waits, _)) = self.waiting.front() {
            if waits.time_ns >= oldest_open_ns && now_ns.saturating_sub(waits.time_ns) < LONGEST_WAIT_NS {
                break;
            }
            if let Some((_, what)) = self.waiting.pop_front() {
                self.told.push((what, Err(Reason::NeverAnswered)));
            }
        }
        std::mem::take(&mut self.told)
    }

    /// A thread has shown what it is: what waited for that alone is told.
    fn decided(&mut self, tid: u32, manner: Manner) {
        if !self.waiting.iter().any(|(waits, _)| waits.tid == tid && waits.undecided.is_some()) {
            return;
        }
        if manner == Manner::OneAtATime {
            self.tell(|waits| {
                let by_thread = waits.undecided.filter(|_| waits.tid == tid)?;
                Some(by_thread.ok_or(Reason::NoContext))
            });
            return;
        }
        for (waits, _) in &mut self.waiting {
            if waits.tid == tid {
                waits.undecided = None;
            }
        }
        self.tell(|waits| {
            (waits.context == 0 && !waits.by_address).then_some(Err(Reason::OutsideCoroutines))
        });
        self.tell_resolved();
    }

    fn tell_resolved(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for (waits, what) in waiting {
            let request = if waits.undecided.is_none() && !waits.by_address {
                self.ancestry.resolve(waits.context, waits.time_ns, &self.served)
            } else {
                None
            };
            match request {
                Some(request) => self.told.push((what, Ok(request))),
                None => self.waiting.push_back((waits, what)),
            }
        }
    }

    fn tell(&mut self, verdict: impl Fn(&Waits) -> Option<Result<RequestId, Reason>>) {
        let waiting = std::mem::take(&mut self.waiting);
        for (waits, what) in waiting {
            match verdict(&waits) {
                Some(verdict) => self.told.push((what, verdict)),
                None => self.waiting.push_back((waits, what)),
            }
        }
    }
}
