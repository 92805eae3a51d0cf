//! Lines to the thread that writes the history. Nobody waits for it: what it cannot take is counted.

use super::{Published, Subscriber};
use crate::config;
use crate::history::{Entry, Refused, Writer};
use anyhow::Context;
use pyapm_model::line::Line;
use pyapm_model::service::ApplicationInfo;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks for lines, once one has come: each wakes threads, and nobody waits for the history.
const GATHER: Duration = Duration::from_millis(50);

impl Entry for Arc<Published> {
    fn application(&self) -> &ApplicationInfo {
        &self.application
    }

    fn line(&self) -> &Line {
        &self.line
    }
}

/// Hands lines on until the service ends, and then waits until they are written.
///
/// # Errors
/// When the file cannot be opened, is not ours, or its writer has died.
pub async fn run(settings: &config::History, mut subscriber: Subscriber) -> anyhow::Result<()> {
    let settings = settings.clone();
    let writer = tokio::task::spawn_blocking(move || Writer::start(&settings)).await??;
    'lines: while let Some(first) = subscriber.next().await {
        let mut next = Some(first);
        while let Some(published) = next {
            if matches!(published.line, Line::Transaction(_) | Line::Stacks(_)) {
                match writer.offer(published) {
                    Ok(()) => {}
                    Err(Refused::Full) => subscriber.dropped(1),
                    Err(Refused::Ended) => break 'lines,
                }
            }
            next = subscriber.ready();
        }
        subscriber.dropped(writer.take_given_up());
        writer.say_lost(subscriber.lost());
        tokio::time::sleep(GATHER).await;
    }
    tokio::task::spawn_blocking(move || writer.finish()).await?.context("what came last may be missing")
}
