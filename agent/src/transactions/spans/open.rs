//! Spans that have not been given out: in one place, under numbers, because whom they belong to may be
//! known later than that they are there.

use crate::intake::{ConnectionId, Endpoint};
use crate::transactions::clients::{CallResult, Purpose};
use crate::transactions::connecting::Setup;
use crate::transactions::joining::CallKey;
use crate::transactions::name;
use crate::transactions::sql::Normalised;
use pyapm_model::line::SpanKind;
use pyapm_model::stack::Stack;
use smol_str::{SmolStr, format_smolstr};
use std::borrow::Cow;
use std::sync::Arc;

/// Number of an open span; never used again. They ascend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId {
    number: u64,
    /// Where it is kept.
    at: u32,
}

/// One request: its number on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    pub connection: ConnectionId,
    pub sequence: u64,
}

/// A call that the application made.
#[derive(Debug)]
pub struct OpenSpan {
    pub asking: Asking,
    pub started_ns: u64,
    pub stack: Option<Stack>,
    pub server: Option<Endpoint>,
    /// Which connection it went over, once that is known.
    pub connection: Option<ConnectionId>,
    /// Latest byte of the call or its answer; the start when there was none.
    pub last_io_ns: u64,
    /// First byte of the answer.
    pub first_answer_ns: Option<u64>,
    pub answer: Answer,
    /// Nothing more can come: it has been answered, another has begun in its place, or the connection has gone.
    pub closed: bool,
    /// When its connection was made, of which it is the first call.
    pub connected_ns: Option<u64>,
    /// How that came to be.
    pub setup: Option<Setup>,
    /// When its client had looked whether the connection is there, after the call before it.
    pub checked_ns: Option<u64>,
    /// Whose it is, once that is known.
    pub owner: Option<RequestId>,
    /// Where its other end may be met, of an HTTP call.
    pub call: Option<CallKey>,
    /// As outputs show it, where others have been told it before.
    pub span_id: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Asking {
    Statement {
        system: &'static str,
        statement: Arc<Normalised>,
        purpose: Purpose,
    },
    Command {
        kind: SpanKind,
        system: &'static str,
        name: Cow<'static, str>,
        target: Option<String>,
    },
    Http {
        method: Option<Cow<'static, str>>,
        path: Option<String>,
        host: Option<String>,
    },
    Message {
        system: &'static str,
        name: Cow<'static, str>,
        destination: Option<String>,
        id: Option<String>,
        bytes: Option<u64>,
    },
}

/// What is known of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// No byte of it has come.
    #[default]
    None,
    /// Bytes have come, but what they say is not known.
    Unread,
    Read(CallResult),
}

impl Asking {
    /// One line for people: the statement, the command and its target, the request.
    #[must_use]
    pub fn text(&self) -> SmolStr {
        match self {
            Self::Statement { statement, .. } => statement.text.clone(),
            Self::Command { name, target: Some(target), .. } => format_smolstr!("{name} {target}"),
            Self::Command { name, target: None, .. } => name.as_ref().into(),
            Self::Message { name, destination: Some(destination), .. } => {
                format_smolstr!("{name} {destination}")
            }
            Self::Message { name, destination: None, .. } => name.as_ref().into(),
            // As the OpenTelemetry conventions name what they know no method of.
            Self::Http { method, path, .. } => {
                let method = method.as_deref().unwrap_or("HTTP");
                match path {
                    Some(path) => format_smolstr!("{method} {}", name::of_path(path)),
                    None => method.into(),
                }
            }
        }
    }
}

impl OpenSpan {
    #[must_use]
    pub fn new(asking: Asking, started_ns: u64) -> Self {
        Self {
            asking,
            started_ns,
            stack: None,
            server: None,
            connection: None,
            last_io_ns: started_ns,
            first_answer_ns: None,
            answer: Answer::None,
            closed: false,
            connected_ns: None,
            setup: None,
            checked_ns: None,
            owner: None,
            call: None,
            span_id: None,
        }
    }

    /// Some of the answer has come, and how it ends is not known yet.
    pub fn some_answer(&mut self, time_ns: u64) {
        self.first_answer_ns.get_or_insert(time_ns);
        self.last_io_ns = time_ns;
        if self.answer == Answer::None {
            self.answer = Answer::Unread;
        }
    }

    /// When the call began, and when it was over; without an end, if no answer has come. An HTTP call begins with the
    /// connection that is made for it; a database is asked only once it has let one in.
    #[must_use]
    pub fn open_between(&self) -> (u64, u64) {
        let setup = self.setup.filter(|_| matches!(self.asking, Asking::Http { .. }));
        let began_ns = setup.map_or(self.started_ns, |setup| setup.began_ns().min(self.started_ns));
        (began_ns, if self.is_waiting() { u64::MAX } else { self.last_io_ns })
    }

    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.closed && self.answer == Answer::None
    }
}

/// All open spans of an application. They are large, and come and go with every call: each stays in one place until it is
/// taken, and its place is used again, the latest first.
#[derive(Debug, Default)]
pub struct Spans {
    places: Vec<Place>,
    free: Vec<u32>,
    next: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    span: Option<OpenSpan>,
}

impl Spans {
    pub fn open(&mut self, span: OpenSpan) -> SpanId {
        self.next += 1;
        let number = self.next;
        let place = Place { number, span: Some(span) };
        if let Some(at) = self.free.pop()
            && let Some(free) = self.places.get_mut(at as usize)
        {
            *free = place;
            return SpanId { number, at };
        }
        // Beyond this number of places nothing is found again; memory ends long before.
        let at = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(place);
        SpanId { number, at }
    }

    #[must_use]
    pub fn get(&self, id: SpanId) -> Option<&OpenSpan> {
        self.places.get(id.at as usize).filter(|place| place.number == id.number)?.span.as_ref()
    }

    pub fn get_mut(&mut self, id: SpanId) -> Option<&mut OpenSpan> {
        self.places.get_mut(id.at as usize).filter(|place| place.number == id.number)?.span.as_mut()
    }

    /// Takes a span out, to be given out or forgotten. What still comes for it comes too late.
    pub fn take(&mut self, id: SpanId) -> Option<OpenSpan> {
        let place = self.places.get_mut(id.at as usize).filter(|place| place.number == id.number)?;
        let span = place.span.take()?;
        self.free.push(id.at);
        Some(span)
    }
}
