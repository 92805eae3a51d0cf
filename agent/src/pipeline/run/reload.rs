//! From one configuration to the next. What stays as it was is not touched: no application that both name loses a
//! transaction. A file that is wrong changes nothing at all.

use super::service::{Service, Watching, set_rate};
use crate::cli::RunOptions;
use crate::config::{self, Config, ConfigError};
use crate::targets::Rules;
use std::path::Path;

/// The configuration to start with; by default that of the usual place, where there may be none.
///
/// # Errors
/// When it is wrong, or a file that was named does not exist.
pub(super) fn first(options: &RunOptions) -> anyhow::Result<Config> {
    match &options.config {
        Some(path) => Ok(config::load(path)?),
        None => {
            tracing::info!("no configuration file: everything is as by default");
            Ok(Config::default())
        }
    }
}

/// Reads the file again. `None`: there is none.
pub(super) fn reload(service: &mut Service, path: Option<&Path>) {
    let Some(path) = path else {
        tracing::warn!("there is no configuration file to read again");
        return;
    };
    let new = match config::load(path) {
        Ok(new) => new,
        Err(error) => {
            service.reloads_failed += 1;
            match &error {
                ConfigError::Wrong { path, problems } => {
                    for problem in problems {
                        tracing::error!("{}:{problem}", path.display());
                    }
                }
                ConfigError::Read { source, .. } => tracing::error!("{error}: {source}"),
            }
            tracing::error!("the configuration was not read again: the old one stays in force");
            return;
        }
    };
    for key in restart_needed(&service.config, &new) {
        tracing::warn!("`{key}` changes at the next start only");
    }
    service.config = new;
    service.governor =
        super::health::Governor::new(&service.config.budget, service.config.collection.sampling_hz);
    if let Some(watching) = &mut service.watching {
        apply(&service.config, watching);
    }
    if let Err(error) = service.follow_exports() {
        tracing::error!("not everybody is told any more: {error:#}");
    }
    tracing::info!("configuration read again");
}

fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.service, &new.service);
    [
        (
            "collection.event_loop_blocked_ms",
            old.collection.event_loop_blocked_ms != new.collection.event_loop_blocked_ms,
        ),
        ("collection.ring_bytes", old.collection.ring_bytes != new.collection.ring_bytes),
        ("service.socket", a.socket != b.socket),
        ("service.socket_group", a.socket_group != b.socket_group),
        ("service.socket_clients", a.socket_clients != b.socket_clients),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

/// Brings what is watched into line with the configuration.
pub(super) fn apply(config: &Config, watching: &mut Watching) {
    let Watching { engine, scout, .. } = watching;
    match Rules::new(&config.discovery) {
        Ok(rules) => {
            for id in scout.set_rules(rules, config.discovery.max_applications, engine) {
                let name = engine.instance(id).map(|instance| instance.application.name.clone());
                tracing::info!(name, id = id.0, "application watched no longer: the rules do not name it");
                engine.release(id);
            }
        }
        Err(error) => tracing::error!("the old rules stay in force: {error}"),
    }
    set_rate(engine, config.collection.sampling_hz);
    if let Err(error) = engine.count_costs(config.collection.probe_costs) {
        tracing::warn!("the kernel does not count what probes cost: {error}");
    }
}
