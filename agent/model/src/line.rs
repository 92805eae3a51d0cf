//! JSON lines: one object a line, tagged by `type`. Names are append-only. Times are integers in
//! nanoseconds; starts are wall clock (Unix epoch). What is unknown is `null`, never invented.

pub use crate::error::Error;
use crate::error::ErrorGroup;
use crate::stack::Stack;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// One line of `pyapm attach --format json`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    Attached(Attached),
    Transaction(Box<Transaction>),
    Worker(Worker),
    /// Before the summary, one for each group.
    Errors(Box<ErrorGroup>),
    Summary(Summary),
    /// Inside the service only, for its history.
    Stacks(Box<Stacks>),
}

/// The first line, written once every probe is on.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Attached {
    pub application: String,
    pub pids: Vec<u32>,
    /// Version of the interpreter (`3.11.7`); `None` when it could not be told.
    pub python: Option<String>,
    /// Other vendors' agents that run inside it, as far as they were there at the attach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
}

/// One unit of inbound work, finished.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Transaction {
    pub application: String,
    pub kind: TransactionKind,
    /// Low-cardinality: method and route (`GET /users/{id}`).
    pub name: String,
    #[serde(rename = "http.request.method")]
    pub method: Option<String>,
    /// Path without the query string.
    #[serde(rename = "url.path")]
    pub path: Option<String>,
    /// The framework's own route; `None` when it is not known (the name then comes from the path).
    #[serde(rename = "http.route")]
    pub route: Option<String>,
    /// `None` when no response was sent (see `outcome`).
    #[serde(rename = "http.response.status_code")]
    pub status: Option<u16>,
    pub start_ns: u64,
    pub duration_ns: u64,
    pub pid: u32,
    pub tid: u32,
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: Option<String>,
    pub spans: Vec<Span>,
    pub error: Option<Error>,
    pub samples: Vec<Samples>,
    pub outcome: Outcome,
    /// Bytes of the request as received, head and body; `None` of a task whose message was not seen.
    pub request_bytes: Option<u64>,
    /// Bytes of the response as sent, head and body; as above.
    pub response_bytes: Option<u64>,
    #[serde(rename = "client.address")]
    pub client_address: Option<String>,
    /// Where `duration_ns` went; `None` when waits are not followed.
    #[serde(default)]
    pub waits: Option<Waits>,
    /// The function behind the route, at its definition; `None` when it is not known.
    #[serde(default)]
    pub handler: Option<Frame>,
    /// How long it had waited, by what a server in front wrote down (`X-Request-Start`), before its first byte was read;
    /// not part of `duration_ns`. `None` when nothing was written, or nothing plausible.
    #[serde(default)]
    pub queue_ns: Option<u64>,
    /// How long the first bytes of its connection had been here before its worker read them: while the connection waited
    /// to be accepted, and after. Known of the first request on a connection over TCP, to the kernel's tick (1 to 10 ms);
    /// not part of `duration_ns`.
    #[serde(default)]
    pub accept_queue_ns: Option<u64>,
    /// What looks like trouble in its calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// What told the trace and its parent; `None` for a trace that begins here.
    #[serde(default)]
    pub trace_source: Option<TraceSource>,
    /// Whether the caller records the trace; `None` when it did not say.
    #[serde(default)]
    pub trace_sampled: Option<bool>,
    /// The caller's `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    /// Of tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// Where the time of a transaction went, in nanoseconds. The parts add up to its duration.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Waits {
    /// Its thread was on a CPU.
    pub on_cpu_ns: u64,
    /// Waiting for the global interpreter lock.
    pub gil_ns: u64,
    /// Waiting for any other lock.
    pub lock_ns: u64,
    /// Waiting for a socket while a database call was open.
    pub database_ns: u64,
    /// Waiting for a socket otherwise: an HTTP call, a cache, the client.
    pub network_ns: u64,
    pub disk_ns: u64,
    /// Sleeping for a time that it chose.
    pub sleep_ns: u64,
    /// Ready to go on, and waiting for a CPU.
    pub runnable_ns: u64,
    /// Waiting for a pipe, a child, a page of memory, or something without a name.
    pub other_ns: u64,
    /// What it was cannot be told: its thread served others at the same time, or changed.
    pub unknown_ns: u64,
    /// Of an event loop: the loop worked for somebody else, so the request could not go on, whatever it waited for.
    #[serde(default)]
    pub loop_busy_ns: u64,
    /// Of an event loop that was idle while the request had no call open: it awaited a timer (`asyncio.sleep`), another
    /// task, a thread of a pool, or its client.
    #[serde(default)]
    pub awaiting_ns: u64,
}

impl Waits {
    /// Every part.
    pub fn parts_mut(&mut self) -> [&mut u64; 12] {
        let Self {
            on_cpu_ns,
            gil_ns,
            lock_ns,
            database_ns,
            network_ns,
            disk_ns,
            sleep_ns,
            runnable_ns,
            other_ns,
            unknown_ns,
            loop_busy_ns,
            awaiting_ns,
        } = self;
        [
            on_cpu_ns,
            gil_ns,
            lock_ns,
            database_ns,
            network_ns,
            disk_ns,
            sleep_ns,
            runnable_ns,
            other_ns,
            unknown_ns,
            loop_busy_ns,
            awaiting_ns,
        ]
    }

    /// Sum of the parts.
    #[must_use]
    pub fn total_ns(mut self) -> u64 {
        self.parts_mut().into_iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

/// Something in a transaction's calls that is worth a look.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Warning {
    pub kind: WarningKind,
    /// Name of the calls: `SELECT users`.
    pub name: String,
    #[serde(rename = "db.system.name")]
    pub db_system: Option<String>,
    #[serde(rename = "db.query.text")]
    pub db_query: Option<String>,
    /// How many calls it is about.
    pub count: u64,
    /// Sum of their durations; how long the connection was held, where that is what it is about.
    pub duration_ns: u64,
    /// Where they are made; `None` when that is not known.
    pub call_site: Option<Frame>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// The same statement, but for its values, from the same line, again and again.
    RepeatedCalls,
    /// A call that took long.
    SlowCall,
    /// A connection to a database or cache was made for this request.
    ConnectionOpened,
    /// A connection to a database was checked out long before the first statement was asked on it.
    HeldConnection,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum TransactionKind {
    #[default]
    Http,
    Task,
    Point,
}

/// How it is known which trace a transaction is part of. A header counts for more than the connection.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum TraceSource {
    /// W3C Trace Context.
    Traceparent,
    ElasticApmTraceparent,
    /// Zipkin's `b3`, or its `X-B3-*`.
    B3,
    /// No header: it is the work of a message, and whoever sent that is watched, too.
    Message,
    /// No header: the caller is watched, too, and this is the other end of its call.
    Connection,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The response was sent to its last byte.
    #[default]
    Complete,
    /// The client went away, or the connection broke, before the response was whole.
    Aborted,
    /// The worker ended before the response was whole.
    WorkerExited,
    /// Events were lost on the way: some of this transaction is a guess.
    Incomplete,
}

/// One outgoing call inside a transaction. What is short, or the same in many calls, takes no memory of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Span {
    pub kind: SpanKind,
    /// Low-cardinality: operation and object (`SELECT users`).
    pub name: SmolStr,
    #[serde(rename = "db.system.name")]
    pub db_system: Option<SmolStr>,
    /// Literals replaced by `?`.
    #[serde(rename = "db.query.text")]
    pub db_query: Option<SmolStr>,
    /// The database's error number, as text; `None` when the call succeeded.
    #[serde(rename = "error.type")]
    pub error_type: Option<String>,
    pub start_ns: u64,
    pub duration_ns: u64,
    pub span_id: SmolStr,
    pub parent_span_id: SmolStr,
    /// The Python call site: innermost frame first.
    pub stack: Stack,
    #[serde(rename = "server.address")]
    pub server_address: Option<SmolStr>,
    #[serde(rename = "server.port")]
    pub server_port: Option<u16>,
    /// Whether the reply was seen; `None` in `error.type` means success only if this is true.
    pub reply_seen: bool,
    /// Of HTTP calls.
    #[serde(rename = "http.request.method", default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Of HTTP calls: path without the query string.
    #[serde(rename = "url.path", default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of HTTP calls.
    #[serde(rename = "http.response.status_code", default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Of HTTP calls: the host that the client names, without its port.
    #[serde(rename = "url.domain", default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of HTTP calls: bytes of the bodies as they went over the connection, framing of chunks included. `None` when
    /// they were not followed to the end.
    #[serde(rename = "http.request.body.size", default, skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    #[serde(rename = "http.response.body.size", default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    #[serde(rename = "messaging.system", default, skip_serializing_if = "Option::is_none")]
    pub messaging_system: Option<String>,
    #[serde(rename = "messaging.destination.name", default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(rename = "db.response.returned_rows", default, skip_serializing_if = "Option::is_none")]
    pub returned_rows: Option<u64>,
    /// Where `error.type` is the server's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// Rows that the statement changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected_rows: Option<u64>,
    /// From the start to the first byte of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ns: Option<u64>,
    /// To look up the addresses of the host, for the connection that was made for this call; `None` when there was no such
    /// lookup, or it is not known. It is the first part of an HTTP call's duration; other calls begin after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_ns: Option<u64>,
    /// To make that connection, until the process noticed that it was there; `None` when none was made for this call,
    /// or it is not known. As `dns_ns`, of which it is no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_ns: Option<u64>,
    /// Of the first statement on a connection: how long before it the connection was checked out, by what could be seen of
    /// that: it was made, pinged, or a database transaction begun. `None` when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout_ns: Option<u64>,
    /// Of a message: a task's transaction carries the same.
    #[serde(rename = "messaging.message.id", default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Of a message.
    #[serde(rename = "messaging.message.body.size", default, skip_serializing_if = "Option::is_none")]
    pub message_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    #[default]
    Db,
    Cache,
    Http,
    Messaging,
    Point,
}

/// One Python frame.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// Qualified from Python 3.11 on; `?` when it could not be read.
    /// All frames of a code object share one text.
    pub function: SmolStr,
    pub file: SmolStr,
    /// `None` when the interpreter has no line for this instruction.
    pub line: Option<u32>,
}

/// Stack samples that fell into a transaction, equal stacks counted together.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Samples {
    pub count: u64,
    pub state: SampleState,
    /// Innermost frame first.
    pub stack: Stack,
}

/// All on-CPU samples of an application since the last such line, a second ago or so.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Stacks {
    /// Wall clock.
    pub taken_ns: u64,
    /// Equal stacks counted together.
    pub samples: Vec<Samples>,
    /// Samples whose stacks were too many to be told.
    pub left_out: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum SampleState {
    Cpu,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Worker {
    pub event: WorkerEvent,
    pub pid: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum WorkerEvent {
    Started,
    Exited,
}

/// The last line, also after Ctrl-C and SIGTERM. `seen = delivered + sum(dropped)`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Summary {
    /// Records that the kernel half had to send.
    pub seen: u64,
    /// Records that arrived and were decoded.
    pub delivered: u64,
    /// Records that did not arrive or could not be used, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Finished transactions written.
    pub transactions: u64,
    /// What delivered records lacked, and what could not be placed, by reason. Not part of the sum.
    pub incomplete: BTreeMap<String, u64>,
}
