//! Diagnostics to stderr. A warning is a surprise that lost nothing; an error lost data. Nothing is logged per
//! event.

use tracing_subscriber::EnvFilter;

/// Overrides the level, in the syntax of `tracing_subscriber::EnvFilter`: `pyapm=debug`.
pub const LOG_VARIABLE: &str = "PYAPM_LOG";

/// Starts logging: warnings, with `-v` progress, with `-vv` details, with `-vvv` everything. `color` is
/// whether stderr takes colours. A second start changes nothing: the first subscriber stays.
pub fn start_logging(verbosity: u8, color: bool) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level(verbosity)));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_target(verbosity > 1)
        .finish();
    let _already_started = tracing::subscriber::set_global_default(subscriber);
}

fn level(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "warn",
        1 => "warn,pyapm=info",
        2 => "warn,pyapm=debug",
        _ => "info,pyapm=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_valid_filters() {
        for verbosity in 0..5 {
            assert!(EnvFilter::try_new(level(verbosity)).is_ok());
        }
        start_logging(0, false);
        start_logging(3, true);
    }
}
