//! Who is told: one task for each export that the configuration asks for. An export whose settings change is ended and started
//! anew a second later, when what it held (a port, a file) is free; the others are not touched. One that fails is said, and
//! tried again each half minute.
//!
//! A new export is a [`Slot`] in [`Exports`], a line in each of its functions, and a function that spawns it.

use crate::config::{self, Config};
use crate::exports::{Publisher, socket};
use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two tries of an export that failed.
const AGAIN: Duration = Duration::from_secs(30);
/// How long each has to deliver, at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running export. `None`: there is nothing to do by these settings.
type Started = anyhow::Result<Option<JoinHandle<anyhow::Result<()>>>>;

pub(super) struct Exports {
    socket: Slot<config::Service>,
}

impl Default for Exports {
    fn default() -> Self {
        Self { socket: Slot::new("socket", start_socket) }
    }
}

impl Exports {
    /// Brings every export into line with the configuration.
    ///
    /// # Errors
    /// When one cannot be started; it is tried again.
    pub(super) fn follow(&mut self, config: &Config, publisher: &Publisher) -> anyhow::Result<()> {
        // The socket's settings change at a restart only.
        if self.socket.settings.is_none() {
            self.socket.follow(&config.service, publisher)?;
        }
        Ok(())
    }

    /// Once a second: says which have ended, and starts what is due.
    pub(super) fn check(&mut self, publisher: &Publisher) {
        self.socket.check(publisher);
    }

    /// The end: no more will be published. Each delivers what it has, within the time that there is.
    pub(super) async fn finish(self) {
        self.socket.finish().await;
    }
}

/// One export: its settings and its task.
struct Slot<S> {
    name: &'static str,
    start: fn(&S, &Publisher) -> Started,
    /// `None` before the first.
    settings: Option<S>,
    task: Option<JoinHandle<anyhow::Result<()>>>,
    /// When it is started, if it is not running.
    due: Option<Instant>,
}

impl<S: Clone + PartialEq> Slot<S> {
    fn new(name: &'static str, start: fn(&S, &Publisher) -> Started) -> Self {
        Self { name, start, settings: None, task: None, due: None }
    }

    fn follow(&mut self, wanted: &S, publisher: &Publisher) -> anyhow::Result<()> {
        if self.settings.as_ref() == Some(wanted) {
            return Ok(());
        }
        self.settings = Some(wanted.clone());
        if let Some(task) = self.task.take() {
            // It lets go of what it holds when the runtime drops it, which is soon and not now.
            task.abort();
            self.due = Some(Instant::now());
            return Ok(());
        }
        self.try_start(publisher)
    }

    fn try_start(&mut self, publisher: &Publisher) -> anyhow::Result<()> {
        let Some(settings) = &self.settings else { return Ok(()) };
        match (self.start)(settings, publisher) {
            Ok(task) => {
                (self.task, self.due) = (task, None);
                Ok(())
            }
            Err(error) => {
                self.due = Some(Instant::now() + AGAIN);
                Err(error)
            }
        }
    }

    fn check(&mut self, publisher: &Publisher) {
        if self.task.as_ref().is_some_and(JoinHandle::is_finished) {
            self.task = None;
            self.due = Some(Instant::now() + AGAIN);
            tracing::error!("`{}` has ended; it is tried again", self.name);
        }
        if self.due.is_some_and(|due| due <= Instant::now())
            && let Err(error) = self.try_start(publisher)
        {
            tracing::error!("`{}` cannot be started: {error:#}", self.name);
        }
    }

    async fn finish(self) {
        if let Some(task) = self.task
            && tokio::time::timeout(FAREWELL, task).await.is_err()
        {
            tracing::warn!("`{}` had no time to deliver everything", self.name);
        }
    }
}

fn start_socket(settings: &config::Service, publisher: &Publisher) -> Started {
    if settings.socket.as_os_str().is_empty() {
        return Ok(None);
    }
    let socket = socket::Socket::bind(settings)
        .with_context(|| format!("cannot listen on `{}`", settings.socket.display()))?;
    Ok(Some(tokio::spawn(socket.serve(publisher.overviews()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(settings: &u32, publisher: &Publisher) -> Started {
        anyhow::ensure!(*settings != 13, "unlucky");
        let mut subscriber = publisher.subscribe(&settings.to_string());
        Ok(Some(tokio::spawn(async move {
            while subscriber.next().await.is_some() {}
            Ok(())
        })))
    }

    fn names(publisher: &Publisher) -> Vec<String> {
        publisher.health().into_keys().collect()
    }

    #[tokio::test]
    async fn changed_settings_start_it_anew_and_the_same_do_not() {
        let publisher = Publisher::default();
        let mut slot = Slot::new("test", start);
        slot.follow(&1, &publisher).unwrap();
        slot.follow(&1, &publisher).unwrap();
        assert_eq!(names(&publisher), ["1"]);
        slot.follow(&2, &publisher).unwrap();
        slot.check(&publisher);
        tokio::task::yield_now().await;
        assert_eq!(names(&publisher), ["2"]);
        drop(publisher);
        slot.finish().await;
    }

    #[tokio::test]
    async fn a_failure_is_told_and_tried_again_later() {
        let publisher = Publisher::default();
        let mut slot = Slot::new("test", start);
        assert!(slot.follow(&13, &publisher).is_err());
        slot.check(&publisher);
        assert!(slot.due.is_some_and(|due| due > Instant::now()) && slot.task.is_none());
        slot.follow(&14, &publisher).unwrap();
        assert_eq!(names(&publisher), ["14"]);
    }
}
