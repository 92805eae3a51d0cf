//! Puts spans and samples where they belong: at once, or when an answer has told.

use super::handed::Pool;
use super::lineage::{Lineage, Reason, Whose};
use super::lingering::Answered;
use crate::intake::Endpoint;
use crate::intake::{ConnectionId, Context, Direction, ExceptionId, Greenlet, Io, StackId};
use crate::transactions::connection::Speaks;
use crate::transactions::http::Ended;
use crate::transactions::spans::{Asking, Caller, OpenSpan, RequestId, SpanId};
use crate::transactions::tasks::Link;
use crate::transactions::work::Work;
use crate::transactions::{Output, Transactions};
use foldhash::HashMap;
use pyapm_model::line::Outcome;
use pyapm_model::stack::Stack;
use pyapm_wire::scope::flag;

/// The processes in which one thread serves many requests.
pub type Lineages = HashMap<u32, Lineage<Waiting>>;

/// The processes in which threads may answer what another has read.
pub type Pools = HashMap<u32, Pool<Waiting>>;

/// What waits to be told whose it is.
#[derive(Debug)]
pub enum Waiting {
    Span(SpanId),
    Sample { id: Option<StackId>, stack: Option<Stack> },
    Error(ExceptionId),
}

/// A request, and when its first byte had been read.
pub type Begun = (RequestId, u64);

impl Transactions {
    /// A context has been made.
    pub(in crate::transactions) fn context_made(&mut self, caller: &Caller, made: &Context) {
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        let number = lineage.made(caller.time_ns, caller.thread.tid, made);
        let worked = lineage.shows_by_copy(caller.time_ns, caller.thread.tid, number);
        self.worked(worked);
    }

    /// A greenlet has been made.
    pub(in crate::transactions) fn greenlet_made(&mut self, caller: &Caller, made: &Greenlet) {
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        lineage.greenlet_made(caller.time_ns, caller.thread.tid, made);
    }

    /// A write was put off.
    pub(in crate::transactions) fn write_queued(&mut self, caller: &Caller, connection: ConnectionId) {
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        lineage.queued(&caller.scope, connection);
    }

    /// A thread of a pool has woken the one that reads.
    pub(in crate::transactions) fn handed_back(&mut self, caller: &Caller) {
        let pool = self.pools.entry(caller.thread.pid).or_default();
        pool.woke(caller.time_ns, caller.thread.tid);
    }

    /// Who makes a call on this connection: the one who asked for it, where writes are put off.
    pub(in crate::transactions) fn asker(&self, caller: Caller, io: &Io<'_>) -> Caller {
        if caller.scope.flags & flag::DEFERS == 0 || io.direction != Direction::Out {
            return caller;
        }
        let Some(lineage) = self.lineages.get(&caller.thread.pid) else { return caller };
        Caller { scope: lineage.writer(caller.scope, io.connection), ..caller }
    }

    /// Before bytes go out on a connection: its current request, to be handed to [`Self::moved`].
    pub(in crate::transactions) fn current(&mut self, connection: ConnectionId) -> Option<Begun> {
        match &mut self.connections.get_mut(&connection)?.speaks {
            Speaks::Http(server) => {
                let current = server.current()?;
                Some((RequestId { connection, sequence: current.sequence }, current.started_ns))
            }
            _ => None,
        }
    }

    /// A part of the answer to `request` is about to be taken.
    pub(in crate::transactions) fn answers(&mut self, caller: &Caller, (request, began_ns): Begun) {
        let thread = caller.thread;
        if caller.scope.flags & flag::HANDS_ON != 0
            && let Some(connection) = self.connections.get(&request.connection)
        {
            let pool = self.pools.entry(thread.pid).or_default();
            // One that reads what it answers is of no pool.
            if pool.is_proven() || connection.owner != Some(thread) {
                pool.answered(thread.tid, request, began_ns);
            }
            self.settle(thread.pid, caller.time_ns);
        }
        if caller.scope.flags & flag::READ == 0 {
            return;
        }
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        lineage.answered(caller.time_ns, caller.thread.tid, &caller.scope, request, began_ns);
        self.settle(caller.thread.pid, caller.time_ns);
    }

    /// Bytes came in on a connection of clients, and were taken; `last` was its latest request before.
    pub(in crate::transactions) fn was_read(
        &mut self,
        caller: &Caller,
        connection: ConnectionId,
        last: Option<u64>,
    ) {
        if caller.scope.flags & flag::HANDS_ON != 0 {
            self.pools.entry(caller.thread.pid).or_default().read(caller.thread.tid);
        }
        if caller.scope.flags & flag::READ == 0 {
            return;
        }
        let Some(Speaks::Http(server)) = self.connections.get(&connection).map(|found| &found.speaks) else {
            return;
        };
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        let (mut begun, mut latest) = (0, None);
        for exchange in server.open() {
            let request = RequestId { connection, sequence: exchange.sequence };
            latest = Some(request);
            if last.is_none_or(|last| exchange.sequence > last) {
                begun += 1;
                lineage.began(exchange.started_ns, request);
            }
        }
        // Of several that came in one piece it cannot be told which is taken up first.
        let one = latest.filter(|_| begun <= 1 && server.open().len() == 1);
        lineage.read(caller.thread.tid, &caller.scope, connection, one);
    }

    /// Bytes came in on another connection.
    pub(in crate::transactions) fn was_read_elsewhere(&mut self, caller: &Caller) {
        if let Some(lineage) = self.lineages.get_mut(&caller.thread.pid) {
            lineage.read_elsewhere(caller.thread.tid);
        }
    }

    /// The latest request of a connection.
    pub(in crate::transactions) fn latest(&self, connection: ConnectionId) -> Option<u64> {
        match &self.connections.get(&connection)?.speaks {
            Speaks::Http(server) => server.latest(),
            _ => None,
        }
    }

    pub(in crate::transactions) fn connection_gone(&mut self, pid: u32, connection: ConnectionId) {
        if let Some(lineage) = self.lineages.get_mut(&pid) {
            lineage.closed(connection);
        }
    }

    /// Whose is what this caller does?
    fn whose(&mut self, caller: &Caller) -> Whose {
        let by_thread = self.by_thread(caller.thread);
        if caller.scope.flags & flag::HANDS_ON != 0 {
            let pool = self.pools.entry(caller.thread.pid).or_default();
            return pool.whose(caller.thread.tid, by_thread);
        }
        let of_thread = by_thread.map_or(Whose::Nobodys(Reason::NoContext), Whose::Request);
        let is_task = by_thread.is_some_and(|request| self.is_task(request));
        if caller.scope.flags & flag::READ == 0 || is_task {
            return of_thread;
        }
        let lineage = self.lineages.entry(caller.thread.pid).or_default();
        let scope = &caller.scope;
        // A thread that has read nothing since contexts are told, and runs no loop: what it works on was read before.
        let shared = flag::COROUTINE | flag::LOOP | flag::STACK_CUT | flag::GREENLETS;
        match lineage.whose(caller.time_ns, caller.thread.tid, scope, by_thread) {
            Whose::Threads => of_thread,
            Whose::Nobodys(Reason::NoContext) if scope.flags & shared == 0 => of_thread,
            other => other,
        }
    }

    /// Keeps something until its thread shows what it did it for.
    fn wait_for_thread(&mut self, caller: &Caller, what: Waiting) {
        let pool = self.pools.entry(caller.thread.pid).or_default();
        pool.wait(caller.time_ns, caller.thread.tid, what);
    }

    /// Who reads a request does not work on it.
    pub(in crate::transactions) fn only_reads(&self, pid: u32) -> bool {
        self.pools.get(&pid).is_some_and(Pool::is_proven)
    }

    /// What rides along with a request that has not been given out.
    pub(in crate::transactions) fn work(&mut self, id: RequestId) -> Option<&mut Work> {
        if let Some(connection) = self.connections.get_mut(&id.connection)
            && let Some(server) = connection.speaks.server_mut()
            && let Some(exchange) = server.exchange(id.sequence)
        {
            return Some(&mut exchange.work);
        }
        self.lingering.work(id)
    }

    /// A span for whoever runs there; `None` when that is nobody, or it has too many.
    pub(in crate::transactions) fn open_span(&mut self, caller: &Caller, asking: Asking) -> Option<SpanId> {
        if let Some(lineage) = self.lineages.get_mut(&caller.thread.pid) {
            lineage.called(caller.time_ns, &caller.scope);
        }
        let whose = self.whose(caller);
        if let Whose::Nobodys(reason) = whose {
            self.counts.span_unplaced += 1;
            self.unplaced(caller.scope.flags, reason);
            return None;
        }
        let mut span = OpenSpan::new(asking, caller.time_ns);
        span.stack.clone_from(&caller.stack);
        let id = self.spans.open(span);
        if let Some(thread) = self.threads.get_mut(&caller.thread) {
            thread.calling = Some(id);
        }
        match whose {
            Whose::Request(owner) => self.place_span(id, owner).then_some(id),
            Whose::Later(waits) => {
                let lineage = self.lineages.entry(caller.thread.pid).or_default();
                lineage.wait(waits, Waiting::Span(id));
                Some(id)
            }
            Whose::Handed => {
                self.wait_for_thread(caller, Waiting::Span(id));
                Some(id)
            }
            Whose::Nobodys(_) | Whose::Threads => None,
        }
    }

    /// A sample for whoever runs there.
    pub(in crate::transactions) fn place_sample(&mut self, caller: &Caller, id: Option<StackId>) {
        match self.whose(caller) {
            Whose::Request(owner) => self.add_sample(owner, id, caller.stack.clone()),
            Whose::Later(waits) => {
                let lineage = self.lineages.entry(caller.thread.pid).or_default();
                lineage.wait(waits, Waiting::Sample { id, stack: caller.stack.clone() });
            }
            Whose::Nobodys(reason) => {
                self.counts.sample_unplaced += 1;
                self.unplaced(caller.scope.flags, reason);
            }
            Whose::Handed => {
                self.wait_for_thread(caller, Waiting::Sample { id, stack: caller.stack.clone() });
            }
            Whose::Threads => self.counts.sample_unplaced += 1,
        }
    }

    /// An exception for whoever runs there.
    pub(in crate::transactions) fn place_error(&mut self, caller: &Caller, id: ExceptionId) {
        match self.whose(caller) {
            Whose::Request(owner) => self.give_error(id, owner),
            Whose::Later(waits) => {
                let lineage = self.lineages.entry(caller.thread.pid).or_default();
                lineage.wait(waits, Waiting::Error(id));
                self.errors.waits(id, true);
            }
            Whose::Handed => self.wait_for_thread(caller, Waiting::Error(id)),
            Whose::Nobodys(_) | Whose::Threads => {}
        }
    }

    /// Gives an exception to a request, unless that has been given out.
    fn give_error(&mut self, id: ExceptionId, owner: RequestId) {
        let most = self.limits.errors_per_transaction;
        let Some(work) = self.work(owner) else { return };
        if work.errors.len() >= most {
            work.errors.pop_front();
        }
        work.errors.push_back(id);
        self.errors.owned_by(id, owner);
    }

    /// Gives a span to a request; false when it has been given out, or has too many.
    fn place_span(&mut self, id: SpanId, owner: RequestId) -> bool {
        let most = self.limits.spans_per_transaction;
        let Some(work) = self.work(owner) else {
            self.spans.take(id);
            self.counts.span_late += 1;
            return false;
        };
        if work.spans.len() >= most {
            self.spans.take(id);
            self.counts.spans_overflow += 1;
            return false;
        }
        if let Some(span) = self.spans.get_mut(id) {
            span.owner = Some(owner);
        }
        let Some(work) = self.work(owner) else { return false };
        // Those that were told late may have begun before those that were told at once.
        let at = work.spans.partition_point(|before| *before < id);
        work.spans.insert(at, id);
        self.link(id, owner);
        true
    }

    /// What this call sends belongs to its sender's trace: ids are given before anything is given out.
    fn link(&mut self, id: SpanId, owner: RequestId) {
        let Some(span) = self.spans.get_mut(id) else { return };
        let Asking::Message { id: Some(message), .. } = &span.asking else { return };
        let message = message.clone();
        let exchange = match self.connections.get_mut(&owner.connection).and_then(|c| c.speaks.server_mut()) {
            Some(server) => server.exchange(owner.sequence),
            None => None,
        };
        let Some(exchange) = exchange.or_else(|| self.lingering.exchange(owner)) else { return };
        let span_id: String = self.finisher.ids.span().into();
        let trace = self.finisher.trace(exchange);
        exchange.work.trace = Some(trace.clone());
        span.span_id = Some(span_id.clone());
        self.finisher.sent.add(&message, Link { trace_id: trace.trace_id, span_id });
    }

    /// Messages that were sent since this was last asked.
    pub fn take_sent(&mut self) -> Vec<(String, Link)> {
        self.finisher.sent.take_news()
    }

    /// Messages that another application has sent.
    pub fn learn_sent(&mut self, sent: &[(String, Link)]) {
        for (id, link) in sent {
            self.finisher.sent.learn(id, link.clone());
        }
    }

    fn add_sample(&mut self, owner: RequestId, id: Option<StackId>, stack: Option<Stack>) {
        let most = self.limits.stacks_per_transaction;
        match self.work(owner).map(|work| work.sample(id, stack, most)) {
            Some(true) => {}
            Some(false) => self.counts.samples_overflow += 1,
            None => self.counts.sample_unplaced += 1,
        }
    }

    fn unplaced(&mut self, flags: u32, reason: Reason) {
        if flags & flag::READ == 0 {
            return;
        }
        let counts = &mut self.counts;
        *match reason {
            Reason::OutsideCoroutines => &mut counts.unplaced_outside_coroutines,
            Reason::NoContext => &mut counts.unplaced_no_context,
            Reason::NeverAnswered => &mut counts.unplaced_never_answered,
            Reason::TooMany => &mut counts.unplaced_overflow,
        } += 1;
    }

    /// Places what has been told.
    fn settle(&mut self, pid: u32, now_ns: u64) {
        let mut told = self.lineages.get_mut(&pid).map(|lineage| lineage.told(now_ns)).unwrap_or_default();
        told.extend(self.pools.get_mut(&pid).map(Pool::told).unwrap_or_default());
        self.take_verdicts(told);
    }

    fn take_verdicts(&mut self, told: Vec<(Waiting, Result<RequestId, Reason>)>) {
        for (what, verdict) in told {
            match (what, verdict) {
                (Waiting::Span(id), Ok(request)) => {
                    self.place_span(id, request);
                }
                (Waiting::Sample { id, stack }, Ok(request)) => self.add_sample(request, id, stack),
                (Waiting::Span(id), Err(reason)) => {
                    self.spans.take(id);
                    self.counts.span_unplaced += 1;
                    self.unplaced(flag::READ, reason);
                }
                (Waiting::Error(id), Ok(request)) => self.give_error(id, request),
                // Who never finds an owner is counted when the exception is done.
                (Waiting::Error(id), Err(_)) => self.errors.waits(id, false),
                (Waiting::Sample { .. }, Err(reason)) => {
                    self.counts.sample_unplaced += 1;
                    self.unplaced(flag::READ, reason);
                }
            }
        }
    }

    /// Requests of a connection have ended: they are given out, or wait a little for what belongs to them.
    pub(in crate::transactions) fn deliver_as(
        &mut self,
        id: ConnectionId,
        pid: u32,
        peer: Option<Endpoint>,
        out: &mut Output,
    ) {
        self.open = self.open.saturating_sub(self.ended.len());
        let passed_on = self.gateways.contains(&pid);
        if self.ended.iter().any(|ended| ended.outcome != Outcome::Complete)
            && let Some(pool) = self.pools.get_mut(&pid)
        {
            pool.cut_off();
        }
        let mut all = std::mem::take(&mut self.ended);
        for ended in all.drain(..) {
            if passed_on {
                self.counts.passed_on += 1;
                let _of_nobody: Vec<_> =
                    ended.exchange.work.spans.iter().filter_map(|id| self.spans.take(*id)).collect();
                continue;
            }
            let request = RequestId { connection: id, sequence: ended.exchange.sequence };
            if let Some(lineage) = self.lineages.get_mut(&pid) {
                lineage.ended(ended.exchange.started_ns, request);
                lineage.ended_after(ended.ended_ns.saturating_sub(ended.exchange.started_ns));
                if lineage.is_loop(ended.exchange.work.tid) && ended.exchange.work.task.is_none() {
                    self.lingering.keep(request, Answered { ended, pid, peer });
                    continue;
                }
            }
            // That it was sent may be told later than that it has been done.
            if ended.exchange.work.task.is_some() && !self.finisher.is_linked(&ended.exchange) {
                self.lingering.keep(request, Answered { ended, pid, peer });
                continue;
            }
            self.give_out(ended, pid, peer, out);
        }
        self.ended = all;
    }

    fn give_out(&mut self, mut ended: Ended<Work>, pid: u32, peer: Option<Endpoint>, out: &mut Output) {
        let ids = std::mem::take(&mut ended.exchange.work.spans);
        let mut open = Vec::with_capacity(ids.len());
        open.extend(ids.into_iter().filter_map(|id| self.spans.take(id)));
        let between = (ended.exchange.started_ns, ended.ended_ns);
        let work = &mut ended.exchange.work;
        let time = self.lineages.get(&pid).and_then(|lineage| lineage.loop_time(work.tid));
        if let Some(time) = time.filter(|_| work.task.is_none()) {
            work.waits = work.waits.on_a_loop(&open, time, between);
        }
        let error = self.errors.that_ended(&ended);
        let errors = std::mem::take(&mut ended.exchange.work.errors);
        let finished = self.finisher.finish(ended, open, error, pid, peer, &mut self.counts);
        self.errors.name(&errors, &finished.transaction.name);
        out.finished.push(finished);
    }

    /// Whether what this thread is doing at one moment may be for another request than those that are open on it.
    #[must_use]
    pub fn is_shared(&self, pid: u32, tid: u32) -> bool {
        self.lineages.get(&pid).is_some_and(|lineage| lineage.is_loop(tid))
    }

    /// What only time tells: call it now and then, with the time up to which events have been taken.
    pub fn advance(&mut self, now_ns: u64, out: &mut Output) {
        if self.lineages.is_empty() && self.pools.is_empty() && self.lingering.is_empty() {
            return;
        }
        let pids: Vec<u32> = self.lineages.keys().chain(self.pools.keys()).copied().collect();
        for pid in pids {
            self.settle(pid, now_ns);
            self.settle_worked(pid, now_ns);
        }
        loop {
            let spans = &self.spans;
            let waits =
                |work: &Work| work.spans.iter().filter_map(|id| spans.get(*id)).any(OpenSpan::is_waiting);
            let Some(answered) = self.lingering.take_due(now_ns, waits) else { break };
            self.give_out(answered.ended, answered.pid, answered.peer, out);
        }
    }

    /// Gives out what waits: nothing more will come.
    pub fn finish(&mut self, out: &mut Output) {
        let pids: Vec<u32> = self.lineages.keys().chain(self.pools.keys()).copied().collect();
        for pid in pids {
            self.forget_lineage(pid, out);
        }
        for answered in self.lingering.take_all(None) {
            self.give_out(answered.ended, answered.pid, answered.peer, out);
        }
    }

    /// A process has ended: nothing more will be told.
    pub(in crate::transactions) fn forget_lineage(&mut self, pid: u32, out: &mut Output) {
        self.settle(pid, u64::MAX);
        self.settle_worked(pid, u64::MAX);
        if let Some(pool) = self.pools.remove(&pid) {
            self.take_verdicts(pool.close());
        }
        for answered in self.lingering.take_all(Some(pid)) {
            self.give_out(answered.ended, answered.pid, answered.peer, out);
        }
        self.lineages.remove(&pid);
    }
}
