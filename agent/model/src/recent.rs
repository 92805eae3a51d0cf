//! The latest transactions one by one: each as a point, some of them whole. What a view draws dots from, and looks into.
//!
//! It stays in the process that made it: shared, never serialised in one piece. Whoever watches from outside is sent
//! [`Points`], those that it has not had, and asks for whole transactions by their number.

use crate::line::Transaction;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One transaction, as a dot.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Point {
    /// Counts the transactions of the application, from 1; later ones have larger numbers.
    pub number: u64,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub ended_ns: u64,
    pub duration_ns: u64,
    /// `GET /users/{id}`
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub is_error: bool,
    pub pid: u32,
    /// It was kept whole when it ended; it may have had to give way since.
    pub is_whole: bool,
}

/// A transaction that was kept whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    pub number: u64,
    pub transaction: Arc<Transaction>,
}

/// The latest transactions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recent {
    /// Those that ended in one second share a list. In the order in which they ended.
    pub seconds: Vec<Arc<Vec<Point>>>,
    /// By number, ascending.
    pub whole: Arc<[Whole]>,
    /// Transactions that became no point because too many ended in their second. Since the attach.
    pub left_out: u64,
}

/// Points that a watcher has not had.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Points {
    /// By number, ascending.
    pub points: Vec<Point>,
    /// As of [`Recent`], and those that this watcher was not sent because they were too many at once.
    pub left_out: u64,
}

impl Recent {
    /// The whole transaction of this number, if it is still kept.
    #[must_use]
    pub fn whole(&self, number: u64) -> Option<&Arc<Transaction>> {
        let index = self.whole.binary_search_by_key(&number, |whole| whole.number).ok()?;
        self.whole.get(index).map(|whole| &whole.transaction)
    }

    /// The points that came after `number`: at most `most`, the latest.
    #[must_use]
    pub fn since(&self, number: u64, most: usize) -> Points {
        let after = |second: &Arc<Vec<Point>>| second.last().is_some_and(|point| point.number > number);
        let first = self.seconds.partition_point(|second| !after(second));
        let seconds = self.seconds.get(first..).unwrap_or_default();
        let new = || seconds.iter().flat_map(|second| second.iter()).filter(|point| point.number > number);
        let count = new().count();
        let excess = count.saturating_sub(most);
        Points { points: new().skip(excess).cloned().collect(), left_out: self.left_out + excess as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent() -> Recent {
        let point = |number: u64| Point {
            number,
            ended_ns: number * 400_000_000,
            duration_ns: 1,
            name: "GET /".into(),
            status: Some(200),
            is_error: false,
            pid: 1,
            is_whole: false,
        };
        let seconds = [1..4, 4..6, 8..11].map(|numbers| Arc::new(numbers.map(point).collect()));
        Recent { seconds: seconds.to_vec(), left_out: 2, ..Recent::default() }
    }

    #[test]
    fn a_watcher_gets_what_it_has_not_had() {
        let numbers = |number, most| {
            let points = recent().since(number, most);
            (points.points.iter().map(|point| point.number).collect::<Vec<_>>(), points.left_out)
        };
        assert_eq!(numbers(0, 100), (vec![1, 2, 3, 4, 5, 8, 9, 10], 2));
        assert_eq!(numbers(2, 100), (vec![3, 4, 5, 8, 9, 10], 2));
        assert_eq!(numbers(6, 100), (vec![8, 9, 10], 2));
        assert_eq!(numbers(10, 100), (vec![], 2));
        assert_eq!(numbers(0, 3), (vec![8, 9, 10], 7));
    }

    #[test]
    fn whole_ones_are_found_by_number() {
        let whole = |number| Whole { number, transaction: Arc::default() };
        let recent = Recent { whole: [whole(3), whole(9)].into(), ..Recent::default() };
        assert!(recent.whole(9).is_some() && recent.whole(4).is_none());
    }
}
