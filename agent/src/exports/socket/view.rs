//! A client that looks at it as it happens: each second how all applications fare, and of one of them everything; whole
//! transactions when it asks for one. It is sent only points that it has not had.

use super::client::{MAX_REQUEST, choose, write};
use crate::exports::Overviews;
use pyapm_model::service::{Ask, Figures, Overview, Response, State, Watch};
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// Points that are sent at once, at most; of more, the latest.
const MOST_POINTS: usize = 8_000;

/// Where one client stands.
struct Session<'a> {
    stream: &'a mut UnixStream,
    overview: Arc<Overview>,
    chosen: Option<u32>,
    /// Number of the last point that was sent.
    sent: u64,
    /// Of a line that has not come to its end.
    heard: Vec<u8>,
}

/// The client has left, does not take what it asked for, or talks nonsense.
struct Over;

/// Serves it to the end.
pub(super) async fn view(
    stream: &mut UnixStream,
    overviews: &mut Overviews,
    overview: Arc<Overview>,
    wanted: &Watch,
) {
    let chosen = match choose(&overview, wanted) {
        Ok(state) => Some(state.info.id),
        // It has not said which: it will, when it has seen which there are.
        Err(_) if *wanted == Watch::default() => None,
        Err(message) => {
            let _left = write(stream, &Response::Error { message }).await;
            return;
        }
    };
    let mut session = Session { stream, overview, chosen, sent: 0, heard: Vec::new() };
    let mut buffer = [0; 512];
    if session.tell().await.is_err() {
        return;
    }
    loop {
        let told = tokio::select! {
            overview = overviews.next() => {
                let Some(overview) = overview else { return };
                session.overview = overview;
                session.tell().await
            }
            count = session.stream.read(&mut buffer) => match count {
                Ok(count) if count > 0 => session.hear(buffer.get(..count).unwrap_or_default()).await,
                _ => return,
            },
        };
        if told.is_err() {
            return;
        }
    }
}

impl Session<'_> {
    fn state(&self, application: u32) -> Option<&Arc<State>> {
        self.overview.applications.iter().find(|state| state.info.id == application)
    }

    async fn say(&mut self, response: &Response) -> Result<(), Over> {
        write(self.stream, response).await.map_err(|_left| Over)
    }

    /// Everything that is due each second.
    async fn tell(&mut self) -> Result<(), Over> {
        let all = self.overview.applications.iter();
        let applications = all.map(|state| Figures::of(&state.info, &state.snapshot)).collect();
        self.say(&Response::Figures { applications }).await?;
        let Some(application) = self.chosen else { return Ok(()) };
        // One that has been forgotten is no longer among the figures, by which the client knows.
        let Some(state) = self.state(application).cloned() else { return Ok(()) };
        let points = state.snapshot.recent.since(self.sent, MOST_POINTS);
        self.say(&Response::Snapshot(state)).await?;
        if let Some(last) = points.points.last() {
            self.sent = last.number;
        }
        self.say(&Response::Points { application, points }).await
    }

    async fn hear(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.heard.extend_from_slice(bytes);
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            match serde_json::from_slice::<Ask>(&line) {
                Ok(ask) => self.answer(&ask).await?,
                Err(error) => {
                    self.say(&Response::Error { message: format!("not a question: {error}") }).await?;
                    return Err(Over);
                }
            }
        }
        if self.heard.len() > MAX_REQUEST { Err(Over) } else { Ok(()) }
    }

    async fn answer(&mut self, ask: &Ask) -> Result<(), Over> {
        match *ask {
            Ask::Choose { application } => {
                self.chosen = Some(application);
                self.sent = 0;
                self.tell().await
            }
            Ask::Transaction { application, number } => {
                let state = self.state(application);
                let transaction = state.and_then(|state| state.snapshot.recent.whole(number)).cloned();
                self.say(&Response::Transaction { application, number, transaction }).await
            }
        }
    }
}
