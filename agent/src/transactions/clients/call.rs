//! What a client protocol's bytes come to: calls that begin, are answered and end. Plain data, no times: each
//! part of a stream has one, and whoever feeds it knows it.

pub use crate::transactions::http::Part;
use pyapm_model::line::SpanKind;
use std::sync::Arc;

/// One connection's conversation in one protocol, as its client holds it. Both methods take any bytes
/// whatever, in any cut, and keep a bounded amount.
pub trait Client: std::fmt::Debug + Send {
    /// Bytes that the process sent.
    fn sent(&mut self, part: Part<'_>, calls: &mut Calls);
    /// Bytes that came back.
    fn received(&mut self, part: Part<'_>, calls: &mut Calls);
    /// Most bytes that are of use of each call: inbound, outbound.
    fn wants(&self) -> (u32, u32);
    /// Whether the rest of the connection cannot be read: encrypted, compressed, or not the protocol that it
    /// looked like.
    fn is_opaque(&self) -> bool;
}

/// What one part of a stream led to, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub list: Vec<Call>,
    /// Times that the place in a stream was lost, and calls were left without their result.
    pub lost: u64,
    /// Things that were not kept because there were too many: calls in flight, prepared statements.
    pub overflow: u64,
}

/// `tag` 0 means the oldest call in flight that has tag 0: most protocols answer in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call is on the wire.
    Began { tag: u64, operation: Operation },
    /// The first byte of its answer has come.
    Answered { tag: u64 },
    /// It is over.
    Ended { tag: u64, result: CallResult },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub kind: SpanKind,
    /// OpenTelemetry's `db.system.name` or `messaging.system`; `http` for HTTP.
    pub system: &'static str,
    pub purpose: Purpose,
    /// Low-cardinality; empty when the statement says it all.
    pub name: String,
    /// What is sent to be run, values included: to be normalised and forgotten at once.
    pub statement: Option<Statement>,
    /// Host, queue, topic, collection: what the call goes to, when the protocol says.
    pub destination: Option<String>,
    /// Of one message or batch, as far as it is known when the call begins.
    pub request_bytes: u64,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Work.
    Run,
    /// Only makes a later call possible: a statement is prepared.
    Prepare,
}

/// A statement's text, as much as was captured of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    pub text: Arc<[u8]>,
    /// Bytes of the whole.
    pub length: u32,
}

impl Statement {
    #[must_use]
    pub fn new(text: &[u8], length: u64) -> Self {
        Self { text: text.into(), length: u32::try_from(length).unwrap_or(u32::MAX) }
    }
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {} bytes", self.text.escape_ascii(), self.length)
    }
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallResult {
    pub verdict: Verdict,
    /// Rows, documents or elements that came back.
    pub rows: Option<u64>,
    /// Rows that were changed.
    pub affected: Option<u64>,
    /// HTTP's status code.
    pub status: Option<u16>,
    pub response_bytes: Option<u64>,
    /// It was over at the latest bytes received before this was noticed, not now.
    pub earlier: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The answer could not be read.
    #[default]
    Unknown,
    Ok,
    /// The server refused; its own code: SQLSTATE, number, error word. Never a message, which may hold values.
    Error(String),
    /// The server skipped it because a call before it had failed.
    Skipped,
}

impl Calls {
    pub fn began(&mut self, tag: u64, operation: Operation) {
        self.list.push(Call::Began { tag, operation });
    }

    pub fn answered(&mut self, tag: u64) {
        self.list.push(Call::Answered { tag });
    }

    pub fn ended(&mut self, tag: u64, result: CallResult) {
        self.list.push(Call::Ended { tag, result });
    }

    /// Over, and nobody saw how.
    pub fn abandoned(&mut self, tag: u64) {
        self.ended(tag, CallResult { earlier: true, ..CallResult::default() });
    }
}

impl CallResult {
    #[must_use]
    pub fn ok() -> Self {
        Self { verdict: Verdict::Ok, ..Self::default() }
    }

    #[must_use]
    pub fn error(code: impl Into<String>) -> Self {
        Self { verdict: Verdict::Error(code.into()), ..Self::default() }
    }
}
