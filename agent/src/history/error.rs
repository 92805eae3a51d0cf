//! What can be wrong with a history.

use super::schema;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("there is no history at `{path}`")]
    Missing { path: PathBuf },
    #[error("`{path}` is no history of pyapm")]
    Foreign { path: PathBuf },
    #[error("the history `{path}` has form {found}, this pyapm knows forms up to {}", schema::FORM)]
    Newer { path: PathBuf, found: i64 },
    #[error("the history `{path}` has the older form {found}")]
    Older { path: PathBuf, found: i64 },
    #[error("cannot make the history `{path}`")]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open the history `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("cannot start the thread that writes the history")]
    Thread(#[source] std::io::Error),
    #[error("the thread that writes the history has died")]
    Died,
    #[error("cannot read the history")]
    Read(#[from] rusqlite::Error),
    #[error("the history has nothing yet")]
    Empty,
    #[error("the history has nothing between these times; it reaches from {since_ns} to {until_ns}")]
    Window {
        /// Wall clock, of what it has.
        since_ns: u64,
        until_ns: u64,
    },
    #[error("the history knows no application `{name}`; it knows {}", known(applications))]
    Application { name: String, applications: Vec<String> },
    #[error("nothing was recorded of `{name}` between these times")]
    Idle { name: String },
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join("`, `")) }
}

impl HistoryError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } | Self::Empty => Some(
                "`pyapm run` writes it, unless `history.enabled` is false; --history names another file"
                    .to_owned(),
            ),
            Self::Older { .. } => Some("start the service once: `pyapm run` brings it up to date".to_owned()),
            Self::Newer { .. } => Some(
                "read it with the pyapm that wrote it, or name another file as `history.file`".to_owned(),
            ),
            Self::Foreign { .. } => Some(
                "it is left as it is; name another file as `history.file`, or move this one away".to_owned(),
            ),
            _ => None,
        }
    }
}
