//! One publisher, any number of subscribers. The publisher is the engine's loop and never waits; a subscriber that is too
//! slow loses the oldest lines, and the loss is counted under its name. It knows no format and no transport.
//!
//! ```text
//! engine --lines-----> ring of the newest LINES   --> Subscriber::next()      each line once, or counted as dropped
//!        --overviews-> the newest overview alone  --> Subscriber::overview()  totals; a slow reader skips, loses nothing
//! alerts -------------> what fires, alone         --> Publisher::alerts()     becomes part of the next overview
//! ```

use pyapm_model::line::Line;
use pyapm_model::service::{ApplicationInfo, Overview, SubscriberHealth};
use pyapm_model::snapshot::Alert;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

/// Lines that wait for the slowest subscriber, at most: some seconds of a busy host.
pub const LINES: usize = 16_384;

/// A line, and the application that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub application: Arc<ApplicationInfo>,
    pub line: Line,
}

/// By the application's name.
pub type Alerts = BTreeMap<String, Vec<Alert>>;

/// Where alerts are shown while it lives.
#[derive(Debug)]
pub struct AlertsShown(watch::Sender<Arc<Alerts>>);

/// The sending end. Dropped, it ends every subscriber.
#[derive(Debug)]
pub struct Publisher {
    lines: broadcast::Sender<Arc<Published>>,
    overviews: watch::Sender<Arc<Overview>>,
    alerts: watch::Sender<Arc<Alerts>>,
    subscribers: Arc<Subscribers>,
}

/// What is known of the subscribers.
#[derive(Debug, Default)]
struct Subscribers {
    /// For good: what was lost under a name stays lost, also when an export is started anew.
    counts: Mutex<BTreeMap<String, Arc<Counts>>>,
    /// Those that want overviews every second.
    live: AtomicUsize,
    /// Those of them with somebody behind who looks into applications.
    watched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    waiting: AtomicU64,
    /// What the export has taken and not delivered yet.
    held: AtomicU64,
}

/// The receiving end: one for each export, made by `pipeline`, owned by the export's task.
#[derive(Debug)]
pub struct Subscriber {
    lines: broadcast::Receiver<Arc<Published>>,
    overviews: watch::Receiver<Arc<Overview>>,
    counts: Arc<Counts>,
    /// What had been lost under its name before it.
    lost_before: u64,
}

/// Makes subscribers, for tasks that take clients of their own.
#[derive(Clone, Debug)]
pub struct Overviews {
    receiver: watch::Receiver<Arc<Overview>>,
    subscribers: Arc<Subscribers>,
}

/// While it lives, overviews come every second.
#[derive(Debug)]
pub struct Live {
    subscribers: Arc<Subscribers>,
    /// Somebody looks into applications.
    watches: bool,
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new(LINES)
    }
}

impl Publisher {
    /// `lines` is how many wait for the slowest subscriber, at most.
    #[must_use]
    pub fn new(lines: usize) -> Self {
        Self {
            lines: broadcast::Sender::new(lines.max(1)),
            overviews: watch::Sender::new(Arc::new(Overview::default())),
            alerts: watch::Sender::new(Arc::default()),
            subscribers: Arc::default(),
        }
    }

    /// A subscriber of lines from now on. `name` is what its losses are counted under; one that is given again goes on
    /// counting, and stands for the new subscriber alone.
    #[must_use]
    pub fn subscribe(&self, name: &str) -> Subscriber {
        let counts = Arc::clone(self.subscribers.counts().entry(name.to_owned()).or_default());
        counts.waiting.store(0, Ordering::Relaxed);
        counts.held.store(0, Ordering::Relaxed);
        let lost_before = counts.dropped.load(Ordering::Relaxed);
        let (lines, overviews) = (self.lines.subscribe(), self.overviews.subscribe());
        Subscriber { lines, overviews, counts, lost_before }
    }

    /// For a task whose clients want overviews and no lines.
    #[must_use]
    pub fn overviews(&self) -> Overviews {
        Overviews { receiver: self.overviews.subscribe(), subscribers: Arc::clone(&self.subscribers) }
    }

    /// Whether anybody takes lines: without, none need be made.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.lines.receiver_count() > 0
    }

    /// Whether overviews are due each second, else every ten.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.subscribers.live.load(Ordering::Relaxed) > 0
    }

    /// Whether anybody looks into applications as it happens: overviews then say what each thread does, which costs more
    /// than all the rest of them.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.subscribers.watched.load(Ordering::Relaxed) > 0
    }

    pub fn publish(&self, application: &Arc<ApplicationInfo>, line: Line) {
        let published = Published { application: Arc::clone(application), line };
        // Without a reader it goes nowhere, as it shall.
        let _nobody_reads = self.lines.send(Arc::new(published));
    }

    pub fn publish_overview(&self, overview: Overview) {
        let _replaced = self.overviews.send_replace(Arc::new(overview));
    }

    /// For whoever watches for alerts.
    #[must_use]
    pub fn show_alerts(&self) -> AlertsShown {
        AlertsShown(self.alerts.clone())
    }

    /// What fires now, and what has lately.
    #[must_use]
    pub fn alerts(&self) -> Arc<Alerts> {
        Arc::clone(&self.alerts.borrow())
    }

    /// How the subscribers fare, by name.
    #[must_use]
    pub fn health(&self) -> BTreeMap<String, SubscriberHealth> {
        let read = |counts: &Arc<Counts>| SubscriberHealth {
            waiting: counts.waiting.load(Ordering::Relaxed) + counts.held.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        };
        let counts = self.subscribers.counts();
        // One that has ended and lost nothing is no longer told of.
        let told = counts.iter().filter(|(_, counts)| {
            Arc::strong_count(counts) > 1 || counts.dropped.load(Ordering::Relaxed) > 0
        });
        told.map(|(name, counts)| (name.clone(), read(counts))).collect()
    }
}

impl Subscribers {
    /// A thread that panicked while it held the lock left a whole map behind: go on with it.
    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Counts>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// The next line; `None` when none will follow, after the last. Lines that came too fast are counted and left
    /// out. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<Published>> {
        loop {
            match self.lines.recv().await {
                Ok(line) => {
                    self.counts.waiting.store(self.lines.len() as u64, Ordering::Relaxed);
                    return Some(line);
                }
                Err(RecvError::Lagged(count)) => self.dropped(count),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// A line that is there already, to make batches with.
    pub fn ready(&mut self) -> Option<Arc<Published>> {
        loop {
            match self.lines.try_recv() {
                Ok(line) => return Some(line),
                Err(TryRecvError::Lagged(count)) => self.dropped(count),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// The newest overview: at most ten seconds old; empty before the first.
    #[must_use]
    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overviews.borrow())
    }

    /// Waits for the next overview; `None` when none will follow. Cancel safe.
    pub async fn next_overview(&mut self) -> Option<Arc<Overview>> {
        self.overviews.changed().await.ok()?;
        Some(Arc::clone(&self.overviews.borrow_and_update()))
    }

    /// Lines that this one was too slow for. An export adds to them what it gives up later by [`Self::dropped`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed).saturating_sub(self.lost_before)
    }

    /// Says how many lines the export has taken and not delivered yet, beside those that wait here.
    pub fn holds(&self, lines: u64) {
        self.counts.held.store(lines, Ordering::Relaxed);
    }

    /// Counts lines that the export took and could not deliver.
    pub fn dropped(&self, lines: u64) {
        self.counts.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Nothing waits for it any more; what was lost stays counted.
        self.counts.waiting.store(0, Ordering::Relaxed);
        self.counts.held.store(0, Ordering::Relaxed);
    }
}

impl Overviews {
    /// The newest; empty before the first.
    #[must_use]
    pub fn newest(&self) -> Arc<Overview> {
        Arc::clone(&self.receiver.borrow())
    }

    /// Waits for one that is made from now on; `None` when none will follow. Cancel safe.
    pub async fn fresh(&mut self) -> Option<Arc<Overview>> {
        self.receiver.mark_unchanged();
        self.next().await
    }

    /// Waits for one that this reader has not had; `None` when none will follow. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<Overview>> {
        self.receiver.changed().await.ok()?;
        Some(Arc::clone(&self.receiver.borrow_and_update()))
    }

    /// Has overviews come every second while the answer lives.
    #[must_use]
    pub fn live(&self) -> Live {
        self.subscribers.live.fetch_add(1, Ordering::Relaxed);
        Live { subscribers: Arc::clone(&self.subscribers), watches: false }
    }

    /// The same for somebody who looks into applications.
    #[must_use]
    pub fn watched(&self) -> Live {
        self.subscribers.watched.fetch_add(1, Ordering::Relaxed);
        let mut live = self.live();
        live.watches = true;
        live
    }
}

impl AlertsShown {
    pub fn show(&self, alerts: Alerts) {
        let _replaced = self.0.send_replace(Arc::new(alerts));
    }
}

/// Nobody watches any more: of what fired nothing is known.
impl Drop for AlertsShown {
    fn drop(&mut self) {
        let _replaced = self.0.send_replace(Arc::default());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.subscribers.live.fetch_sub(1, Ordering::Relaxed);
        if self.watches {
            self.subscribers.watched.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::{Worker, WorkerEvent};

    fn line(pid: u32) -> Line {
        Line::Worker(Worker { event: WorkerEvent::Started, pid })
    }

    async fn pid(subscriber: &mut Subscriber) -> Option<u32> {
        match &subscriber.next().await?.line {
            Line::Worker(worker) => Some(worker.pid),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_only_its_own() {
        let publisher = Publisher::new(4);
        let shop = Arc::new(ApplicationInfo::default());
        let (mut quick, mut slow) = (publisher.subscribe("quick"), publisher.subscribe("slow"));
        for number in 0..10 {
            publisher.publish(&shop, line(number));
            assert_eq!(pid(&mut quick).await, Some(number));
        }
        for number in 6..10 {
            assert_eq!(pid(&mut slow).await, Some(number));
        }
        let health = publisher.health();
        assert_eq!((health["quick"].dropped, health["slow"].dropped), (0, 6));
        slow.dropped(2);
        assert_eq!(slow.lost(), 8);
        assert!(slow.ready().is_none());
        drop(publisher);
        assert_eq!(pid(&mut slow).await, None);
    }

    #[tokio::test]
    async fn what_was_lost_stays_counted_when_an_export_is_started_anew() {
        let publisher = Publisher::new(4);
        let first = publisher.subscribe("export");
        first.dropped(3);
        first.holds(2);
        assert_eq!(publisher.health()["export"], SubscriberHealth { waiting: 2, dropped: 3 });
        drop(first);
        assert_eq!(publisher.health()["export"], SubscriberHealth { waiting: 0, dropped: 3 });
        let again = publisher.subscribe("export");
        again.dropped(1);
        assert_eq!((publisher.health()["export"].dropped, again.lost()), (4, 1));
    }

    #[tokio::test]
    async fn only_the_newest_overview_waits() {
        let publisher = Publisher::default();
        let mut subscriber = publisher.subscribe("any");
        assert_eq!(*subscriber.overview(), Overview::default());
        for taken_ns in 1..4 {
            let mut overview = Overview::default();
            overview.health.taken_ns = taken_ns;
            publisher.publish_overview(overview);
        }
        assert_eq!(subscriber.next_overview().await.unwrap().health.taken_ns, 3);
        drop(publisher);
        assert!(subscriber.next_overview().await.is_none());
    }

    #[test]
    fn alerts_are_shown_as_long_as_somebody_watches_for_them() {
        let publisher = Publisher::default();
        let shown = publisher.show_alerts();
        shown.show([("shop".to_owned(), vec![Alert::default()])].into());
        assert_eq!(publisher.alerts()["shop"].len(), 1);
        drop(shown);
        assert!(publisher.alerts().is_empty());
    }

    #[test]
    fn it_is_known_whether_anybody_looks() {
        let publisher = Publisher::default();
        assert!(!publisher.has_readers() && !publisher.is_live());
        let subscriber = publisher.subscribe("any");
        let live = publisher.overviews().live();
        assert!(publisher.has_readers() && publisher.is_live() && !publisher.is_watched());
        let watched = publisher.overviews().watched();
        drop((subscriber, live));
        assert!(!publisher.has_readers() && publisher.is_live() && publisher.is_watched());
        drop(watched);
        assert!(!publisher.is_live() && !publisher.is_watched());
        assert!(publisher.health().is_empty());
    }
}
