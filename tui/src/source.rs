//! Where snapshots come from. In process today: the receiving end of a `watch` channel; a socket or a
//! recording implements the same trait. Nothing here draws or keeps a snapshot.

use pyapm_model::snapshot::Snapshot;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// A series of snapshots of one application.
pub trait SnapshotSource: Send {
    /// Waits for the next snapshot. `None` means that none will follow: the application or its observer
    /// ended.
    ///
    /// Must be cancel safe: the view drops this future whenever a key is pressed first, and calls again.
    fn next(&mut self) -> impl Future<Output = Option<Arc<Snapshot>>> + Send;
}

/// Only the newest value waits in a `watch` channel: a slow terminal skips snapshots and holds nobody up.
/// The value that the channel was made with is never delivered.
impl SnapshotSource for watch::Receiver<Arc<Snapshot>> {
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        self.changed().await.ok()?;
        Some(Arc::clone(&self.borrow_and_update()))
    }
}
