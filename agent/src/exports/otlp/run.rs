//! The loop: lines in, requests out, one at a time.

use super::batch::{Batches, Outgoing};
use super::queue::Queue;
use super::sender::{Outcome, Sender};
use super::settings::{self, Destination};
use super::signal::Signal;
use crate::config::Otlp;
use crate::exports::Subscriber;
use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep_until};

/// How long a transaction waits for others to go with it.
const BATCH: Duration = Duration::from_secs(1);
/// For what is left when the service ends.
const LAST: Duration = Duration::from_secs(5);

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where to send, by the section and the environment, each with the name that its losses are counted under; none when
/// nobody has said where to.
///
/// # Errors
/// When the section or the environment says what cannot be.
pub fn destinations(section: &Otlp) -> anyhow::Result<Vec<(String, Destination)>> {
    let all = settings::destinations(section, &environment)?;
    let is_only = all.len() == 1;
    Ok(all.into_iter().map(|one| (one.label(is_only), one)).collect())
}

/// Whether metrics are sent so often that overviews must come each second.
#[must_use]
pub fn wants_live(destination: &Destination) -> bool {
    destination.sends(Signal::Metrics) && destination.metrics_interval < Duration::from_secs(10)
}

/// Sends until the service ends, and then what is left: to all at the same time, so that none waits for another.
///
/// # Errors
/// When a destination cannot be used.
pub async fn run(destinations: Vec<(Destination, Subscriber)>) -> anyhow::Result<()> {
    let mut all = JoinSet::new();
    for (destination, subscriber) in destinations {
        all.spawn(deliver(destination, subscriber));
    }
    while let Some(ended) = all.join_next().await {
        ended.context("a task of OTLP has ended")??;
    }
    Ok(())
}

async fn deliver(destination: Destination, mut subscriber: Subscriber) -> anyhow::Result<()> {
    for sentence in &destination.ignored {
        tracing::warn!("{sentence}");
    }
    let sender = Sender::new(&destination)?;
    let period = destination.metrics_interval;
    let mut queue = Queue::new(destination.queue);
    let mut batches = Batches::new(destination);
    let mut batch = interval(BATCH);
    batch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut metrics = interval_at(tokio::time::Instant::now() + period, period);
    metrics.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut on_its_way = None;
    let mut complained = false;
    loop {
        if on_its_way.is_none()
            && let Some(next) = queue.next(Instant::now())
        {
            on_its_way = Some(Box::pin(send(sender.clone(), next)));
        }
        let due = queue.due(Instant::now()).filter(|_| on_its_way.is_none());
        let requests = tokio::select! {
            line = subscriber.next() => match line {
                Some(line) => batches.take(&line),
                None => break,
            },
            _ = batch.tick() => batches.flush(),
            _ = metrics.tick() => batches.metrics(&subscriber.overview()),
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => Vec::new(),
            (outgoing, outcome) = async {
                match &mut on_its_way {
                    Some(sending) => sending.await,
                    None => std::future::pending().await,
                }
            } => {
                on_its_way = None;
                settle(&mut queue, &subscriber, outgoing, outcome, &mut complained);
                Vec::new()
            }
        };
        for request in requests {
            subscriber.dropped(queue.push(request));
        }
        subscriber.holds(queue.lines());
    }
    let rest = async {
        if let Some(sending) = on_its_way {
            let (outgoing, outcome) = sending.await;
            settle(&mut queue, &subscriber, outgoing, outcome, &mut complained);
        }
        queue.succeeded();
        for request in batches.flush().into_iter().chain(batches.metrics(&subscriber.overview())) {
            subscriber.dropped(queue.push(request));
        }
        while let Some(next) = queue.next(Instant::now()) {
            let (outgoing, outcome) = send(sender.clone(), next).await;
            let is_over = matches!(outcome, Outcome::Again { .. });
            settle(&mut queue, &subscriber, outgoing, outcome, &mut complained);
            if is_over {
                break;
            }
        }
    };
    let _no_more_time = tokio::time::timeout(LAST, rest).await;
    let lost = queue.lines();
    if lost > 0 {
        subscriber.dropped(lost);
        tracing::warn!(lost, "the OTLP receiver did not take everything before the end");
    }
    Ok(())
}

async fn send(sender: Sender, outgoing: Outgoing) -> (Outgoing, Outcome) {
    let outcome = sender.send(&outgoing).await;
    (outgoing, outcome)
}

/// Says once that the receiver is away, and once that it is back.
fn settle(
    queue: &mut Queue,
    subscriber: &Subscriber,
    outgoing: Outgoing,
    outcome: Outcome,
    complained: &mut bool,
) {
    match outcome {
        Outcome::Taken { rejected } => {
            queue.succeeded();
            if std::mem::take(complained) {
                tracing::info!("the OTLP receiver takes data again");
            }
            if rejected > 0 {
                subscriber.dropped(rejected.min(outgoing.lines));
                tracing::warn!(rejected, "the OTLP receiver refused a part");
            }
        }
        Outcome::Again { pause, why } => {
            if !std::mem::replace(complained, true) {
                tracing::warn!("the OTLP receiver cannot be reached, trying on: {why}");
            }
            let now = Instant::now();
            // Any number will do that differs between hosts.
            let chance = f64::from(std::process::id() % 1_000) / 1_000.0;
            subscriber.dropped(queue.failed(outgoing, pause, now, chance));
        }
        Outcome::Refused { why } => {
            queue.succeeded();
            subscriber.dropped(outgoing.lines);
            tracing::warn!("the OTLP receiver refuses a request for good: {why}");
        }
    }
}
