//! The trait behind which every client protocol stands, and the calls that it reports.

use crate::transactions::http::Part;
use pyapm_model::line::SpanKind;
use std::borrow::Cow;
use std::sync::Arc;

/// The client's side of one connection. Both streams come in runs of bytes, cut anywhere.
pub trait Protocol: std::fmt::Debug + Send {
    /// Bytes that the process sent. `first` says that they are the first of one system call, where a
    /// message may begin: a parser that has lost its place picks it up there.
    fn sent(&mut self, part: Part<'_>, first: bool, calls: &mut Calls);

    /// Bytes that it received, as [`Self::sent`].
    fn received(&mut self, part: Part<'_>, first: bool, calls: &mut Calls);

    /// What the other side is: `db.system.name` or `messaging.system` of the OpenTelemetry conventions; `http`.
    fn system(&self) -> &'static str;

    /// How much of the bytes to come is of use.
    fn wants(&self) -> Wants;

    /// The connection has ended: what is still open will not be answered.
    fn closed(&mut self, _calls: &mut Calls) {}

    /// Whether the connection was followed from its first byte on.
    fn saw_opening(&self) -> bool {
        false
    }

    /// The rest of the connection cannot be read: it is encrypted, or compressed.
    fn is_opaque(&self) -> bool {
        false
    }
}

/// How much of a connection's bytes the kernel should carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Most bytes of one call, received and sent.
    pub received: u32,
    pub sent: u32,
    /// So many bytes ahead are of no use, received and sent: a body whose length is known.
    pub indifferent_received: u64,
    pub indifferent_sent: u64,
    /// The Python stack of each outgoing call is the call site.
    pub stacks: bool,
}

/// One step of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call has gone out. `tag` 0 is answered in the order of the calls; any other by its tag.
    Began { tag: u64, operation: Operation },
    /// Some of its answer has come.
    Answering { tag: u64 },
    /// Its answer has begun, and how it goes is known so far; how long it is, is not.
    Accepted { tag: u64, result: CallResult },
    /// It has been answered to the end, or never will be.
    Ended { tag: u64, result: CallResult },
    /// No call: the client looks whether the connection is still there, before it uses it (a ping).
    Checked,
    /// No call: the parser has lost its place in the stream.
    Lost,
    /// No call: the next one that begins or is answered lacks what was said by reference to what went by unseen.
    Undecoded,
    /// No call: something was not kept because there was too much of it.
    Overflow,
}

/// What one run of bytes led to, in order. The caller empties it.
pub type Calls = Vec<Call>;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A statement of a query language; the text is normalised before it is kept.
    Statement {
        /// `db.system.name` of the OpenTelemetry conventions.
        system: &'static str,
        text: Arc<[u8]>,
        /// Bytes of the whole text; more than `text` has when it was cut.
        text_len: u32,
        purpose: Purpose,
    },
    /// Anything with a name and, maybe, a target.
    Command {
        kind: SpanKind,
        /// `db.system.name`, or `messaging.system`.
        system: &'static str,
        /// Low-cardinality: `GET`, `publish`.
        name: Cow<'static, str>,
        /// What goes with the name, values left out: a key's pattern, a collection.
        target: Option<String>,
    },
    Http {
        /// One that the OpenTelemetry conventions know, else `_OTHER`; `None` when it could not be read.
        method: Option<Cow<'static, str>>,
        path: Option<String>,
        /// Whom it is for, as the client says it, without the port.
        host: Option<String>,
        /// Where its first byte stands among all that were sent; `None` where others' bytes may stand between its own.
        position: Option<u64>,
    },
    /// Something for a queue or a topic, or from one.
    Message {
        /// `messaging.system`.
        system: &'static str,
        /// Low-cardinality: `publish`.
        name: Cow<'static, str>,
        /// Queue, topic, or exchange and routing key.
        destination: Option<String>,
        /// Of the message, where it has one by which its receiver can be found.
        id: Option<String>,
        /// Of its body.
        bytes: Option<u64>,
    },
}

/// What a statement is sent for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    #[default]
    Run,
    /// To be run later, any number of times.
    Prepare,
}

/// What became of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallResult {
    /// Number, SQLSTATE or class of the error, as the protocol tells it; `None` for success.
    pub error: Option<String>,
    /// SQLSTATE, where `error` is something else.
    pub sqlstate: Option<String>,
    /// Status code of an HTTP response.
    pub status: Option<u16>,
    /// Of an HTTP request's body and its response's, as they went over the connection, framing of chunks included; `None`
    /// when they were not followed to the end.
    pub request_bytes: Option<u64>,
    pub response_bytes: Option<u64>,
    /// Rows that came back.
    pub rows: Option<u64>,
    /// Rows that were changed.
    pub affected_rows: Option<u64>,
    /// The end was not seen: bytes were lost, or the connection ended first.
    pub unseen: bool,
    /// It was given up before any of an answer had come.
    pub unanswered: bool,
    /// It was over with the latest bytes received before this was noticed.
    pub earlier: bool,
}

impl CallResult {
    /// Nobody saw how it ended.
    #[must_use]
    pub fn unseen() -> Self {
        Self { unseen: true, ..Self::default() }
    }

    #[must_use]
    pub fn error(code: impl Into<String>) -> Self {
        Self { error: Some(code.into()), ..Self::default() }
    }
}

/// The oldest call without a tag is over.
#[must_use]
pub fn ended(result: CallResult) -> Call {
    Call::Ended { tag: 0, result }
}
