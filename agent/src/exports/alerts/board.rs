//! What fires now and what has lately, by application: for whoever looks at the service, whether or not a webhook is told.
//! It is put together from what is told, so that a view never says anything else.

use super::message::Alert;
use pyapm_model::snapshot;
use std::collections::{BTreeMap, VecDeque};

/// Alerts that are over and still shown, of all applications.
const MOST_OVER: usize = 50;
const SECOND_NS: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Board {
    firing: Vec<Alert>,
    /// The latest first.
    over: VecDeque<Alert>,
}

impl Board {
    /// Takes what is told of; one that fires may be told of again and again.
    pub(super) fn take(&mut self, alert: &Alert) {
        let same = |known: &Alert| {
            (&known.name, &known.application, &known.route) == (&alert.name, &alert.application, &alert.route)
        };
        self.firing.retain(|known| !same(known));
        if alert.until_s.is_none() {
            self.firing.push(alert.clone());
            return;
        }
        self.over.push_front(alert.clone());
        self.over.truncate(MOST_OVER);
    }

    /// Those that fire first, the longest first; then those that are over, the latest first.
    pub(super) fn by_application(&self) -> BTreeMap<String, Vec<snapshot::Alert>> {
        let mut firing: Vec<&Alert> = self.firing.iter().collect();
        firing.sort_by_key(|alert| alert.since_s);
        let mut applications: BTreeMap<String, Vec<snapshot::Alert>> = BTreeMap::new();
        for alert in firing.into_iter().chain(&self.over) {
            applications.entry(alert.application.clone()).or_default().push(snapshot::Alert {
                name: alert.name.clone(),
                summary: alert.summary.clone(),
                since_ns: alert.since_s.saturating_mul(SECOND_NS),
                until_ns: alert.until_s.map(|until_s| until_s.saturating_mul(SECOND_NS)),
            });
        }
        applications
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str, since_s: u64, until_s: Option<u64>) -> Alert {
        Alert {
            name: name.to_owned(),
            application: "shop".to_owned(),
            route: None,
            metric: "p95".to_owned(),
            summary: format!("{name} is so"),
            value: None,
            since_s,
            until_s,
        }
    }

    fn shown(board: &Board) -> Vec<(String, Option<u64>)> {
        let shop = board.by_application().remove("shop").unwrap_or_default();
        shop.into_iter().map(|alert| (alert.name, alert.until_ns)).collect()
    }

    #[test]
    fn what_fires_comes_first_and_once_and_what_is_over_stays_a_while() {
        let mut board = Board::default();
        assert!(shown(&board).is_empty());
        for told in [alert("b", 5, None), alert("a", 3, None), alert("b", 5, None), alert("a", 3, Some(9))] {
            board.take(&told);
        }
        board.take(&alert("c", 7, None));
        let expected = [("b", None), ("c", None), ("a", Some(9_000_000_000))];
        assert_eq!(shown(&board), expected.map(|(name, until)| (name.to_owned(), until)));
        for second in 0..100 {
            board.take(&alert("d", second, None));
            board.take(&alert("d", second, Some(second + 1)));
        }
        assert_eq!(shown(&board).len(), 2 + MOST_OVER);
        assert_eq!(shown(&board)[2], ("d".to_owned(), Some(100_000_000_000)));
    }
}
