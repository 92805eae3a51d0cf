//! The loop: lines in, requests out, one at a time.

use super::batch::{Batches, Outgoing};
use super::queue::Queue;
use super::sender::{Outcome, Sender};
use super::settings::Settings;
use crate::config::Otlp;
use crate::exports::Subscriber;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep_until};

/// How long a transaction waits for others to go with it.
const BATCH: Duration = Duration::from_secs(1);
/// For what is left when the service ends.
const LAST: Duration = Duration::from_secs(5);

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether there is anybody to send to, by the section or the environment.
#[must_use]
pub fn has_receiver(section: &Otlp) -> bool {
    !matches!(Settings::new(section, environment), Ok(None))
}

/// Whether metrics are sent so often that overviews must come each second.
#[must_use]
pub fn wants_live(section: &Otlp) -> bool {
    let settings = Settings::new(section, environment).ok().flatten();
    settings.is_some_and(|settings| {
        settings.signals.metrics && settings.metrics_interval < Duration::from_secs(10)
    })
}

/// Sends until the service ends, and then what is left.
///
/// # Errors
/// When the section or the environment cannot be used.
pub async fn run(section: &Otlp, mut subscriber: Subscriber) -> anyhow::Result<()> {
    let Some(settings) = Settings::new(section, environment)? else { return Ok(()) };
    let sender = Sender::new(&settings)?;
    let mut batches = Batches::new(settings.clone());
    let mut queue = Queue::default();
    let mut batch = interval(BATCH);
    batch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let period = settings.metrics_interval;
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
            if let Outcome::Again { .. } = outcome {
                break;
            }
            settle(&mut queue, &subscriber, outgoing, outcome, &mut complained);
        }
    };
    if tokio::time::timeout(LAST, rest).await.is_err() {
        tracing::warn!("the OTLP receiver did not take everything before the end");
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
