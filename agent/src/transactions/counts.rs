//! Everything that could not be placed, followed or kept, by name.

use std::collections::BTreeMap;

/// Counters since the start. Each field says what happened to how many things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions finished.
    pub transactions: u64,
    /// Connections whose first bytes are of no protocol that is known: not followed.
    pub not_http: u64,
    /// Messages whose end could not be told, because bytes were missing or made no sense.
    pub framing_lost: u64,
    /// Jumps in a stream's position: records were lost in between.
    pub gap: u64,
    /// Records that came after later ones of the same stream.
    pub late: u64,
    /// Responses without a request: its record was lost, or the connection was older than the attach.
    pub response_unmatched: u64,
    /// Output after a whole response, or before any request: a body where none may be.
    pub stray_output: u64,
    /// Connections that ended inside a request's head: no transaction had begun.
    pub head_unfinished: u64,
    /// Requests that a process handed on to a worker (uWSGI's HTTP router): they are the worker's transactions.
    pub passed_on: u64,
    /// Statements outside any transaction, or on a thread that serves several at once.
    pub span_unplaced: u64,
    /// Calls whose request had been given out by the time it was told.
    pub span_late: u64,
    /// Calls and samples on an event loop's thread outside of every coroutine.
    pub unplaced_outside_coroutines: u64,
    /// Calls and samples of threads and greenlets that work in no request's context.
    pub unplaced_no_context: u64,
    /// Calls and samples of which no answer told in time whose they are.
    pub unplaced_never_answered: u64,
    /// Calls and samples of which too many waited to be told.
    pub unplaced_overflow: u64,
    /// Outgoing HTTP/2 calls, or answers to them, of which something was said by reference to what went by unseen.
    pub headers_undecoded: u64,
    /// Outgoing calls that shared their connection and their write with others: any of several requests may have made them.
    pub unplaced_shared_connection: u64,
    /// Statement events that were the same library call seen twice.
    pub statement_nested: u64,
    /// Calls of one connection, or statements prepared on it, beyond what is followed at once.
    pub calls_overflow: u64,
    /// Statements beyond a transaction's bound.
    pub spans_overflow: u64,
    /// Samples outside any transaction, or on a thread that serves several at once.
    pub sample_unplaced: u64,
    /// Samples whose stack was one too many for their transaction.
    pub samples_overflow: u64,
    /// Requests that were not followed because too many were in flight.
    pub active_overflow: u64,
    /// Connections that were not followed because there were too many.
    pub connections_overflow: u64,
    /// Lookups and connections under way that were forgotten because there were too many: their calls lack these parts.
    pub connecting_overflow: u64,
    /// Events of threads that were not followed because there were too many.
    pub threads_overflow: u64,
    /// Transactions named `{other}` because there were too many names.
    pub names_overflow: u64,
    /// Exceptions outside any transaction, or where there was doubt.
    pub exception_unplaced: u64,
    /// Frames, causes and contexts of exceptions that had been given up, or were never told.
    pub exception_late: u64,
    /// Tasks of threads that were told of at their end alone.
    pub task_begin_unseen: u64,
    /// Tasks of threads whose end nobody told of, before the thread began with its next.
    pub task_end_unseen: u64,
    /// Statements that the SQL tokenizer refused; the plain scan took them.
    pub sql_scanned: u64,
}

impl Counts {
    /// By name, those that are zero left out.
    #[must_use]
    pub fn view(&self) -> BTreeMap<&'static str, u64> {
        [
            ("transactions", self.transactions),
            ("not_http", self.not_http),
            ("framing_lost", self.framing_lost),
            ("gap", self.gap),
            ("late", self.late),
            ("response_unmatched", self.response_unmatched),
            ("stray_output", self.stray_output),
            ("head_unfinished", self.head_unfinished),
            ("passed_on", self.passed_on),
            ("span_unplaced", self.span_unplaced),
            ("span_late", self.span_late),
            ("unplaced_outside_coroutines", self.unplaced_outside_coroutines),
            ("unplaced_no_context", self.unplaced_no_context),
            ("unplaced_never_answered", self.unplaced_never_answered),
            ("unplaced_overflow", self.unplaced_overflow),
            ("unplaced_shared_connection", self.unplaced_shared_connection),
            ("headers_undecoded", self.headers_undecoded),
            ("statement_nested", self.statement_nested),
            ("calls_overflow", self.calls_overflow),
            ("spans_overflow", self.spans_overflow),
            ("sample_unplaced", self.sample_unplaced),
            ("samples_overflow", self.samples_overflow),
            ("active_overflow", self.active_overflow),
            ("connections_overflow", self.connections_overflow),
            ("connecting_overflow", self.connecting_overflow),
            ("threads_overflow", self.threads_overflow),
            ("names_overflow", self.names_overflow),
            ("exception_unplaced", self.exception_unplaced),
            ("exception_late", self.exception_late),
            ("task_begin_unseen", self.task_begin_unseen),
            ("task_end_unseen", self.task_end_unseen),
            ("sql_scanned", self.sql_scanned),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }
}
