//! The client's end, for `pyapm top`.

use pyapm_model::service::{Ask, Request, Response};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Bytes of one answer, at most: a snapshot is bounded by the service far below.
const MAX_RESPONSE: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("cannot reach the service at `{path}`")]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the service went away")]
    Io(#[from] std::io::Error),
    #[error("the service gave an answer that this version does not know")]
    Response(#[from] serde_json::Error),
    #[error("the service ended the connection without an answer: it has too many clients, or stops")]
    Closed,
    #[error("the service says: {0}")]
    Refused(String),
}

/// One request under way.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    /// What is asked and has not been sent.
    asked: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// When nobody listens there.
    pub async fn open(path: &Path, request: &Request) -> Result<Self, ConnectionError> {
        let failed = |source| ConnectionError::Connect { path: path.to_owned(), source };
        let mut stream = UnixStream::connect(path).await.map_err(failed)?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        Ok(Self { stream: BufReader::new(stream), line: Vec::new(), asked: Vec::new() })
    }

    /// Asks within a [`Request::View`]; sent with the next call of [`Self::next`].
    ///
    /// # Errors
    /// Never for what is asked by this version.
    pub fn ask(&mut self, ask: &Ask) -> Result<(), ConnectionError> {
        serde_json::to_writer(&mut self.asked, ask)?;
        self.asked.push(b'\n');
        Ok(())
    }

    /// The next answer; `None` after the last. Cancel safe.
    ///
    /// # Errors
    /// When the answer makes no sense, or says that the request could not be met.
    pub async fn next(&mut self) -> Result<Option<Response>, ConnectionError> {
        while !self.asked.is_empty() {
            let sent = self.stream.get_mut().write(&self.asked).await?;
            self.asked.drain(..sent);
        }
        // What a cancelled call had read is in the line already.
        let room = MAX_RESPONSE.saturating_sub(self.line.len() as u64);
        (&mut self.stream).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return Ok(None);
        }
        let response = serde_json::from_slice(&self.line);
        self.line.clear();
        match response? {
            Response::Error { message } => Err(ConnectionError::Refused(message)),
            response => Ok(Some(response)),
        }
    }
}
