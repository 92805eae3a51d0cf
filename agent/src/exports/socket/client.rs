//! One client: a request, and the answer to it. All that it sends is hostile.

use super::view::view;
use crate::exports::Overviews;
use pyapm_model::service::{Overview, Request, Response, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Bytes of a request, at most.
pub(super) const MAX_REQUEST: usize = 4096;
/// How long a client has to say what it wants, and to take one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves it to the end; a client that misbehaves is left without a word in the log.
pub(super) async fn serve(mut stream: UnixStream, mut overviews: Overviews) {
    let Ok(Some(line)) = timeout(PATIENCE, read_line(&mut stream)).await else { return };
    // While anybody is there, overviews come each second, with what threads do; the last one may be older, and without.
    let _live = overviews.watched();
    let Some(overview) = overviews.fresh().await else { return };
    match serde_json::from_slice::<Request>(&line) {
        Ok(Request::Applications) => {
            let applications = overview.applications.iter().map(|state| (*state.info).clone()).collect();
            let _left = write(&mut stream, &Response::Applications { applications }).await;
        }
        Ok(Request::Health) => {
            let health = Box::new(overview.health.clone());
            let _left = write(&mut stream, &Response::Health(health)).await;
        }
        Ok(Request::Watch(wanted)) => {
            let chosen = choose(&overview, &wanted);
            match chosen {
                Ok(state) => watch(&mut stream, &mut overviews, state).await,
                Err(message) => {
                    let _left = write(&mut stream, &Response::Error { message }).await;
                }
            }
        }
        Ok(Request::View(wanted)) => view(&mut stream, &mut overviews, overview, &wanted).await,
        Err(error) => {
            let message = format!("not a request: {error}");
            let _left = write(&mut stream, &Response::Error { message }).await;
        }
    }
}

/// One line without its end; `None` when the client left before, or the line is too long.
async fn read_line(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        let read = buffer.get(..count)?;
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(read.get(..end)?);
            return (line.len() <= MAX_REQUEST).then_some(line);
        }
        line.extend_from_slice(read);
        if line.len() > MAX_REQUEST {
            return None;
        }
    }
}

/// The application that is meant, or what to tell the client.
pub(super) fn choose(
    overview: &Overview,
    wanted: &pyapm_model::service::Watch,
) -> Result<Arc<State>, String> {
    let fits = |state: &Arc<State>| {
        wanted.application.is_none_or(|id| state.info.id == id)
            && wanted.name.as_ref().is_none_or(|name| state.info.name == *name)
            && wanted.pid.is_none_or(|pid| {
                state.info.pid == pid || state.snapshot.workers.iter().any(|worker| worker.pid == pid)
            })
    };
    let fitting: Vec<&Arc<State>> = overview.applications.iter().filter(|state| fits(state)).collect();
    match &fitting[..] {
        [one] => Ok(Arc::clone(one)),
        [] if overview.applications.is_empty() => Err("no application is watched".to_owned()),
        [] => Err(format!("no such application; these are watched: {}", listed(&overview.applications))),
        several => {
            let several: Vec<Arc<State>> = several.iter().map(|state| Arc::clone(state)).collect();
            Err(format!("several applications; say which: {}", listed(&several)))
        }
    }
}

fn listed(states: &[Arc<State>]) -> String {
    /// More would be no help.
    const MOST: usize = 20;
    let names = states.iter().take(MOST);
    let names: Vec<String> = names
        .map(|state| format!("{} (number {}, pid {})", state.info.name, state.info.id, state.info.pid))
        .collect();
    names.join(", ")
}

async fn watch(stream: &mut UnixStream, overviews: &mut Overviews, first: Arc<State>) {
    let id = first.info.id;
    let mut next = Some(first);
    let mut buffer = [0; 512];
    loop {
        if let Some(state) = next.take()
            && write(stream, &Response::Snapshot(state)).await.is_err()
        {
            return;
        }
        tokio::select! {
            overview = overviews.next() => {
                let Some(overview) = overview else { return };
                next = overview.applications.iter().find(|state| state.info.id == id).cloned();
                if next.is_none() {
                    // It has ended, and been forgotten.
                    return;
                }
            }
            // It has nothing more to say: this is its end, or nonsense.
            _ = stream.read(&mut buffer) => return,
        }
    }
}

/// An error: the client has left, or does not take what it asked for.
pub(super) async fn write(stream: &mut UnixStream, response: &Response) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    timeout(PATIENCE, stream.write_all(&line)).await?
}
