//! The recorder's part that is about time off the CPU: waits as they end, and the two ends of the recording, at which
//! threads are away without having said it.

use super::away::{self, Away};
use super::parked;
use super::recorder::{Place, Recorder, Taker};
use crate::intake::{self, Event, Left, OffCpu, StackStatus};
use crate::profile::{Mode, State, Weight};
use crate::python::Interpreter;
use crate::targets::Wait;

/// A thread that was away when it was looked at from outside, and has not come back yet, as far as is known.
#[derive(Clone, Copy)]
pub(super) struct Sleeping {
    /// When that was.
    taken_ns: u64,
    state: State,
    holds_gil: bool,
    place: Place,
}

impl Recorder {
    pub(super) fn find_sleepers(&mut self) {
        let known = self.members.iter().filter_map(|(pid, member)| Some((*pid, member.interpreter.clone()?)));
        for (pid, interpreter) in known.collect::<Vec<_>>() {
            self.find_sleepers_of(pid, &interpreter);
        }
    }

    pub(super) fn find_sleepers_of(&mut self, pid: u32, interpreter: &Interpreter) {
        let parked = parked::of(&self.procfs, pid, interpreter);
        let mut taker = self.taker();
        for thread in parked {
            let place = if thread.frames.is_empty() {
                taker.place(pid, None, thread.status)
            } else {
                taker.named(pid, interpreter, &thread.frames, thread.gap, thread.status)
            };
            let parked::Parked { tid, taken_ns, state, holds_gil, .. } = thread;
            if let Some(member) = taker.members.get_mut(&pid) {
                member.sleeping.insert(tid, Sleeping { taken_ns, state, holds_gil, place });
            }
        }
    }

    /// Threads that are away at the end have not told it: what they said when they left is in the map of sleepers, and
    /// those who are not there have not moved since the beginning.
    pub(super) fn end_waits(&mut self) {
        let sleepers = self.tables.sleepers();
        let ended_ns = self.window.ended_ns;
        let mut taker = self.taker();
        for (tid, sleeper) in sleepers {
            let pid = sleeper.record.header.tgid;
            match intake::left(&sleeper.record) {
                Ok(left) if sleeper.since_ns != 0 => {
                    taker.left(pid, tid, &left, sleeper.since_ns, ended_ns, 0);
                }
                _ => {}
            }
            if let Some(member) = taker.members.get_mut(&pid) {
                member.sleeping.remove(&tid);
            }
        }
        let pids: Vec<u32> = taker.members.keys().copied().collect();
        for pid in pids {
            let Some(member) = taker.members.get_mut(&pid) else { continue };
            for (tid, sleeping) in std::mem::take(&mut member.sleeping) {
                // It may have ended without having come back: killed in its sleep by the end of its process.
                if taker.procfs.task_stat(pid, tid).is_err() {
                    continue;
                }
                if taker.choices.idle || sleeping.holds_gil {
                    taker.slept(pid, tid, sleeping, ended_ns);
                } else {
                    taker.apart.idle_threads += 1;
                }
            }
        }
    }
}

impl Taker<'_> {
    /// A thread is on a CPU again.
    pub(super) fn came_back(&mut self, event: &Event<'_>, away: &OffCpu) {
        let (pid, tid, until_ns) = (event.pid, event.tid, event.time_ns);
        if let Some(duration) = away.duration_ns {
            let since_ns = until_ns.saturating_sub(duration);
            self.left(pid, tid, &away.left, since_ns, until_ns, away.queued_ns);
        } else if let Some(sleeping) = self.sleeping(pid, tid, 0, until_ns) {
            self.slept(pid, tid, sleeping, until_ns);
        } // Else it begins to live.
    }

    /// What was seen from outside of a thread while it was away in this time.
    fn sleeping(&mut self, pid: u32, tid: u32, since_ns: u64, until_ns: u64) -> Option<Sleeping> {
        let sleeping = &mut self.members.get_mut(&pid)?.sleeping;
        let taken_ns = sleeping.get(&tid)?.taken_ns;
        // Of what the ring still held when the thread was looked at, this is told later.
        let found = if taken_ns <= until_ns { sleeping.remove(&tid) } else { None };
        found.filter(|_| since_ns <= taken_ns)
    }

    /// A thread was away in the way in which it left.
    fn left(&mut self, pid: u32, tid: u32, left: &Left, since_ns: u64, until_ns: u64, queued_ns: u64) {
        if !self.members.contains_key(&pid) {
            return;
        }
        let sleeping = self.sleeping(pid, tid, since_ns, until_ns);
        let (state, place, holds_gil) = match (left.status, sleeping) {
            (StackStatus::NoLayout, Some(seen)) => (seen.state, seen.place, seen.holds_gil),
            (StackStatus::NoLayout, None) => {
                self.apart.not_python += 1;
                return;
            }
            _ => (away::state(left), self.place(pid, left.stack, left.status), left.holds_gil),
        };
        let queued_ns = if away::is_runnable(state) { 0 } else { queued_ns };
        self.was_away(pid, tid, place, holds_gil, Away { state, since_ns, until_ns, queued_ns });
    }

    /// A thread has slept since before the recording began.
    fn slept(&mut self, pid: u32, tid: u32, sleeping: Sleeping, until_ns: u64) {
        let Sleeping { state, holds_gil, place, .. } = sleeping;
        self.was_away(pid, tid, place, holds_gil, Away { state, since_ns: 0, until_ns, queued_ns: 0 });
    }

    fn was_away(&mut self, pid: u32, tid: u32, place: Place, holds_gil: bool, away: Away) {
        let (nanoseconds, queued) = away.within(self.window);
        if nanoseconds + queued == 0 {
            return; // Before the beginning, or after the end.
        }
        if self.choices.mode == Mode::Gil && !holds_gil {
            return;
        }
        let Place::In(stack) = place else {
            self.apart.left_out += 1;
            return;
        };
        let thread = self.thread(pid, tid);
        self.profile.add(thread, away.state, stack, Weight { samples: 1, nanoseconds });
        if queued > 0 {
            // The end of the same wait: not another sample.
            let weight = Weight { samples: 0, nanoseconds: queued };
            self.profile.add(thread, State::OffCpu(Wait::RUNNABLE), stack, weight);
        }
    }
}
