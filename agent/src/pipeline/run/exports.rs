//! Who is told: one task for each export that the configuration asks for. An export whose section changes is ended and
//! started anew; the others are not touched. One that fails is said, and tried again each half minute.

use crate::config::{self, Config};
use crate::exports::{Publisher, socket};
use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two tries of an export that failed.
const AGAIN: Duration = Duration::from_secs(30);
/// How long all of them have to deliver, at the end.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Exports {
    socket: Option<Running<config::Service>>,
}

/// One task, and the settings that it was started with.
struct Running<S> {
    name: &'static str,
    settings: S,
    /// `None`: nothing to do by these settings, or it has failed.
    task: Option<JoinHandle<anyhow::Result<()>>>,
    failed: Option<Instant>,
}

impl Exports {
    /// Starts what is new, ends what is no longer wanted.
    ///
    /// # Errors
    /// When one cannot be started at all; the others are.
    pub(super) fn follow(&mut self, config: &Config, publisher: &Publisher) -> anyhow::Result<()> {
        // Its settings change at a restart only.
        if self.socket.is_some() {
            return Ok(());
        }
        let settings = config.service.clone();
        let (task, failed, result) = match start_socket(&settings, publisher) {
            Ok(task) => (task, None, Ok(())),
            Err(error) => (None, Some(Instant::now()), Err(error)),
        };
        self.socket = Some(Running { name: "socket", settings, task, failed });
        result
    }

    /// Once a second: says which have failed, and tries them again after a while.
    pub(super) fn check(&mut self, publisher: &Publisher) {
        if let Some(running) = &mut self.socket
            && running.is_due()
        {
            match start_socket(&running.settings, publisher) {
                Ok(task) => (running.task, running.failed) = (task, None),
                Err(error) => {
                    tracing::error!("`{}` failed again: {error:#}", running.name);
                    running.failed = Some(Instant::now());
                }
            }
        }
    }

    /// The end: no more will be published. Each delivers what it has, within the time that there is.
    pub(super) async fn finish(self) {
        let Some(mut running) = self.socket else { return };
        if let Some(task) = running.task.take()
            && tokio::time::timeout(FAREWELL, task).await.is_err()
        {
            tracing::warn!("`{}` had no time to deliver everything", running.name);
        }
    }
}

impl<S> Running<S> {
    /// Whether it has failed, and it is time to try again.
    fn is_due(&mut self) -> bool {
        if self.task.as_ref().is_some_and(JoinHandle::is_finished) {
            self.task = None;
            tracing::error!("`{}` has ended; it is tried again", self.name);
            self.failed = Some(Instant::now());
        }
        self.failed.is_some_and(|since| since.elapsed() >= AGAIN)
    }
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn start_socket(
    settings: &config::Service,
    publisher: &Publisher,
) -> anyhow::Result<Option<JoinHandle<anyhow::Result<()>>>> {
    if settings.socket.as_os_str().is_empty() {
        return Ok(None);
    }
    let socket = socket::Socket::bind(settings)
        .with_context(|| format!("cannot listen on `{}`", settings.socket.display()))?;
    Ok(Some(tokio::spawn(socket.serve(publisher.overviews()))))
}
