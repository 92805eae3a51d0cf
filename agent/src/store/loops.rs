//! Event loops of one application: how busy each is, and the turns in which one callback held up all others, with the place
//! where it was. Sums over all loops that there ever were; the loops themselves while their process lives.

use pyapm_model::definition;
use pyapm_model::metric::Family;
use pyapm_model::snapshot::EventLoop;
use pyapm_model::stack::Stack;
use std::collections::{BTreeMap, VecDeque};

/// Loops that are followed at once.
const MOST_LOOPS: usize = 1_024;
/// Samples of a loop's thread that are kept until its turn ends.
const MOST_SAMPLES: usize = 64;

/// How a loop's time went since it was met, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopTimes {
    pub busy_ns: u64,
    pub waited_ns: u64,
}

#[derive(Debug, Default)]
struct One {
    times: LoopTimes,
    /// Of the latest second.
    busy_share: Option<f64>,
    blocked: u64,
    blocked_ns: u64,
    longest_ns: u64,
    stack: Option<Stack>,
    /// When a sample met the thread on a CPU, and where.
    samples: VecDeque<(u64, Stack)>,
    /// The same of the latest time that the thread was read while it slept.
    parked: Option<(u64, Stack)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Loops {
    loops: BTreeMap<(u32, u32), One>,
    times: LoopTimes,
    blocked: u64,
    blocked_ns: u64,
}

impl Loops {
    /// A thread turns a loop.
    pub fn seen(&mut self, pid: u32, tid: u32) {
        if self.loops.len() < MOST_LOOPS {
            self.loops.entry((pid, tid)).or_default();
        }
    }

    /// Process and thread of each.
    pub fn threads(&self) -> impl Iterator<Item = (u32, u32)> {
        self.loops.keys().copied()
    }

    pub fn exited(&mut self, pid: u32) {
        self.loops.retain(|(of, _), _| *of != pid);
    }

    /// The thread was on a CPU.
    pub fn sampled(&mut self, pid: u32, tid: u32, time_ns: u64, stack: &Stack) {
        let Some(one) = self.loops.get_mut(&(pid, tid)) else { return };
        if one.samples.len() >= MOST_SAMPLES {
            one.samples.pop_front();
        }
        one.samples.push_back((time_ns, stack.clone()));
    }

    /// The thread sleeps in the middle of a turn.
    pub fn parked(&mut self, pid: u32, tid: u32, time_ns: u64, stack: Stack) {
        if let Some(one) = self.loops.get_mut(&(pid, tid)) {
            one.parked = Some((time_ns, stack));
        }
    }

    /// A long turn has ended. `sample_ns`: the time between two samples.
    pub fn blocked(&mut self, pid: u32, tid: u32, started_ns: u64, ended_ns: u64, sample_ns: u64) {
        self.seen(pid, tid);
        let duration_ns = ended_ns.saturating_sub(started_ns);
        self.blocked += 1;
        self.blocked_ns += duration_ns;
        let Some(one) = self.loops.get_mut(&(pid, tid)) else { return };
        one.blocked += 1;
        one.blocked_ns += duration_ns;
        let within = |time_ns: u64| (started_ns..=ended_ns).contains(&time_ns);
        let sampled: Vec<&Stack> =
            one.samples.iter().filter(|(time_ns, _)| within(*time_ns)).map(|(_, stack)| stack).collect();
        let parked = one.parked.take().filter(|(time_ns, _)| within(*time_ns)).map(|(_, stack)| stack);
        let on_cpu_ns = sample_ns.saturating_mul(sampled.len() as u64);
        // Whichever took most of the turn is where it was.
        let stack = match parked {
            Some(parked) if on_cpu_ns < duration_ns / 2 => Some(parked),
            parked => most_often(&sampled).or(parked),
        };
        one.samples.clear();
        if duration_ns > one.longest_ns {
            one.longest_ns = duration_ns;
            one.stack = stack;
        }
    }

    /// How a loop's time went until now; asked once a second.
    pub fn times(&mut self, pid: u32, tid: u32, now: LoopTimes) {
        let Some(one) = self.loops.get_mut(&(pid, tid)) else { return };
        let busy = now.busy_ns.saturating_sub(one.times.busy_ns);
        let waited = now.waited_ns.saturating_sub(one.times.waited_ns);
        self.times.busy_ns += busy;
        self.times.waited_ns += waited;
        one.busy_share = (busy + waited > 0).then(|| busy as f64 / (busy + waited) as f64);
        one.times = now;
    }

    /// Longest blocked first.
    #[must_use]
    pub fn view(&self) -> Vec<EventLoop> {
        let mut view: Vec<EventLoop> = self
            .loops
            .iter()
            .map(|((pid, tid), one)| EventLoop {
                pid: *pid,
                tid: *tid,
                busy_share: one.busy_share,
                blocked: one.blocked,
                blocked_ns: one.blocked_ns,
                longest_ns: one.longest_ns,
                stack: one.stack.as_deref().unwrap_or_default().to_vec(),
            })
            .collect();
        view.sort_by_key(|one| (std::cmp::Reverse(one.longest_ns), one.pid, one.tid));
        view
    }

    /// Totals; without points as long as there was no loop.
    #[must_use]
    pub fn families(&self) -> [Family; 3] {
        let mut families = [
            definition::LOOP_TIME.family(),
            definition::LOOP_BLOCKED.family(),
            definition::LOOP_BLOCKED_TIME.family(),
        ];
        if self.times != LoopTimes::default() || self.blocked > 0 {
            let seconds = |ns: u64| ns as f64 / 1e9;
            let [time, blocked, blocked_time] = families;
            families = [
                time.with(&[("state", "busy")], seconds(self.times.busy_ns))
                    .with(&[("state", "waiting")], seconds(self.times.waited_ns)),
                blocked.with(&[], self.blocked as f64),
                blocked_time.with(&[], seconds(self.blocked_ns)),
            ];
        }
        families
    }
}

/// The stack whose innermost function was met most often; of equals the latest.
fn most_often(stacks: &[&Stack]) -> Option<Stack> {
    let function = |stack: &Stack| stack.first().map(|frame| (frame.function.clone(), frame.file.clone()));
    let count = |stack: &Stack| {
        let own = function(stack);
        stacks.iter().filter(|other| function(other) == own).count()
    };
    stacks.iter().max_by_key(|stack| count(stack)).map(|stack| (*stack).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::Frame;

    const MS: u64 = 1_000_000;

    fn stack(function: &str) -> Stack {
        vec![Frame { function: function.into(), file: "a.py".into(), line: Some(1) }].into()
    }

    fn innermost(loops: &Loops) -> Option<String> {
        loops.view()[0].stack.first().map(|frame| frame.function.to_string())
    }

    #[test]
    fn the_longest_turn_is_told_with_what_took_most_of_it() {
        let mut loops = Loops::default();
        loops.seen(1, 2);
        loops.sampled(1, 2, 50 * MS, &stack("before"));
        for at in 0..20 {
            loops.sampled(1, 2, 100 * MS + at * 10 * MS, &stack(if at == 19 { "short" } else { "burns" }));
        }
        loops.blocked(1, 2, 100 * MS, 300 * MS, 10 * MS);
        assert_eq!((loops.view()[0].longest_ns, innermost(&loops).as_deref()), (200 * MS, Some("burns")));
        // Shorter ones are counted.
        loops.blocked(1, 2, 400 * MS, 510 * MS, 10 * MS);
        // One that slept, with a little work before.
        loops.sampled(1, 2, 605 * MS, &stack("short"));
        loops.parked(1, 2, 720 * MS, stack("sleeps"));
        loops.blocked(1, 2, 600 * MS, 900 * MS, 10 * MS);
        let one = &loops.view()[0];
        assert_eq!((one.blocked, one.blocked_ns, one.longest_ns), (3, 610 * MS, 300 * MS));
        assert_eq!(innermost(&loops).as_deref(), Some("sleeps"));
        // What was read in another turn says nothing of this one.
        loops.parked(1, 2, 950 * MS, stack("sleeps"));
        loops.blocked(1, 2, 1_000 * MS, 1_400 * MS, 10 * MS);
        assert_eq!(innermost(&loops), None);
    }

    #[test]
    fn shares_are_of_the_latest_second_and_totals_outlive_their_loops() {
        let mut loops = Loops::default();
        assert!(loops.families().iter().all(|family| family.points.is_empty()));
        loops.seen(1, 2);
        loops.times(1, 2, LoopTimes { busy_ns: 10, waited_ns: 30 });
        loops.times(1, 2, LoopTimes { busy_ns: 40, waited_ns: 40 });
        assert_eq!(loops.view()[0].busy_share, Some(0.75));
        loops.exited(1);
        assert!(loops.view().is_empty());
        assert_eq!(loops.times, LoopTimes { busy_ns: 40, waited_ns: 40 });
        assert_eq!(loops.families()[0].points.len(), 2);
    }
}
