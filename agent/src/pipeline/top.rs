//! `pyapm top`: the live view of an application that the service watches, over the service's socket.

use crate::cli::TopOptions;
use crate::exports::socket::{Connection, ConnectionError};
use anyhow::Context;
use pyapm_model::service::{ApplicationInfo, ApplicationState, Request, Response, Watch};
use pyapm_model::snapshot::Snapshot;
use pyapm_tui::{Palette, SnapshotSource, ViewOptions};
use std::io::Write as _;
use std::sync::Arc;

/// Shows the view until the user leaves, or writes the list of applications.
///
/// # Errors
/// When the service cannot be reached, or does not watch what was asked for.
pub fn top(options: &TopOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result =
        runtime.block_on(async { if options.list { list(options).await } else { view(options).await } });
    // A view thread that waits for a key must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn view(options: &TopOptions) -> anyhow::Result<()> {
    let number = options.application.as_ref().and_then(|text| text.parse().ok());
    let name = options.application.clone().filter(|_| number.is_none());
    let watch = Watch { application: number, name, pid: options.pid };
    let mut connection = Connection::open(&options.socket, &Request::Watch(watch)).await?;
    // What cannot be shown is said before the terminal is taken.
    let first = snapshot(&mut connection).await?.ok_or(ConnectionError::Closed)?;
    let palette = if options.color { Palette::Sixteen } else { Palette::None };
    let source = Remote { first: Some(first), connection };
    let _log = crate::telemetry::hold_log();
    let shutdown = async {
        if let Ok(mut stop) = super::stop::Stop::listen() {
            stop.told().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    pyapm_tui::run(source, ViewOptions { palette, leave_when_source_ends: false }, shutdown).await?;
    Ok(())
}

/// Snapshots as the service sends them.
struct Remote {
    first: Option<Arc<Snapshot>>,
    connection: Connection,
}

impl SnapshotSource for Remote {
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        // Whatever went wrong, it is the end; the view marks its figures as such.
        snapshot(&mut self.connection).await.ok().flatten()
    }
}

async fn snapshot(connection: &mut Connection) -> Result<Option<Arc<Snapshot>>, ConnectionError> {
    while let Some(response) = connection.next().await? {
        if let Response::Snapshot(state) = response {
            return Ok(Some(Arc::new(state.snapshot.clone())));
        }
    }
    Ok(None)
}

async fn list(options: &TopOptions) -> anyhow::Result<()> {
    let mut connection = Connection::open(&options.socket, &Request::Applications).await?;
    let Some(Response::Applications { applications }) = connection.next().await? else {
        return Err(ConnectionError::Closed.into());
    };
    std::io::stdout().lock().write_all(table(&applications).as_bytes())?;
    Ok(())
}

fn table(applications: &[ApplicationInfo]) -> String {
    let mut text = format!(
        "{:>6} {:>8} {:>9}  {:8} {:16} {:10} NAME\n",
        "NUMBER", "PID", "PROCESSES", "STATE", "SERVER", "PYTHON"
    );
    for one in applications {
        let state = match one.state {
            ApplicationState::Running => "running",
            ApplicationState::Ended => "ended",
        };
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        text.push_str(&format!(
            "{:>6} {:>8} {:>9}  {state:8} {:16} {:10} {}\n",
            one.id,
            one.pid,
            one.processes,
            known(&one.server),
            known(&one.python),
            pyapm_tui::format::clean(&one.name),
        ));
    }
    text
}
