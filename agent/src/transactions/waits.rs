//! Where the time of a request goes while one thread works on it alone: what that thread waits for is told by the
//! kernel, each time it comes back to a CPU; the rest it was on one. Once a request shares its thread, or changes it, the
//! rest is unknown.

use super::Transactions;
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
    /// Some time may have passed unseen.
    pub doubtful: bool,
}

impl OpenWaits {
    /// Time off the CPU in this state, of which the last part was spent waiting for a CPU.
    fn add(&mut self, left: &Left, calling: Option<SpanKind>, nanoseconds: u64, queued_ns: u64) {
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

    /// All of a request's time.
    #[must_use]
    pub fn finish(self, duration_ns: u64) -> Waits {
        let mut waits = self.known;
        let Waits { gil_ns, lock_ns, database_ns, network_ns, disk_ns, sleep_ns, .. } = waits;
        let told = gil_ns + lock_ns + database_ns + network_ns + disk_ns + sleep_ns;
        let told = told + waits.runnable_ns + waits.other_ns + waits.unknown_ns;
        let rest = duration_ns.saturating_sub(told);
        if self.doubtful {
            waits.unknown_ns += rest;
        } else {
            waits.on_cpu_ns = rest;
        }
        waits
    }
}

impl Transactions {
    /// A thread comes back to a CPU.
    pub(super) fn off_cpu(&mut self, caller: &Caller, away: &OffCpu) {
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
        };
        assert_eq!(open.finish(2000), Waits { on_cpu_ns: 242, ..known });
        open.doubtful = true;
        assert_eq!(open.finish(2000), Waits { unknown_ns: 282, ..known });
        assert_eq!(open.finish(0), known);
    }
}
