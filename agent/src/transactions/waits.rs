//! Where the time of a request goes. While one thread works on it alone: what that thread waits for is told by the
//! kernel, each time it comes back to a CPU; the rest it was on one. Once a request changes its thread, the rest is
//! unknown.
//!
//! On an event loop (`correlation/loop_time.rs`, `docs/decisions/0035-waits-on-an-event-loop.md`): while the loop waits
//! for something to happen, the request waits for its calls, or for something else that it awaits. While the loop works,
//! it works for the request, or the request could not go on whatever it waited for.

use super::Transactions;
use super::correlation::{LoopTime, Stretch, Within};
use super::spans::{Asking, Caller, OpenSpan};
use super::work::Work;
use crate::intake::{Left, OffCpu};
use crate::targets::{Reason, SystemCall, Wait};
use pyapm_model::line::{SpanKind, Waits};

/// What is known so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenWaits {
    /// `on_cpu_ns` is 0 until the end.
    known: Waits,
    /// What an event loop did for it.
    worked: Waits,
    /// Some time may have passed unseen.
    pub doubtful: bool,
}

impl OpenWaits {
    /// Time off the CPU in this state, of which the last part was spent waiting for a CPU.
    pub(super) fn add(&mut self, left: &Left, calling: Option<SpanKind>, nanoseconds: u64, queued_ns: u64) {
        let queued = queued_ns.min(nanoseconds);
        self.known.runnable_ns += queued;
        *self.part(left, calling) += nanoseconds - queued;
    }

    fn part(&mut self, left: &Left, calling: Option<SpanKind>) -> &mut u64 {
        let known = &mut self.known;
        if left.waits_for_gil && left.state != 0 {
            return &mut known.gil_ns;
        }
        match (reason(left), calling) {
            (Reason::Runnable, _) => &mut known.runnable_ns,
            (Reason::Sleep, _) => &mut known.sleep_ns,
            (Reason::Lock, _) => &mut known.lock_ns,
            (Reason::Disk, _) => &mut known.disk_ns,
            (Reason::Socket | Reason::Events, Some(SpanKind::Db)) => &mut known.database_ns,
            (Reason::Socket, _) | (Reason::Events, Some(_)) => &mut known.network_ns,
            // An event loop that waits: for whom, it does not say.
            (Reason::Events, None) => &mut known.unknown_ns,
            (Reason::Pipe | Reason::Child | Reason::PageFault | Reason::Stopped | Reason::Other, _) => {
                &mut known.other_ns
            }
        }
    }

    /// An event loop has worked for it. What lies outside of it is none of its time.
    pub(super) fn worked(&mut self, stretch: &Stretch, (started_ns, ended_ns): (u64, u64)) {
        let within = stretch.ended_ns.min(ended_ns).saturating_sub(stretch.began_ns.max(started_ns));
        if within == 0 {
            return;
        }
        let outside = stretch.ended_ns.saturating_sub(stretch.began_ns) - within;
        let mut parts = stretch.parts;
        parts.on_cpu_ns = parts.on_cpu_ns.saturating_sub(outside);
        for (sum, part) in self.worked.parts_mut().into_iter().zip(parts.parts_mut()) {
            *sum += *part;
        }
    }

    /// All of a request's time.
    #[must_use]
    pub fn finish(self, duration_ns: u64) -> Waits {
        let mut waits = self.known;
        let rest = duration_ns.saturating_sub(waits.total_ns());
        if self.doubtful {
            waits.unknown_ns += rest;
        } else {
            waits.on_cpu_ns += rest;
        }
        waits
    }

    /// All of a request's time on an event loop, from when its first byte was read until its answer had been written.
    /// What was doubtful of its thread says nothing: a loop's thread has other requests, too.
    pub(super) fn on_a_loop(self, calls: &[OpenSpan], time: &LoopTime, between: (u64, u64)) -> Self {
        let (started_ns, ended_ns) = between;
        let within = time.within(started_ns, ended_ns);
        let idle_ns = within.idle_between(started_ns, ended_ns);
        let in_calls = |wanted: fn(SpanKind) -> bool| {
            let calls = calls.iter().filter(|call| wanted(kind(call)));
            idle_within(within, calls.map(OpenSpan::open_between).collect(), between)
        };
        let database_ns = in_calls(|kind| kind == SpanKind::Db).min(idle_ns);
        let is_db_alone = calls.iter().all(|call| kind(call) == SpanKind::Db);
        let all_calls_ns = if is_db_alone { database_ns } else { in_calls(|_| true).min(idle_ns) };
        let mut waits = self.worked;
        let busy_ns = ended_ns.saturating_sub(started_ns).saturating_sub(idle_ns);
        let others_ns = busy_ns.saturating_sub(waits.total_ns());
        if time.is_known_since(started_ns) {
            waits.loop_busy_ns += others_ns;
        } else {
            waits.unknown_ns += others_ns;
        }
        waits.database_ns += database_ns;
        waits.network_ns += all_calls_ns.saturating_sub(database_ns);
        waits.awaiting_ns += idle_ns - all_calls_ns;
        Self { known: waits, worked: Waits::default(), doubtful: false }
    }
}

/// Idle time of a loop while at least one of several calls was open.
fn idle_within(time: Within<'_>, mut calls: Vec<(u64, u64)>, (started_ns, ended_ns): (u64, u64)) -> u64 {
    calls.sort_unstable();
    let (mut sum_ns, mut until_ns) = (0, started_ns);
    for (began_ns, over_ns) in calls {
        let (from_ns, to_ns) = (began_ns.max(until_ns), over_ns.min(ended_ns));
        if from_ns < to_ns {
            sum_ns += time.idle_between(from_ns, to_ns);
            until_ns = to_ns;
        }
    }
    sum_ns
}

impl Transactions {
    /// A thread comes back to a CPU.
    pub(super) fn off_cpu(&mut self, caller: &Caller, away: &OffCpu) {
        if self.loop_off_cpu(caller, away) {
            return;
        }
        let Some(owner) = self.by_thread(caller.thread) else {
            self.doubt_all(caller);
            return;
        };
        let calling = self.calling(caller, owner);
        let is_shared = self.shares_threads(caller.thread.pid);
        let Some(exchange) = self.open_request(owner) else { return };
        let waits = &mut exchange.work.waits;
        let Some(duration_ns) = away.duration_ns else {
            waits.doubtful = true;
            return;
        };
        // What came before the request is none of it.
        let nanoseconds = duration_ns.min(caller.time_ns.saturating_sub(exchange.started_ns));
        waits.add(&away.left, calling, nanoseconds, away.queued_ns);
        // A loop has other work than this request's, too.
        waits.doubtful |= is_shared && reason(&away.left) == Reason::Events;
    }

    /// The same of a thread that turns an event loop; false if that is not known to be one.
    fn loop_off_cpu(&mut self, caller: &Caller, away: &OffCpu) -> bool {
        let (time_ns, tid) = (caller.time_ns, caller.thread.tid);
        let Some(lineage) = self.lineages.get_mut(&caller.thread.pid) else { return false };
        let is_loop = lineage.loop_time(tid).is_some();
        let Some(duration_ns) = away.duration_ns else {
            lineage.doubt_loop(time_ns, tid);
            return is_loop;
        };
        let latest = self.threads.get(&caller.thread).and_then(|thread| thread.calling);
        let calling = latest.and_then(|id| self.spans.get(id)).filter(|span| !span.closed).map(kind);
        let worked = lineage.back(time_ns, tid, &away.left, calling, (duration_ns, away.queued_ns));
        self.worked(worked);
        is_loop
    }

    /// The latest call of a request that has not ended. The thread knows its own: a call may be given to its request
    /// later, in the first one of a process always.
    fn calling(&mut self, caller: &Caller, owner: super::spans::RequestId) -> Option<SpanKind> {
        let latest = self.threads.get(&caller.thread)?.calling;
        if let Some(open) = latest.and_then(|id| self.spans.get(id)).filter(|span| !span.closed) {
            return Some(kind(open));
        }
        let connection = self.connections.get_mut(&owner.connection)?;
        let calls = &connection.speaks.server_mut()?.exchange(owner.sequence)?.work.spans;
        let open = calls.iter().rev().filter_map(|id| self.spans.get(*id)).find(|span| !span.closed)?;
        Some(kind(open))
    }

    /// A thread that serves several requests at once has waited for one of them, or for all.
    fn doubt_all(&mut self, caller: &Caller) {
        let Some(thread) = self.threads.get(&caller.thread) else { return };
        for id in thread.serving.clone() {
            for work in self.open_work(id) {
                work.waits.doubtful = true;
            }
        }
    }
}

fn reason(left: &Left) -> Reason {
    let [first, second, third] = left.arguments;
    let call = left.call.map(|number| SystemCall { number, arguments: [first, second, third, 0, 0, 0] });
    Wait::of(left.state, call.as_ref(), left.mode).reason
}

fn kind(span: &OpenSpan) -> SpanKind {
    match &span.asking {
        Asking::Statement { .. } => SpanKind::Db,
        Asking::Command { kind, .. } => *kind,
        Asking::Http { .. } => SpanKind::Http,
        Asking::Message { .. } => SpanKind::Messaging,
    }
}

impl Work {
    /// `tid` works on the request now, in the turn of its connection that `index` says.
    pub fn taken_by(&mut self, tid: u32, index: usize) {
        if index > 0 || (self.tid != 0 && self.tid != tid) {
            self.waits.doubtful = true;
        }
        self.tid = tid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::StackStatus;

    fn left(state: u32, call: u64, mode: u16) -> Left {
        Left {
            stack: None,
            status: StackStatus::NoFrame,
            state,
            call: Some(call),
            arguments: [3, 1, 0],
            fd: Some(3),
            mode,
            holds_gil: false,
            waits_for_gil: false,
        }
    }

    const RECVFROM: u64 = 45;
    const EPOLL_WAIT: u64 = 232;
    const FUTEX: u64 = 202;
    const NANOSLEEP: u64 = 230;
    const FSYNC: u64 = 74;

    #[test]
    fn each_wait_has_its_part_and_the_rest_is_the_cpu() {
        let mut open = OpenWaits::default();
        open.add(&left(1, RECVFROM, 0), Some(SpanKind::Db), 100, 10);
        open.add(&left(1, RECVFROM, 0), Some(SpanKind::Http), 20, 0);
        open.add(&left(1, RECVFROM, 0), None, 3, 0);
        open.add(&left(1, EPOLL_WAIT, 0), Some(SpanKind::Db), 1000, 0);
        open.add(&left(1, EPOLL_WAIT, 0), None, 40, 0);
        open.add(&left(1, FUTEX, 0), None, 5, 5);
        open.add(&left(1, FUTEX, 0), None, 50, 0);
        open.add(&Left { waits_for_gil: true, ..left(1, FUTEX, 0) }, None, 7, 0);
        open.add(&left(1, NANOSLEEP, 0), None, 9, 0);
        open.add(&left(2, FSYNC, 0), None, 11, 0);
        open.add(&left(0, FSYNC, 0), None, 500, 0);
        open.add(&left(1, 9999, 0), None, 13, 0);
        let known = Waits {
            on_cpu_ns: 0,
            gil_ns: 7,
            lock_ns: 50,
            database_ns: 1090,
            network_ns: 23,
            disk_ns: 11,
            sleep_ns: 9,
            runnable_ns: 515,
            other_ns: 13,
            unknown_ns: 40,
            ..Waits::default()
        };
        assert_eq!(open.finish(2000), Waits { on_cpu_ns: 242, ..known });
        open.doubtful = true;
        assert_eq!(open.finish(2000), Waits { unknown_ns: 282, ..known });
        assert_eq!(open.finish(0), known);
    }
}
