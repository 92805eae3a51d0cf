//! How the time of one event loop's thread goes: when it waited for something to happen, and for whom it worked in
//! between. No I/O, no clock.
//!
//! What the kernel tells anyway divides the time. A wait in `epoll_wait` is idle time, of all requests alike. The rest is
//! work, and every event of the thread says who runs: a coroutine writes a call or an answer, copies its context to set a
//! timer or make a task, is met by a sample. A coroutine runs until it awaits something, and what it does for that is
//! mostly the last thing that it does: so the time between two such events is counted for whom the second one shows. What
//! the loop does by itself (it reads) begins something: the time before it goes on to be whose it was.

use super::ancestry::Number;
use crate::intake::Left;
use crate::transactions::spans::RequestId;
use crate::transactions::waits::OpenWaits;
use pyapm_model::line::{SpanKind, Waits};
use std::collections::VecDeque;

/// Idle times that are remembered, one by one.
const MAX_IDLE: usize = 65_536;

/// Calls in which an event loop waits (kernel `arch/x86/entry/syscalls/syscall_64.tbl`): `epoll_wait`, `epoll_pwait`,
/// `epoll_pwait2`.
const LOOP_WAITS: [u64; 3] = [232, 281, 441];

/// For whom a loop's thread works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum For {
    /// For no request, as far as can be known.
    #[default]
    Nobody,
    Request(RequestId),
    /// For whoever has this context, at that time.
    Context(Number, u64),
}

/// What an event says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is in the middle of working for somebody.
    Works(For),
    /// It has begun to.
    Begins(For),
}

/// Time that a loop's thread worked for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub began_ns: u64,
    pub ended_ns: u64,
    /// How it went; the parts add up to its length.
    pub parts: Waits,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    began_ns: u64,
    ended_ns: u64,
    /// Idle time before it, since the loop was met.
    before_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub struct LoopTime {
    /// Since when `off_cpu` is added up, and whom the thread has worked for then.
    since_ns: u64,
    whose: For,
    off_cpu: OpenWaits,
    idle: VecDeque<Idle>,
    idle_ns: u64,
    /// Until then whom it worked for cannot be told.
    doubtful_until_ns: u64,
}

impl LoopTime {
    #[must_use]
    pub fn new(time_ns: u64) -> Self {
        Self {
            since_ns: time_ns,
            whose: For::Nobody,
            off_cpu: OpenWaits::default(),
            idle: VecDeque::new(),
            idle_ns: 0,
            doubtful_until_ns: 0,
        }
    }

    /// An event of the thread shows whom it works for: whose the time before it was.
    pub fn shows(&mut self, time_ns: u64, shown: Shown) -> (For, Stretch) {
        let (of, next) = match shown {
            Shown::Works(whose) => (whose, whose),
            Shown::Begins(whose) => (self.whose, whose),
        };
        (of, self.ends(time_ns, next))
    }

    fn ends(&mut self, time_ns: u64, next: For) -> Stretch {
        let began_ns = self.since_ns;
        self.since_ns = time_ns.max(began_ns);
        self.whose = next;
        let off_cpu = std::mem::take(&mut self.off_cpu);
        let parts = off_cpu.finish(self.since_ns - began_ns);
        Stretch { began_ns, ended_ns: self.since_ns, parts }
    }

    /// The thread is back on a CPU, after so long. What was before is told when it had waited as a loop.
    pub fn back(
        &mut self,
        time_ns: u64,
        left: &Left,
        calling: Option<SpanKind>,
        (nanoseconds, queued_ns): (u64, u64),
    ) -> Option<(For, Stretch)> {
        let nanoseconds = nanoseconds.min(time_ns.saturating_sub(self.since_ns));
        let queued_ns = queued_ns.min(nanoseconds);
        let waits = left.state != 0 && left.call.is_some_and(|call| LOOP_WAITS.contains(&call));
        if !waits {
            self.off_cpu.add(left, calling, nanoseconds, queued_ns);
            return None;
        }
        let (began_ns, ended_ns) = (time_ns - nanoseconds, time_ns - queued_ns);
        let whose = self.whose;
        let stretch = self.ends(began_ns, For::Nobody);
        self.idle(began_ns, ended_ns);
        // Something has happened by now, and nobody takes care of it while others have the CPU.
        self.since_ns = self.since_ns.max(ended_ns);
        self.off_cpu.add(&Left { state: 0, ..*left }, None, queued_ns, queued_ns);
        Some((whose, stretch))
    }

    fn idle(&mut self, began_ns: u64, ended_ns: u64) {
        if self.idle.len() >= MAX_IDLE {
            // The further back, the less exactly: of the older half every second one goes, its time stays in the sums.
            let mut at = 0;
            self.idle.retain(|_| {
                at += 1;
                at > MAX_IDLE / 2 || at % 2 == 1
            });
        }
        self.idle.push_back(Idle { began_ns, ended_ns, before_ns: self.idle_ns });
        self.idle_ns += ended_ns.saturating_sub(began_ns);
    }

    /// Time passed of which nothing is known.
    pub fn doubt(&mut self, time_ns: u64) {
        self.doubtful_until_ns = self.doubtful_until_ns.max(time_ns);
    }

    /// Whom the thread worked for is known from this time on.
    #[must_use]
    pub fn is_known_since(&self, time_ns: u64) -> bool {
        self.doubtful_until_ns <= time_ns
    }

    /// The part of it between two moments, to be asked for several times within.
    #[must_use]
    pub fn within(&self, began_ns: u64, ended_ns: u64) -> Within<'_> {
        let from = self.idle.partition_point(|idle| idle.began_ns < began_ns);
        let until = self.idle.partition_point(|idle| idle.began_ns < ended_ns);
        Within { idle: &self.idle, from, until }
    }

    #[cfg(test)]
    fn idle_between(&self, began_ns: u64, ended_ns: u64) -> u64 {
        self.within(began_ns, ended_ns).idle_between(began_ns, ended_ns)
    }
}

/// A stretch of a loop's time.
#[derive(Clone, Copy, Debug)]
pub struct Within<'a> {
    idle: &'a VecDeque<Idle>,
    /// The idle times that began in it.
    from: usize,
    until: usize,
}

impl Within<'_> {
    /// Idle time between two moments that lie within, in nanoseconds.
    #[must_use]
    pub fn idle_between(&self, began_ns: u64, ended_ns: u64) -> u64 {
        self.idle_until(ended_ns).saturating_sub(self.idle_until(began_ns))
    }

    fn idle_until(&self, time_ns: u64) -> u64 {
        let (mut after, mut until) = (self.from, self.until);
        while after < until {
            let middle = after.midpoint(until);
            if self.idle.get(middle).is_some_and(|idle| idle.began_ns < time_ns) {
                after = middle + 1;
            } else {
                until = middle;
            }
        }
        let Some(idle) = after.checked_sub(1).and_then(|at| self.idle.get(at)) else {
            return self.idle.front().map_or(0, |oldest| oldest.before_ns);
        };
        idle.before_ns + time_ns.min(idle.ended_ns).saturating_sub(idle.began_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{ConnectionId, StackStatus};

    const EPOLL_WAIT: u64 = 232;
    const FUTEX: u64 = 202;
    const MS: u64 = 1_000_000;

    fn left(state: u32, call: u64) -> Left {
        Left {
            stack: None,
            status: StackStatus::NotAsked,
            state,
            call: Some(call),
            arguments: [3, 8, 0],
            fd: None,
            mode: 0,
            holds_gil: false,
            waits_for_gil: call == FUTEX,
        }
    }

    fn request(connection: u64) -> For {
        For::Request(RequestId { connection: ConnectionId(connection), sequence: 0 })
    }

    #[test]
    fn time_is_whose_the_event_at_its_end_shows() {
        let mut time = LoopTime::new(100 * MS);
        // It reads for the first, which works for 20 ms, 5 of them waiting for the interpreter's lock.
        let (of, _) = time.shows(100 * MS, Shown::Begins(For::Nobody));
        assert_eq!(of, For::Nobody);
        assert_eq!(time.back(110 * MS, &left(1, FUTEX), None, (6 * MS, MS)), None);
        let (of, stretch) = time.shows(120 * MS, Shown::Works(request(1)));
        assert_eq!(of, request(1));
        let parts = Waits { on_cpu_ns: 14 * MS, gil_ns: 5 * MS, runnable_ns: MS, ..Waits::default() };
        assert_eq!(stretch, Stretch { began_ns: 100 * MS, ended_ns: 120 * MS, parts });
        // Then for the second.
        let (of, stretch) = time.shows(150 * MS, Shown::Works(request(2)));
        assert_eq!((of, stretch.parts.on_cpu_ns), (request(2), 30 * MS));
        // What the loop reads begins something; what was before goes on until there.
        let (of, stretch) = time.shows(151 * MS, Shown::Begins(request(1)));
        assert_eq!((of, stretch.parts.on_cpu_ns), (request(2), MS));
        // It waits from 153 to 190, and then 2 ms more for a CPU.
        let (of, stretch) = time.back(192 * MS, &left(1, EPOLL_WAIT), None, (39 * MS, 2 * MS)).unwrap();
        assert_eq!((of, stretch.ended_ns, stretch.parts.on_cpu_ns), (request(1), 153 * MS, 2 * MS));
        let (of, stretch) = time.shows(193 * MS, Shown::Works(request(2)));
        let parts = Waits { on_cpu_ns: MS, runnable_ns: 2 * MS, ..Waits::default() };
        assert_eq!((of, stretch.parts), (request(2), parts));
        assert_eq!(time.idle_between(100 * MS, 193 * MS), 37 * MS);
        assert_eq!(time.idle_between(160 * MS, 170 * MS), 10 * MS);
        assert_eq!(time.idle_between(180 * MS, 300 * MS), 10 * MS);
        assert_eq!(time.idle_between(0, 153 * MS), 0);
    }

    #[test]
    fn sums_outlive_what_is_forgotten() {
        let mut time = LoopTime::new(0);
        let waits = 3 * MAX_IDLE as u64;
        for at in 1..=waits {
            time.back(at * 10, &left(1, EPOLL_WAIT), None, (4, 0));
        }
        assert!(time.idle.len() <= MAX_IDLE);
        assert_eq!(time.idle_between(0, waits * 10), waits * 4);
        // The latest are exact, the others to the ones that are left beside them.
        assert_eq!(time.idle_between(waits * 10 - 1_000, waits * 10), 400);
        let (whole, early) = (time.idle_between(0, waits * 10), time.idle_between(waits, waits * 10));
        assert!(early.abs_diff(whole * 9 / 10) < 2_000, "{early} of {whole}");
    }

    #[test]
    fn absurd_times_are_survived() {
        let mut time = LoopTime::new(1_000);
        time.shows(5, Shown::Works(For::Nobody));
        time.back(7, &left(1, EPOLL_WAIT), None, (u64::MAX, u64::MAX));
        time.back(u64::MAX, &left(0, FUTEX), None, (u64::MAX, u64::MAX));
        let (_, stretch) = time.shows(u64::MAX, Shown::Works(For::Nobody));
        assert!(stretch.ended_ns >= stretch.began_ns);
    }
}
