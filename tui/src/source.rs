//! Where what is drawn comes from. In process it is the receiving end of a `watch` channel ([`Local`]); a socket
//! implements the same trait. Nothing here draws.

use pyapm_model::line::Transaction;
use pyapm_model::recent::Points;
use pyapm_model::service::{ApplicationInfo, Ask, Figures};
use pyapm_model::snapshot::Snapshot;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// Points that are handed on at once, at most; of more, the latest.
const MOST_POINTS: usize = 8_000;

/// What a source has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// How all applications fare, each second.
    Applications(Vec<Figures>),
    /// Of the application that is watched, each second.
    Snapshot { application: u32, snapshot: Arc<Snapshot> },
    /// Those that have not been delivered before.
    Points { application: u32, points: Points },
    /// The answer to [`Ask::Transaction`]; `None` when it is not kept.
    Transaction { application: u32, number: u64, transaction: Option<Arc<Transaction>> },
}

/// A series of deliveries.
pub trait Source: Send {
    /// Waits for the next delivery. `None` means that none will follow: the application or its observer
    /// ended.
    ///
    /// Must be cancel safe: the view drops this future whenever a key is pressed first, and calls again.
    fn next(&mut self) -> impl Future<Output = Option<Delivery>> + Send;

    /// Asks for something; the answer comes as a delivery. Must not wait.
    fn ask(&mut self, ask: Ask);
}

/// The one application that is watched in this process. Only the newest value waits in a `watch` channel: a slow
/// terminal skips snapshots and holds nobody up. The value that the channel was made with is never delivered.
#[derive(Debug)]
pub struct Local {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    waiting: VecDeque<Delivery>,
    /// Number of the last point that was delivered.
    delivered: u64,
}

/// Its number; there is no other.
const ONLY: u32 = 0;

impl Local {
    #[must_use]
    pub fn new(snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { snapshots, waiting: VecDeque::new(), delivered: 0 }
    }
}

impl Source for Local {
    async fn next(&mut self) -> Option<Delivery> {
        if let Some(delivery) = self.waiting.pop_front() {
            return Some(delivery);
        }
        self.snapshots.changed().await.ok()?;
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        let points = snapshot.recent.since(self.delivered, MOST_POINTS);
        if let Some(last) = points.points.last() {
            self.delivered = last.number;
        }
        self.waiting.push_back(Delivery::Points { application: ONLY, points });
        self.waiting.push_back(Delivery::Applications(vec![figures(&snapshot)]));
        Some(Delivery::Snapshot { application: ONLY, snapshot })
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            // There is no other.
            Ask::Choose { .. } => {
                self.delivered = 0;
                self.snapshots.mark_changed();
            }
            Ask::Transaction { application, number } => {
                let transaction = self.snapshots.borrow().recent.whole(number).cloned();
                self.waiting.push_back(Delivery::Transaction { application, number, transaction });
            }
        }
    }
}

fn figures(snapshot: &Snapshot) -> Figures {
    let master = snapshot.workers.iter().find(|worker| worker.is_master).or(snapshot.workers.first());
    let info = ApplicationInfo {
        id: ONLY,
        name: snapshot.application.clone(),
        server: snapshot.server.clone(),
        python: snapshot.python.clone(),
        pid: master.map_or(0, |master| master.pid),
        processes: snapshot.workers.len() as u64,
        since_ns: snapshot.taken_ns.saturating_sub(snapshot.elapsed_ns),
        ..ApplicationInfo::default()
    };
    Figures::of(&Arc::new(info), snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::recent::{Point, Recent, Whole};

    fn snapshot(numbers: std::ops::Range<u64>) -> Arc<Snapshot> {
        let point = |number| Point {
            number,
            ended_ns: number,
            duration_ns: 1,
            name: "GET /".into(),
            status: None,
            is_error: false,
            pid: 1,
            is_whole: true,
        };
        let whole = numbers.clone().map(|number| Whole { number, transaction: Arc::default() }).collect();
        let seconds = vec![Arc::new(numbers.map(point).collect())];
        Arc::new(Snapshot { recent: Recent { seconds, whole, left_out: 0 }, ..Snapshot::default() })
    }

    #[tokio::test]
    async fn every_point_comes_once_and_whole_ones_when_asked_for() {
        let (sender, receiver) = watch::channel(Arc::default());
        let mut local = Local::new(receiver);
        let mut numbers = Vec::new();
        for range in [1..4, 1..6, 3..9] {
            sender.send(snapshot(range)).unwrap();
            assert!(matches!(local.next().await, Some(Delivery::Snapshot { .. })));
            let Some(Delivery::Points { points, .. }) = local.next().await else { panic!("no points") };
            numbers.extend(points.points.iter().map(|point| point.number));
            assert!(matches!(local.next().await, Some(Delivery::Applications(all)) if all.len() == 1));
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        for (number, there) in [(8, true), (1, false)] {
            local.ask(Ask::Transaction { application: ONLY, number });
            let Some(Delivery::Transaction { transaction, .. }) = local.next().await else {
                panic!("no answer");
            };
            assert_eq!(transaction.is_some(), there);
        }
        drop(sender);
        assert_eq!(local.next().await, None);
    }
}
