//! The loop: transactions in, once a second a look at every rule, messages out.

use super::board::Board;
use super::message::Alert;
use super::rule::{Change, Metric, State};
use super::webhook::{Queue, Receiver, Sent};
use super::window::{Sums, Window};
use crate::config;
use crate::exports::{AlertsShown, Subscriber};
use anyhow::Context;
use globset::GlobSet;
use pyapm_model::line::{Line, Transaction};
use pyapm_model::service::{ApplicationState, Overview};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::{MissedTickBehavior, interval};

const SECOND: Duration = Duration::from_secs(1);
/// How long what is left may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);
/// Applications that are watched by one rule, at most.
const APPLICATIONS: usize = 1_000;

/// Whether anything is to be watched.
#[must_use]
pub fn has_rules(settings: &config::Alerts) -> bool {
    !settings.rule.is_empty()
}

/// Whether a rule needs overviews each second.
#[must_use]
pub fn wants_live(settings: &config::Alerts) -> bool {
    settings.rule.iter().any(|rule| rule.metric == "active")
}

/// Watches until the service ends, and then tells what is left. What fires is shown in `shown`, as long as this runs.
///
/// # Errors
/// When a rule cannot be understood, which a checked configuration excludes, or no HTTP client can be made.
pub async fn run(
    settings: &config::Alerts,
    mut subscriber: Subscriber,
    shown: AlertsShown,
) -> anyhow::Result<()> {
    let mut watch = Watch::new(settings)?;
    let mut board = Board::default();
    let receiver = match &settings.webhook {
        Some(url) => Some(Receiver::new(settings, url)?),
        None => None,
    };
    let is_alertmanager = settings.format == "alertmanager";
    let mut door = Door::new(receiver, settings.queue as usize);
    // Windows and states go by this, so that nothing happens to them when the wall clock is set.
    let begin = Instant::now();
    let mut tick = interval(SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            line = subscriber.next() => match line {
                Some(published) => {
                    if let Line::Transaction(transaction) = &published.line {
                        watch.transaction(&published.application.name, transaction, begin.elapsed().as_secs());
                    }
                }
                None => break,
            },
            _ = tick.tick() => {
                let alerts = watch.look(&subscriber.overview(), begin.elapsed().as_secs(), wall_s());
                for alert in &alerts {
                    board.take(alert);
                    subscriber.dropped(door.put(alert.body(is_alertmanager)));
                }
                if !alerts.is_empty() {
                    shown.show(board.by_application());
                }
            }
            lost = door.work() => subscriber.dropped(lost),
        }
    }
    // Nobody waits long for a receiver that is down.
    let emptied = tokio::time::timeout(FAREWELL, door.empty()).await;
    subscriber.dropped(emptied.unwrap_or_else(|_late| door.waiting()));
    Ok(())
}

type Attempt = Pin<Box<dyn Future<Output = (String, Sent)> + Send>>;

/// The way out: one attempt at a time, whatever else goes on.
struct Door {
    receiver: Option<Receiver>,
    queue: Queue,
    attempt: Option<Attempt>,
    complained: bool,
}

impl Door {
    fn new(receiver: Option<Receiver>, most: usize) -> Self {
        Self { receiver, queue: Queue::new(most), attempt: None, complained: false }
    }

    /// Gives how many messages had to go for it.
    fn put(&mut self, body: String) -> u64 {
        if self.receiver.is_some() { self.queue.push(body) } else { 0 }
    }

    fn waiting(&self) -> u64 {
        self.queue.len() as u64 + u64::from(self.attempt.is_some())
    }

    /// One step: resolves when an attempt has ended, with the number of messages that were lost by it. Cancel safe.
    async fn work(&mut self) -> u64 {
        if self.attempt.is_none() {
            let Some(due) = self.queue.next(Instant::now()) else { return std::future::pending().await };
            tokio::time::sleep_until(due.into()).await;
            let (Some(receiver), Some(body)) = (self.receiver.clone(), self.queue.due(Instant::now())) else {
                return 0;
            };
            self.attempt = Some(Box::pin(async move {
                let sent = receiver.send(body.clone()).await;
                (body, sent)
            }));
        }
        let Some(attempt) = &mut self.attempt else { return 0 };
        let (body, sent) = attempt.as_mut().await;
        self.attempt = None;
        match sent {
            Sent::Taken => {
                self.queue.succeeded();
                if std::mem::take(&mut self.complained) {
                    tracing::info!("the receiver of alerts takes them again");
                }
                0
            }
            Sent::Later(error) => {
                self.complain(&error, "tried again");
                self.queue.failed(body, Instant::now())
            }
            Sent::Never(error) => {
                self.complain(&error, "given up");
                self.queue.succeeded();
                1
            }
        }
    }

    async fn empty(&mut self) -> u64 {
        let mut lost = 0;
        while self.waiting() > 0 {
            lost += self.work().await;
        }
        lost
    }

    fn complain(&mut self, error: &anyhow::Error, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("the receiver of alerts does not take one, which is {what}: {error:#}");
        }
    }
}

/// All rules, and what they are about.
struct Watch {
    rules: Vec<Rule>,
    repeat_s: u64,
}

struct Rule {
    settings: config::AlertRule,
    metric: Metric,
    /// `None`: every application.
    names: Option<GlobSet>,
    applications: HashMap<String, Watched>,
}

/// One application by one rule.
struct Watched {
    window: Window,
    state: State,
    value: Option<f64>,
    told_s: u64,
}

impl Watch {
    fn new(settings: &config::Alerts) -> anyhow::Result<Self> {
        let rules = settings.rule.iter().map(|rule| {
            let metric =
                Metric::named(&rule.metric).with_context(|| format!("`{}` is no metric", rule.metric))?;
            let names = if rule.application.is_empty() { None } else { Some(rule.application.compiled()?) };
            Ok(Rule { settings: rule.clone(), metric, names, applications: HashMap::new() })
        });
        let rules = rules.collect::<anyhow::Result<Vec<Rule>>>()?;
        Ok(Self { rules, repeat_s: u64::from(settings.repeat_seconds) })
    }

    fn transaction(&mut self, application: &str, transaction: &Transaction, now_s: u64) {
        for rule in &mut self.rules {
            if rule.metric != Metric::Active
                && rule.settings.route.as_ref().is_none_or(|route| *route == transaction.name)
                && let Some(watched) = rule.watched(application)
            {
                watched.window.record(now_s, transaction);
            }
        }
    }

    /// What is to be told now. Applications that the overview knows and that do nothing are looked at too. `now_s` only
    /// ever grows, `wall_s` is what people are told.
    fn look(&mut self, overview: &Overview, now_s: u64, wall_s: u64) -> Vec<Alert> {
        let on_the_wall = |second: u64| wall_s.saturating_sub(now_s.saturating_sub(second));
        let mut alerts = Vec::new();
        let is_forgotten = |name: &str| {
            overview.health.taken_ns > 0 && overview.applications.iter().all(|state| state.info.name != name)
        };
        for rule in &mut self.rules {
            let mut active: HashMap<&str, u64> = HashMap::new();
            for state in &overview.applications {
                if state.info.state == ApplicationState::Running {
                    *active.entry(&state.info.name).or_default() += state.snapshot.active.len() as u64;
                    let _known = rule.watched(&state.info.name);
                }
            }
            let Rule { settings, metric, applications, .. } = rule;
            for (name, watched) in &mut *applications {
                let sums: Sums = watched.window.sums(now_s);
                // Of what does not run nothing is known: its silence is no figure.
                let running = active.get(name.as_str());
                watched.value = match metric {
                    Metric::Active => running.map(|count| *count as f64),
                    Metric::Throughput if running.is_none() && sums.count == 0 => None,
                    _ => metric.of(&sums, settings),
                };
                let mut change = watched.state.step(settings, watched.value, now_s);
                if let State::Firing { since_s, .. } = watched.state
                    && is_forgotten(name)
                {
                    // Nobody would ever end it.
                    watched.state = State::Quiet;
                    change = Some(Change::Resolved { since_s });
                }
                let alert = |since_s, until_s| {
                    Alert::new(settings, *metric, name, watched.value, on_the_wall(since_s), until_s)
                };
                match (change, watched.state) {
                    (Some(Change::Fired { since_s }), _) => {
                        let alert = alert(since_s, None);
                        tracing::warn!(alert = alert.name, application = name, "{}", alert.summary);
                        watched.told_s = now_s;
                        alerts.push(alert);
                    }
                    (Some(Change::Resolved { since_s }), _) => {
                        let alert = alert(since_s, Some(wall_s));
                        tracing::info!(alert = alert.name, application = name, "over: {}", alert.summary);
                        alerts.push(alert);
                    }
                    (None, State::Firing { since_s, .. })
                        if self.repeat_s > 0 && now_s.saturating_sub(watched.told_s) >= self.repeat_s =>
                    {
                        watched.told_s = now_s;
                        alerts.push(alert(since_s, None));
                    }
                    _ => {}
                }
            }
            // What has ended and is quiet is let go.
            applications.retain(|name, watched| {
                active.contains_key(name.as_str())
                    || watched.state != State::Quiet
                    || watched.window.sums(now_s + 1).count > 0
            });
        }
        alerts
    }
}

impl Rule {
    /// `None` when the rule is not about it, or about too many already.
    fn watched(&mut self, application: &str) -> Option<&mut Watched> {
        if self.names.as_ref().is_some_and(|names| !names.is_match(application)) {
            return None;
        }
        if !self.applications.contains_key(application) {
            if self.applications.len() >= APPLICATIONS {
                return None;
            }
            let seconds = u64::from(self.settings.over_seconds);
            let satisfying_ns = (self.settings.apdex_milliseconds * 1e6) as u64;
            let watched = Watched {
                window: Window::new(seconds, satisfying_ns),
                state: State::default(),
                value: None,
                told_s: 0,
            };
            self.applications.insert(application.to_owned(), watched);
        }
        self.applications.get_mut(application)
    }
}

fn wall_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
