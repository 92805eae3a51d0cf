//! Requests that wait for the receiver, oldest first, and when the next attempt is due.

use super::batch::Outgoing;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause after a failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Outgoing>,
    /// Requests that wait, at most; the oldest is given up for a new one.
    most: usize,
    /// Lines in all of them.
    lines: u64,
    failures: u32,
    /// No attempt before this.
    due: Option<Instant>,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: VecDeque::new(), most: most.max(1), lines: 0, failures: 0, due: None }
    }

    /// Lines that wait here.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Adds a request; how many lines were given up for it.
    pub(super) fn push(&mut self, outgoing: Outgoing) -> u64 {
        let given_up = if self.waiting.len() >= self.most { self.waiting.pop_front() } else { None };
        let lost = given_up.map_or(0, |given_up| given_up.lines);
        self.lines = self.lines.saturating_add(outgoing.lines).saturating_sub(lost);
        self.waiting.push_back(outgoing);
        lost
    }

    /// The oldest request, if an attempt is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Outgoing> {
        if self.due.is_some_and(|due| due > now) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.lines = self.lines.saturating_sub(next.lines);
        Some(next)
    }

    /// When [`Self::next`] will have something; `None` when nothing waits.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.due.unwrap_or(now))
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.due = None;
    }

    /// The receiver cannot take it now: it goes to the front again, unless newer ones have taken all the room. `pause`
    /// is what the receiver asked for; `chance` is from 0 to 1. How many lines were given up.
    pub(super) fn failed(
        &mut self,
        outgoing: Outgoing,
        pause: Option<Duration>,
        now: Instant,
        chance: f64,
    ) -> u64 {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Many daemons lose one receiver at the same moment: they must not come back at the same moment.
        let jittered = doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.due = now.checked_add(pause.unwrap_or(jittered).min(LONGEST));
        if self.waiting.len() >= self.most {
            return outgoing.lines;
        }
        self.lines = self.lines.saturating_add(outgoing.lines);
        self.waiting.push_front(outgoing);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Message;
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    const MOST: usize = 128;

    fn outgoing(lines: u64) -> Outgoing {
        Outgoing { message: Message::Traces(ExportTraceServiceRequest::default()), lines }
    }

    #[test]
    fn nothing_grows_while_the_receiver_is_down() {
        let (mut queue, mut now) = (Queue::new(MOST), Instant::now());
        let (mut lost, mut attempts) = (0, 0);
        for _ in 0..1_000 {
            now += Duration::from_secs(1);
            lost += queue.push(outgoing(7));
            if let Some(next) = queue.next(now) {
                attempts += 1;
                lost += queue.failed(next, None, now, 0.5);
            }
        }
        assert_eq!((queue.waiting.len(), queue.lines()), (MOST, MOST as u64 * 7));
        assert_eq!(lost, (1_000 - MOST as u64) * 7);
        // Pauses grow to the longest: about one attempt in 45 seconds.
        assert!((15..60).contains(&attempts), "{attempts}");
        queue.succeeded();
        assert!(queue.next(now).is_some());
    }

    #[test]
    fn order_is_kept_over_a_failure_and_the_receivers_wish() {
        let (mut queue, now) = (Queue::new(MOST), Instant::now());
        assert_eq!(queue.due(now), None);
        queue.push(outgoing(1));
        queue.push(outgoing(2));
        let first = queue.next(now).unwrap();
        queue.failed(first, Some(Duration::from_secs(9)), now, 0.0);
        assert!(queue.next(now + Duration::from_secs(8)).is_none());
        assert_eq!(queue.due(now), Some(now + Duration::from_secs(9)));
        assert_eq!(queue.lines(), 3);
        assert_eq!(queue.next(now + Duration::from_secs(9)).map(|next| next.lines), Some(1));
        assert_eq!(queue.lines(), 2);
    }
}
