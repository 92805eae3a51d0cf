//! A task of a queue, as its transaction tells of it.

use serde::{Deserialize, Serialize};

/// What a worker was handed, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Task {
    /// Whose task: `celery`.
    pub system: String,
    /// As the application calls it.
    pub name: String,
    /// Of its message. A task that is tried again keeps it.
    #[serde(rename = "messaging.message.id")]
    pub id: String,
    /// Routing key of the message; `None` when the message does not tell.
    #[serde(rename = "messaging.destination.name")]
    pub queue: Option<String>,
    /// How often it was tried before.
    pub retries: Option<u32>,
    /// `None` when the worker did not tell.
    pub state: Option<State>,
    /// Class of the exception that made it fail.
    #[serde(rename = "error.type")]
    pub error_type: Option<String>,
}

/// How a task ended, in the words of Celery.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Success,
    Failure,
    /// It asked to be tried again.
    Retry,
    Ignored,
    Rejected,
}
