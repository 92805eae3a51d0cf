//! What one thread is about: the connections whose requests it serves, and the statement it has asked for.

use super::spans::SpanId;
use super::tls::Trail;
use crate::intake::ConnectionId;

/// Thread of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadKey {
    pub pid: u32,
    pub tid: u32,
}

/// The latest statement that a thread asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub handle: u64,
    /// Of the raw text.
    pub key: u64,
    pub text_len: u32,
    /// `None` outside of transactions.
    pub span: Option<SpanId>,
    /// The connection that carries it, once it has been sent.
    pub connection: Option<ConnectionId>,
    /// The thread has moved bytes since.
    pub moved: bool,
}

#[derive(Debug, Default)]
pub struct Thread {
    /// Connections with open exchanges that this thread read or answered last. A thread that serves one
    /// request at a time never has two; one with several cannot tell which of them its statement is for.
    pub serving: Vec<ConnectionId>,
    pub asked: Option<Asked>,
    /// The call that it made last, whoever turns out to have made it.
    pub calling: Option<SpanId>,
    /// What it moved last, as far as that may tell which connection carries a TLS session.
    pub trail: Trail,
}

impl Thread {
    /// The connection whose request this thread works on, when there is no doubt.
    #[must_use]
    pub fn current(&self) -> Option<ConnectionId> {
        match self.serving.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// Nothing is lost with it but the end of a statement outside of any transaction.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.serving.is_empty()
    }
}
