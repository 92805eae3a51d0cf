//! The time that threads spend off the CPU, as a profile takes it: cut to the time of the recording, the last part of a
//! wait told apart in which the thread could have gone on and waited for a CPU.

use crate::intake::Left;
use crate::profile::State;
use crate::targets::{Reason, SystemCall, Wait};

/// The time that is recorded, `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) began_ns: u64,
    /// `u64::MAX` as long as it goes on.
    pub(super) ended_ns: u64,
}

impl Window {
    pub(super) fn has(self, time_ns: u64) -> bool {
        (self.began_ns..=self.ended_ns).contains(&time_ns)
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { began_ns: 0, ended_ns: u64::MAX }
    }
}

/// Once off the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) state: State,
    pub(super) since_ns: u64,
    pub(super) until_ns: u64,
    /// The last part of it, in which the thread waited for a CPU.
    pub(super) queued_ns: u64,
}

impl Away {
    /// Nanoseconds in the window of the state, and of waiting for a CPU afterwards.
    pub(super) fn within(&self, window: Window) -> (u64, u64) {
        let since = self.since_ns.max(window.began_ns);
        let until = self.until_ns.min(window.ended_ns);
        let whole = until.saturating_sub(since);
        let ready = self.until_ns.saturating_sub(self.queued_ns).max(since);
        let queued = until.saturating_sub(ready).min(whole);
        (whole - queued, queued)
    }
}

/// What a thread was doing since it left in this way.
pub(super) fn state(left: &Left) -> State {
    if left.waits_for_gil && left.state != 0 {
        return State::WaitingForGil;
    }
    let [first, second, third] = left.arguments;
    let call = left.call.map(|number| SystemCall { number, arguments: [first, second, third, 0, 0, 0] });
    State::OffCpu(Wait::of(left.state, call.as_ref(), left.mode))
}

/// Whether the state itself is waiting for a CPU: then there is no last part to tell apart.
pub(super) fn is_runnable(state: State) -> bool {
    matches!(state, State::OffCpu(Wait { reason: Reason::Runnable, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(since_ns: u64, until_ns: u64, queued_ns: u64) -> (u64, u64) {
        let away = Away { state: State::WaitingForGil, since_ns, until_ns, queued_ns };
        away.within(Window { began_ns: 100, ended_ns: 200 })
    }

    #[test]
    fn what_lies_in_the_window() {
        assert_eq!(within(110, 150, 0), (40, 0));
        assert_eq!(within(110, 150, 10), (30, 10));
        assert_eq!(within(50, 150, 10), (40, 10));
        assert_eq!(within(50, 110, 40), (0, 10));
        assert_eq!(within(50, 90, 40), (0, 0));
        assert_eq!(within(110, 250, 10), (90, 0));
        assert_eq!(within(110, 250, 60), (80, 10));
        assert_eq!(within(0, 1000, 1000), (0, 100));
        assert_eq!(within(300, 250, 10), (0, 0));
    }
}
