//! The latest transactions one by one: each second's as points, and some of them whole. What is kept does not depend on
//! how many there are: of many in one second, the slow ones, the failed ones and a fair choice of the rest.

use super::settings::RecentLimits;
use pyapm_model::line::Transaction;
use pyapm_model::recent::{Point, Recent, Whole};
use std::collections::VecDeque;
use std::sync::Arc;

/// A transaction is counted late by so much at most; what seems later was measured by a clock that was set.
const LATE_SECONDS: u64 = 10;

/// Of one application.
#[derive(Debug)]
pub struct Latest {
    limits: RecentLimits,
    /// Somebody looks: more is kept whole.
    is_watched: bool,
    /// Of the latest transaction.
    number: u64,
    seconds: VecDeque<Second>,
    /// In all seconds.
    points: usize,
    left_out: u64,
    /// Of the second before the latest.
    before: Rate,
    whole: VecDeque<Whole>,
    weight: usize,
}

/// Points of one second.
#[derive(Debug)]
struct Second {
    second: u64,
    points: Arc<Vec<Point>>,
    rate: Rate,
    /// Points that were chosen as every so-manieth, and for what they are.
    points_taken: Taken,
    whole_taken: Taken,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    transactions: u64,
    total_ns: u64,
}

impl Rate {
    /// Slow is twice as long as the mean of the second before, where there was one.
    fn is_slow(self, duration_ns: u64) -> bool {
        self.transactions > 0 && duration_ns / 2 > self.total_ns / self.transactions
    }
}

/// How many were chosen, half of them at most for each reason.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    in_turn: u64,
    remarkable: u64,
}

impl Taken {
    /// Whether to take the `count`-th of a second that is like `before`.
    fn takes(&mut self, count: u64, is_remarkable: bool, before: Rate, most: u64) -> bool {
        let half = (most / 2).max(1);
        let stride = before.transactions.div_ceil(half).max(1);
        if count.is_multiple_of(stride) && self.in_turn < half {
            self.in_turn += 1;
            return true;
        }
        if is_remarkable && self.remarkable < half {
            self.remarkable += 1;
            return true;
        }
        false
    }
}

impl Latest {
    pub fn new(limits: RecentLimits) -> Self {
        Self {
            limits,
            is_watched: false,
            number: 0,
            seconds: VecDeque::new(),
            points: 0,
            left_out: 0,
            before: Rate::default(),
            whole: VecDeque::new(),
            weight: 0,
        }
    }

    pub fn watch(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
        self.give_way();
    }

    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// `second` is the one in which it ended, since the Unix epoch.
    pub fn record(&mut self, second: u64, transaction: &Transaction, name: Arc<str>, is_error: bool) {
        self.number += 1;
        let limits = self.limits;
        let whole_per_second =
            if self.is_watched { limits.whole_per_second } else { limits.whole_per_second_unwatched };
        self.turn(second);
        let before = self.before;
        let Some(open) = self.seconds.back_mut() else { return };
        let count = open.rate.transactions;
        open.rate.transactions += 1;
        open.rate.total_ns = open.rate.total_ns.saturating_add(transaction.duration_ns);
        let is_remarkable = is_error || before.is_slow(transaction.duration_ns);
        if !open.points_taken.takes(count, is_remarkable, before, limits.points_per_second) {
            self.left_out += 1;
            return;
        }
        let is_whole = open.whole_taken.takes(count, is_remarkable, before, whole_per_second);
        let points = Arc::make_mut(&mut open.points);
        points.push(Point {
            number: self.number,
            ended_ns: transaction.start_ns.saturating_add(transaction.duration_ns),
            duration_ns: transaction.duration_ns,
            name,
            status: transaction.status,
            is_error,
            pid: transaction.pid,
            is_whole,
        });
        self.points += 1;
        if is_whole {
            self.weight += weight(transaction);
            self.whole.push_back(Whole { number: self.number, transaction: Arc::new(transaction.clone()) });
        }
        self.give_way();
    }

    /// Begins a new second where this one is another.
    fn turn(&mut self, second: u64) {
        let Some(open) = self.seconds.back() else { return self.begin(second) };
        if second > open.second || open.second - second > LATE_SECONDS {
            // After a pause there is nothing that the next second would be like.
            self.before = if second == open.second + 1 { open.rate } else { Rate::default() };
            self.begin(second);
        }
    }

    fn begin(&mut self, second: u64) {
        self.seconds.push_back(Second {
            second,
            points: Arc::default(),
            rate: Rate::default(),
            points_taken: Taken::default(),
            whole_taken: Taken::default(),
        });
    }

    fn give_way(&mut self) {
        let limits = self.limits;
        while self.seconds.len() > 1
            && (self.points > limits.points || self.seconds.len() > limits.seconds)
            && let Some(oldest) = self.seconds.pop_front()
        {
            self.points -= oldest.points.len();
        }
        let (most, weighing) = if self.is_watched {
            (limits.whole, limits.whole_weight)
        } else {
            (limits.whole_unwatched, limits.whole_weight / 4)
        };
        while (self.whole.len() > most || self.weight > weighing)
            && let Some(oldest) = self.whole.pop_front()
        {
            self.weight -= weight(&oldest.transaction);
        }
    }

    /// Shares what there is; costs a counter for each second and each whole transaction.
    pub fn recent(&self) -> Recent {
        Recent {
            seconds: self.seconds.iter().map(|second| Arc::clone(&second.points)).collect(),
            whole: self.whole.iter().cloned().collect(),
            left_out: self.left_out,
        }
    }
}

/// About how much memory it takes, in calls.
fn weight(transaction: &Transaction) -> usize {
    let frames = transaction.error.as_ref().map_or(0, |error| error.stack.len());
    1 + transaction.spans.len() + transaction.samples.len() + transaction.warnings.len() + frames / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::Span;

    const LIMITS: RecentLimits = RecentLimits {
        points: 100,
        seconds: 20,
        points_per_second: 40,
        whole: 30,
        whole_per_second: 10,
        whole_weight: 1_000,
        whole_unwatched: 6,
        whole_per_second_unwatched: 2,
    };

    fn latest() -> Latest {
        let mut latest = Latest::new(LIMITS);
        latest.watch(true);
        latest
    }

    fn record(latest: &mut Latest, second: u64, duration_ns: u64, is_error: bool) {
        let transaction = Transaction { duration_ns, ..Transaction::default() };
        latest.record(second, &transaction, "GET /".into(), is_error);
    }

    fn points(latest: &Latest) -> Vec<Point> {
        latest.recent().seconds.iter().flat_map(|second| second.iter().cloned()).collect()
    }

    #[test]
    fn few_are_all_there_and_whole() {
        let mut latest = latest();
        for second in 0..5 {
            for _ in 0..3 {
                record(&mut latest, second, 5, false);
            }
        }
        assert_eq!(
            points(&latest).iter().map(|point| point.number).collect::<Vec<_>>(),
            (1..=15).collect::<Vec<_>>()
        );
        assert!(points(&latest).iter().all(|point| point.is_whole));
        assert_eq!((latest.recent().whole.len(), latest.recent().left_out), (15, 0));
    }

    #[test]
    fn of_many_the_failed_and_the_slow_ones_are_there_and_the_rest_is_spread() {
        let mut latest = latest();
        for second in 0..2 {
            for count in 0..5_000 {
                let remarkable = count % 500 == 499;
                record(&mut latest, second, if remarkable { 1_000 } else { 5 }, remarkable);
            }
        }
        let second: Vec<Point> = points(&latest).into_iter().filter(|point| point.number > 5_000).collect();
        assert_eq!(second.iter().filter(|point| point.is_error).count(), 10);
        assert!((20..=40).contains(&second.len()), "{}", second.len());
        // To the end of the second, not only from its beginning.
        assert!(second.iter().filter(|point| point.number > 9_000 && !point.is_error).count() >= 3);
        assert!(second.iter().any(|point| point.is_error && point.is_whole));
        let kept = points(&latest).len() as u64;
        assert_eq!(latest.recent().left_out + kept, 10_000);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_the_oldest_gives_way() {
        let mut latest = latest();
        for second in 0..500 {
            for _ in 0..7 {
                record(&mut latest, second, 5, false);
            }
        }
        let recent = latest.recent();
        assert!(points(&latest).len() <= LIMITS.points && recent.seconds.len() <= LIMITS.seconds);
        assert_eq!(points(&latest).last().unwrap().number, 3_500);
        assert_eq!(recent.whole.len(), LIMITS.whole);
        assert!(recent.whole(3_500).is_some() && recent.whole(1).is_none());
        latest.watch(false);
        assert_eq!(latest.recent().whole.len(), LIMITS.whole_unwatched);
    }

    #[test]
    fn heavy_ones_take_the_room_of_many() {
        let mut latest = latest();
        for second in 0..10 {
            let spans = vec![Span::default(); 400];
            let transaction = Transaction { spans, ..Transaction::default() };
            latest.record(second, &transaction, "GET /".into(), false);
        }
        assert_eq!(latest.recent().whole.len(), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let mut latest = latest();
        record(&mut latest, 10_000, 5, false);
        record(&mut latest, 9_995, 5, false);
        record(&mut latest, 400, 5, false);
        record(&mut latest, 401, 5, false);
        assert_eq!(latest.recent().seconds.len(), 3);
    }
}
