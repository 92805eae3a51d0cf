//! `pyapm top`: the live view of an application that the service watches, over the service's socket.

use crate::cli::TopOptions;
use crate::exports::socket::{Connection, ConnectionError};
use anyhow::Context;
use pyapm_model::service::{ApplicationInfo, ApplicationState, Ask, Request, Response, Watch};
use pyapm_tui::{Delivery, Palette, Source, ViewOptions};
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
    let mut connection = Connection::open(&options.socket, &Request::View(watch)).await?;
    // What cannot be shown is said before the terminal is taken.
    let first = delivery(&mut connection).await?.ok_or(ConnectionError::Closed)?;
    let palette = Palette::from_environment(options.color);
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

/// What the service sends.
struct Remote {
    first: Option<Delivery>,
    connection: Connection,
}

impl Source for Remote {
    async fn next(&mut self) -> Option<Delivery> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        // Whatever went wrong, it is the end; the view marks its figures as such.
        delivery(&mut self.connection).await.ok().flatten()
    }

    fn ask(&mut self, ask: Ask) {
        if let Err(error) = self.connection.ask(&ask) {
            tracing::error!("cannot ask the service: {error}");
        }
    }
}

async fn delivery(connection: &mut Connection) -> Result<Option<Delivery>, ConnectionError> {
    while let Some(response) = connection.next().await? {
        let delivery = match response {
            Response::Figures { applications } => Delivery::Applications(applications),
            Response::Snapshot(state) => {
                // Nobody else has it: it has just been read.
                let snapshot = Arc::unwrap_or_clone(state);
                Delivery::Snapshot { application: snapshot.info.id, snapshot: Arc::new(snapshot.snapshot) }
            }
            Response::Points { application, points } => Delivery::Points { application, points },
            Response::Transaction { application, number, transaction } => {
                Delivery::Transaction { application, number, transaction }
            }
            Response::Applications { .. } | Response::Health(_) | Response::Error { .. } => continue,
        };
        return Ok(Some(delivery));
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
