//! The loop: lines in, one line of JSON out for each that is worth it.

use super::file::{File, Rotation};
use crate::config::Log;
use crate::exports::{Published, Subscriber};
use crate::outputs::log_line::log_line;
use crate::store::is_error;
use anyhow::Context;
use pyapm_model::line::Line;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;

/// Writes until the service ends.
///
/// # Errors
/// When the file cannot be opened at the start; later it is tried again with each line.
pub async fn run(settings: &Log, subscriber: Subscriber) -> anyhow::Result<()> {
    let Some(name) = settings.file.clone() else { return Ok(()) };
    let output = match name.as_str() {
        "-" => Output::Stdout,
        path => {
            let rotation = Rotation {
                bytes: settings.rotate_bytes,
                age: Duration::from_secs_f64(settings.rotate_hours * 3_600.0),
                keep: settings.keep_files,
            };
            let file = File::open(PathBuf::from(path), rotation)
                .with_context(|| format!("cannot write `{path}`"))?;
            Output::File(Box::new(file))
        }
    };
    let slow_ns = settings.slow_milliseconds.saturating_mul(1_000_000);
    // Disks can be slow: a thread of its own waits for this one. It ends with this future, whichever way that goes.
    let (alive, ended) = oneshot::channel::<()>();
    let handle = tokio::runtime::Handle::current();
    let writer =
        tokio::task::spawn_blocking(move || handle.block_on(write(output, slow_ns, subscriber, ended)));
    let result = writer.await.context("the writer of the log has ended");
    drop(alive);
    result
}

enum Output {
    Stdout,
    File(Box<File>),
}

impl Output {
    fn write(&mut self, text: &str) -> std::io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            }
            Self::File(file) => file.write(text.as_bytes()),
        }
    }
}

async fn write(
    mut output: Output,
    slow_ns: u64,
    mut subscriber: Subscriber,
    mut ended: oneshot::Receiver<()>,
) {
    let mut complained = false;
    loop {
        let published = tokio::select! {
            published = subscriber.next() => published,
            _ = &mut ended => return,
        };
        let Some(published) = published else { return };
        let Some(text) = wanted(&published, slow_ns) else { continue };
        match output.write(&text) {
            Ok(()) => {
                if std::mem::take(&mut complained) {
                    tracing::info!("the log of transactions is written again");
                }
            }
            Err(error) => {
                subscriber.dropped(1);
                if !std::mem::replace(&mut complained, true) {
                    tracing::error!("the log of transactions cannot be written: {error}");
                }
            }
        }
    }
}

fn wanted(published: &Published, slow_ns: u64) -> Option<String> {
    let Line::Transaction(transaction) = &published.line else { return None };
    let wanted = is_error(transaction) || transaction.error.is_some() || transaction.duration_ns >= slow_ns;
    wanted.then(|| log_line(&published.application.name, transaction).ok())?
}
