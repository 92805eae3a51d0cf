//! Who is told: one task for each export that the configuration asks for. An export whose section changes is ended, and
//! started anew a second later, when what it held (a port, a file) is free; the others are not touched. One that fails is said, and
//! tried again each half minute.

use crate::config::Config;
use crate::exports::{Publisher, alerts, history, log, otlp, prometheus, socket, statsd};
use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two tries of an export that failed.
const AGAIN: Duration = Duration::from_secs(30);
/// How long all of them have to deliver, at the end.
const FAREWELL: Duration = Duration::from_secs(6);

type Task = JoinHandle<anyhow::Result<()>>;

/// One kind of export.
struct Kind {
    name: &'static str,
    /// Its part of the configuration, as a text to compare by.
    section: fn(&Config) -> String,
    /// `None` when the configuration asks for none.
    start: fn(&Config, &Publisher) -> anyhow::Result<Option<Task>>,
}

const KINDS: [Kind; 7] = [
    // Its settings change at a restart only, as they say.
    Kind { name: "socket", section: |_| String::new(), start: start_socket },
    Kind {
        name: "prometheus",
        section: |config| format!("{:?}", config.prometheus),
        start: start_prometheus,
    },
    Kind { name: "otlp", section: |config| format!("{:?}", config.otlp), start: start_otlp },
    Kind { name: "statsd", section: |config| format!("{:?}", config.statsd), start: start_statsd },
    Kind { name: "log", section: |config| format!("{:?}", config.log), start: start_log },
    Kind { name: "history", section: |config| format!("{:?}", config.history), start: start_history },
    Kind { name: "alerts", section: |config| format!("{:?}", config.alerts), start: start_alerts },
];

#[derive(Default)]
pub(super) struct Exports {
    running: Vec<Running>,
}

/// One task, and the settings that it was started with.
struct Running {
    kind: &'static Kind,
    section: String,
    config: Config,
    /// `None`: nothing to do by these settings, or it has failed.
    task: Option<Task>,
    /// When it is started, if it is not running.
    due: Option<Instant>,
}

impl Exports {
    /// Starts what is new, ends what is no longer wanted.
    ///
    /// # Errors
    /// When one cannot be started at all; the others are.
    pub(super) fn follow(&mut self, config: &Config, publisher: &Publisher) -> anyhow::Result<()> {
        let mut result = Ok(());
        for kind in &KINDS {
            let section = (kind.section)(config);
            let known = self.running.iter().position(|running| running.kind.name == kind.name);
            let mut was_running = false;
            if let Some(index) = known {
                if self.running.get(index).is_some_and(|running| running.section == section) {
                    continue;
                }
                was_running = self.running.swap_remove(index).task.is_some();
            }
            let mut running = Running { kind, section, config: config.clone(), task: None, due: None };
            if was_running {
                // The old one lets go of what it holds when the runtime drops it, which is soon and not now.
                running.due = Some(Instant::now());
            } else if let Err(error) = running.start(publisher) {
                result = Err(error);
            }
            self.running.push(running);
        }
        result
    }

    /// Once a second: says which have failed, and tries them again after a while.
    pub(super) fn check(&mut self, publisher: &Publisher) {
        for running in &mut self.running {
            if running.is_due()
                && let Err(error) = running.start(publisher)
            {
                tracing::error!("`{}` cannot be started: {error:#}", running.kind.name);
            }
        }
    }

    /// The end: no more will be published. Each delivers what it has, within the time that there is. Those that serve
    /// and deliver nothing are ended.
    pub(super) async fn finish(self) {
        let deadline = tokio::time::Instant::now() + FAREWELL;
        for mut running in self.running {
            let name = running.kind.name;
            if let Some(task) = running.task.take()
                && name != "prometheus"
                && tokio::time::timeout_at(deadline, task).await.is_err()
            {
                tracing::warn!("`{name}` had no time to deliver everything");
            }
        }
    }
}

impl Running {
    fn start(&mut self, publisher: &Publisher) -> anyhow::Result<()> {
        match (self.kind.start)(&self.config, publisher) {
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

    /// Whether it does not run and it is time to start it.
    fn is_due(&mut self) -> bool {
        if self.task.as_ref().is_some_and(JoinHandle::is_finished) {
            self.task = None;
            tracing::error!("`{}` has ended; it is tried again", self.kind.name);
            self.due = Some(Instant::now() + AGAIN);
        }
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn start_socket(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    let settings = &config.service;
    if settings.socket.as_os_str().is_empty() {
        return Ok(None);
    }
    let socket = socket::Socket::bind(settings)
        .with_context(|| format!("cannot listen on `{}`", settings.socket.display()))?;
    Ok(Some(tokio::spawn(socket.serve(publisher.overviews()))))
}

fn start_prometheus(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    let settings = config.prometheus.clone();
    if settings.listen.is_empty() {
        return Ok(None);
    }
    let overviews = publisher.overviews();
    Ok(Some(spawn("prometheus", async move { prometheus::run(&settings, overviews).await })))
}

fn start_otlp(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    let destinations = match otlp::destinations(&config.otlp) {
        Ok(destinations) => destinations,
        // Said as any other end of an export, and tried again.
        Err(error) => return Ok(Some(spawn("otlp", async move { Err(error) }))),
    };
    if destinations.is_empty() {
        return Ok(None);
    }
    // Totals that are sent more often than every ten seconds must be as new as that.
    let wants_live = destinations.iter().any(|(_, destination)| otlp::wants_live(destination));
    let live = wants_live.then(|| publisher.overviews().live());
    let subscribed = destinations.into_iter();
    let subscribed =
        subscribed.map(|(name, destination)| (destination, publisher.subscribe(&name))).collect();
    Ok(Some(spawn("otlp", async move {
        let _while_it_runs = live;
        otlp::run(subscribed).await
    })))
}

fn start_statsd(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    if config.statsd.address.is_none() {
        return Ok(None);
    }
    let (settings, subscriber) = (config.statsd.clone(), publisher.subscribe("statsd"));
    Ok(Some(spawn("statsd", async move { statsd::run(&settings, subscriber).await })))
}

fn start_log(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    if config.log.file.is_none() {
        return Ok(None);
    }
    let (settings, subscriber) = (config.log.clone(), publisher.subscribe("log"));
    Ok(Some(spawn("log", async move { log::run(&settings, subscriber).await })))
}

fn start_history(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    if !config.history.enabled {
        return Ok(None);
    }
    let (settings, subscriber) = (config.history.clone(), publisher.subscribe("history"));
    Ok(Some(spawn("history", async move { history::run(&settings, subscriber).await })))
}

fn start_alerts(config: &Config, publisher: &Publisher) -> anyhow::Result<Option<Task>> {
    if !alerts::has_rules(&config.alerts) {
        return Ok(None);
    }
    let (settings, subscriber) = (config.alerts.clone(), publisher.subscribe("alerts"));
    let shown = publisher.show_alerts();
    let live = alerts::wants_live(&config.alerts).then(|| publisher.overviews().live());
    Ok(Some(spawn("alerts", async move {
        let _while_it_runs = live;
        alerts::run(&settings, subscriber, shown).await
    })))
}

/// Says why it ended, when it was not told to.
fn spawn(name: &'static str, export: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Task {
    tokio::spawn(async move {
        let result = export.await;
        if let Err(error) = &result {
            tracing::error!("`{name}`: {error:#}");
        }
        result
    })
}
