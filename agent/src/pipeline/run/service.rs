//! The loop of the service, and what it owns. The engine is there while the service is on; off, nothing is attached to
//! anything.

use super::catalog::Catalog;
use super::exports::Exports;
use super::health::{Governor, Meter};
use super::notify::Notifier;
use super::reload;
use super::scout::Scout;
use super::signals::{Order, Signals};
use crate::cli::RunOptions;
use crate::config::Config;
use crate::exports::Publisher;
use crate::pipeline::clock;
use crate::pipeline::engine::{Engine, Lines};
use crate::pipeline::snapshot::Threads;
use crate::pipeline::start::{StartError, load, random_seed};
use crate::probes::OffCpu;
use anyhow::Context;
use pyapm_model::metric::Metrics;
use pyapm_model::service::{Health, Overview, State};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

/// How long a record may wait in the ring before it is drained. The kernel half wakes the reader earlier when much
/// waits, or when a server has come up.
const DRAIN: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
/// Seconds between two overviews while nobody looks at them as they come.
const QUIET: u64 = 10;

/// Runs the service until it is told to stop.
///
/// # Errors
/// When the configuration is wrong at the start, or nothing could be attached; never for what a target does.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    let config = reload::first(options)?;
    // What the service makes is for nobody else, unless it is told to be.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result = runtime.block_on(serve(config, options));
    runtime.shutdown_timeout(SECOND);
    result
}

async fn serve(config: Config, options: &RunOptions) -> anyhow::Result<()> {
    // Signals first: from here on they are orders.
    let mut signals = Signals::listen()?;
    let mut service = Service::new(config, options.config.clone());
    service.exports.follow(&service.config, &service.publisher)?;
    // At the start a kernel half that cannot be loaded is an error; later it is a reason to stay off.
    service.switch()?;
    let status = service.status();
    service.notifier.ready(&status);
    let mut drain = interval(DRAIN);
    drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut tick = false;
        tokio::select! {
            biased;
            order = signals.next() => match order {
                Order::Stop => break,
                Order::Reload => service.reload(),
                Order::Off => service.off("SIGUSR1"),
            },
            _ = second.tick() => tick = true,
            _ = drain.tick() => {}
            ready = readable(service.watching.as_ref()) => ready?,
        }
        let more = service.turn();
        if tick {
            service.second();
        }
        if more {
            tokio::task::yield_now().await;
        }
    }
    service.notifier.stopping();
    service.stop().await;
    Ok(())
}

/// Resolves when the kernel half wants its ring drained.
async fn readable(watching: Option<&Watching>) -> anyhow::Result<()> {
    match watching {
        Some(watching) => {
            let mut ready = watching.ring.readable().await.context("cannot wait for the ring buffer")?;
            ready.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

/// What is there while the service is on.
pub(super) struct Watching {
    pub(super) engine: Engine,
    pub(super) scout: Scout,
    catalog: Catalog,
    ring: AsyncFd<OwnedFd>,
}

pub(super) struct Service {
    pub(super) config: Config,
    path: Option<PathBuf>,
    publisher: Publisher,
    pub(super) exports: Exports,
    /// `None` while it is off.
    pub(super) watching: Option<Watching>,
    /// Why it was switched off by hand; until the next reload.
    off: Option<&'static str>,
    pub(super) governor: Governor,
    meter: Meter,
    seconds: u64,
    pub(super) reloads_failed: u64,
    notifier: Notifier,
    lines: Lines,
}

impl Service {
    fn new(config: Config, path: Option<PathBuf>) -> Self {
        Self {
            governor: Governor::new(&config.budget, config.collection.sampling_hz),
            config,
            path,
            publisher: Publisher::default(),
            exports: Exports::default(),
            watching: None,
            off: None,
            meter: Meter::default(),
            seconds: 0,
            reloads_failed: 0,
            notifier: Notifier::from_environment(),
            lines: Lines::new(),
        }
    }

    /// Takes what the ring has, looks at who is new, and publishes. `true` when there may be more.
    fn turn(&mut self) -> bool {
        let Some(Watching { engine, scout, catalog, .. }) = &mut self.watching else { return false };
        let more = engine.turn(&mut self.lines);
        scout.announced(engine.announcements());
        scout.look(engine, &mut self.lines);
        publish(&self.publisher, engine, catalog, &mut self.lines);
        more
    }

    fn second(&mut self) {
        self.seconds = self.seconds.wrapping_add(1);
        self.notifier.alive();
        if let Err(error) = self.switch() {
            let error = anyhow::Error::from(error);
            tracing::error!("nothing is watched: {error:#}");
            self.off = Some("an error; SIGHUP tries again");
        }
        let now = clock::monotonic_ns();
        let has_rate = self.meter.read(now);
        self.exports.check(&self.publisher);
        if let Some(Watching { engine, catalog, .. }) = &mut self.watching {
            engine.housekeeping(&mut self.lines);
            let keep_ns = u64::from(self.config.discovery.keep_ended_seconds) * 1_000_000_000;
            for over in catalog.refresh(engine, now, keep_ns) {
                engine.forget_application(over);
            }
            if self.config.history.enabled {
                engine.say_stacks(&mut self.lines);
            }
            publish(&self.publisher, engine, catalog, &mut self.lines);
            if has_rate
                && let Some(cores) = self.meter.vitals.cpu_cores
                && let Some(rate_hz) = self.governor.step(cores, now)
            {
                let percent = cores * 100.0;
                tracing::warn!(
                    rate_hz,
                    "sampling changes its rate: {percent:.1} % of a core are used, {} are the budget",
                    self.config.budget.cpu_percent
                );
                set_rate(engine, rate_hz);
            }
        }
        if self.publisher.is_live() || self.seconds % QUIET == 1 {
            self.publish_overview();
            let status = self.status();
            self.notifier.status(&status);
        }
    }

    fn publish_overview(&mut self) {
        let is_live = self.publisher.is_live();
        let threads = if self.publisher.is_watched() { Threads::States } else { Threads::Unread };
        let mut overview = Overview { applications: Vec::new(), health: self.health() };
        let alerts = self.publisher.alerts();
        if let Some(Watching { engine, catalog, .. }) = &mut self.watching {
            for id in engine.applications() {
                let Some(info) = catalog.info(engine, id) else { continue };
                let Some(mut snapshot) = engine.snapshot(id, is_live, threads) else { continue };
                snapshot.slowed_hz = self.governor.is_slowed().then(|| engine.rate_hz());
                snapshot.alerts = alerts.get(&info.name).cloned().unwrap_or_default();
                let families = engine.metrics(id, &snapshot);
                let metrics = Arc::new(Metrics {
                    application: info.name.clone(),
                    started_ns: info.since_ns,
                    taken_ns: snapshot.taken_ns,
                    families,
                });
                overview.applications.push(Arc::new(State { info, snapshot, metrics }));
            }
        }
        self.publisher.publish_overview(overview);
    }

    fn health(&mut self) -> Health {
        let vitals = self.meter.vitals;
        let mut health = Health {
            taken_ns: clock::offset().wall_ns(clock::monotonic_ns()),
            cpu_cores: vitals.cpu_cores,
            rss_bytes: vitals.rss_bytes,
            ring_bytes: u64::from(self.config.collection.ring_bytes),
            is_over_budget: self.governor.is_slowed(),
            subscribers: self.publisher.health(),
            reloads_failed: self.reloads_failed,
            ..Health::default()
        };
        if let Some(Watching { engine, scout, .. }) = &mut self.watching {
            health.ring_peak_bytes = engine.ring_peak();
            health.sampling_hz = engine.rate_hz();
            health.probes = engine.costs();
            health.applications_overflow = scout.overflow;
            health.losses = Some(engine.losses(std::iter::empty()));
        }
        health
    }

    /// Goes on or off, as configuration, kill switch and signals have it.
    fn switch(&mut self) -> Result<(), StartError> {
        let wanted = self.wanted();
        match (wanted, self.watching.is_some()) {
            (Ok(()), false) => self.watching = Some(self.begin()?),
            (Err(why), true) => self.off(why),
            _ => {}
        }
        Ok(())
    }

    /// Whether anything shall be attached, or why not.
    fn wanted(&self) -> Result<(), &'static str> {
        if let Some(why) = self.off {
            return Err(why);
        }
        if !self.config.service.enabled {
            return Err("`service.enabled` is false");
        }
        if self.config.service.kill_switch.exists() {
            return Err("the file `service.kill_switch` exists");
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Watching, StartError> {
        let seed = random_seed().map_err(StartError::Random)?;
        self.governor = Governor::new(&self.config.budget, self.config.collection.sampling_hz);
        let probes = load(
            self.config.collection.ring_bytes,
            false,
            OffCpu::Times,
            self.config.collection.event_loop_blocked_ms,
        )?;
        let mut engine = Engine::new(probes, self.config.collection.sampling_hz, seed, false)?;
        engine.follow()?;
        engine.announce()?;
        let ring = engine.ring_fd().and_then(|ring| {
            // SAFETY: the `AsyncFd` owns this descriptor, so it stays open for as long as it is registered.
            let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
            registered.map_err(Into::into)
        });
        let ring = ring.map_err(StartError::Ring)?;
        let mut watching = Watching { engine, scout: Scout::default(), catalog: Catalog::default(), ring };
        reload::apply(&self.config, &mut watching);
        // Whoever runs already is watched before the service says that it is ready.
        watching.scout.look(&mut watching.engine, &mut self.lines);
        tracing::info!(applications = watching.engine.applications().len(), "on");
        Ok(watching)
    }

    /// Lets go of everything. What is in flight is not reported.
    fn off(&mut self, why: &'static str) {
        if why == "SIGUSR1" {
            self.off = Some(why);
        }
        let Some(Watching { mut engine, mut catalog, .. }) = self.watching.take() else { return };
        engine.stop(&mut self.lines);
        publish(&self.publisher, &engine, &mut catalog, &mut self.lines);
        let summary = engine.summary();
        tracing::warn!(
            seen = summary.seen,
            delivered = summary.delivered,
            dropped = ?summary.dropped,
            transactions = summary.transactions,
            "off: {why}; nothing is attached to any process"
        );
        self.publish_overview();
        let status = self.status();
        self.notifier.status(&status);
    }

    fn reload(&mut self) {
        self.notifier.reloading();
        self.off = None;
        reload::reload(self, self.path.clone().as_deref());
        let status = self.status();
        self.notifier.ready(&status);
    }

    /// Hands a changed configuration to the exports.
    pub(super) fn follow_exports(&mut self) -> anyhow::Result<()> {
        self.exports.follow(&self.config, &self.publisher)
    }

    fn status(&self) -> String {
        match (&self.watching, self.wanted()) {
            (Some(watching), _) => {
                let applications = watching.engine.applications();
                let alive = applications.iter().filter(|id| watching.engine.is_alive(**id)).count();
                format!("{alive} applications watched")
            }
            (None, Err(why)) => format!("off: {why}"),
            (None, Ok(())) => "off".to_owned(),
        }
    }

    /// The end, in order: probes away, what was seen handed on, exports given time to deliver.
    async fn stop(mut self) {
        if let Some(Watching { engine, catalog, .. }) = &mut self.watching {
            engine.stop(&mut self.lines);
            if self.config.history.enabled {
                engine.say_stacks(&mut self.lines);
            }
            publish(&self.publisher, engine, catalog, &mut self.lines);
            let summary = engine.summary();
            tracing::info!(
                seen = summary.seen,
                delivered = summary.delivered,
                dropped = ?summary.dropped,
                transactions = summary.transactions,
                "stopped"
            );
        }
        self.publish_overview();
        // Subscribers learn by it that nothing more will come.
        drop(self.publisher);
        self.exports.finish().await;
    }
}

/// A rate that the kernel refuses leaves the service without samples, and says so.
pub(super) fn set_rate(engine: &mut Engine, rate_hz: u32) {
    if let Err(error) = engine.resample(rate_hz) {
        let error = anyhow::Error::from(error);
        tracing::error!("there are no samples any more: {error:#}");
    }
}

fn publish(publisher: &Publisher, engine: &Engine, catalog: &mut Catalog, lines: &mut Lines) {
    for said in lines.drain(..) {
        if publisher.has_readers()
            && let Some(info) = catalog.info(engine, said.application)
        {
            publisher.publish(&info, said.line);
        }
    }
}
