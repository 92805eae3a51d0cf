//! JSON lines: one [`Line`] a line, in the order in which they are handed in. The names are the model's.
//!
//! Lines are gathered in a buffer: at full speed a write per transaction costs more than the transaction's
//! own bookkeeping. The owner calls [`JsonLines::flush`] after each batch (at the latest every 100 ms), so a
//! reader at the other end of a pipe sees each line that soon.

use pyapm_model::line::Line;
use std::io::{self, ErrorKind, Write};

/// Lines gathered before they are written without waiting for the flush.
const BUFFER_BYTES: usize = 64 * 1024;

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "after `Closed` nobody reads: the caller ends, successfully"]
pub enum Reading {
    Open,
    /// The reader closed its end (`| head`). Not an error: it has what it wanted, and the process exits 0.
    /// What is written after that is dropped.
    Closed,
}

/// Writes lines to `W`. Dropping it writes nothing: the owner flushes.
#[derive(Debug)]
pub struct JsonLines<W: Write> {
    out: W,
    buffer: Vec<u8>,
    closed: bool,
}

impl<W: Write> JsonLines<W> {
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::with_capacity(BUFFER_BYTES), closed: false }
    }

    /// Adds one line; writes the buffer out when it is full.
    ///
    /// # Errors
    /// When `W` refuses the bytes for another reason than a closed pipe: a full disk, for one. The lines
    /// in the buffer are lost then.
    pub fn write(&mut self, line: &Line) -> io::Result<Reading> {
        if self.closed {
            return Ok(Reading::Closed);
        }
        let start = self.buffer.len();
        if let Err(error) = serde_json::to_writer(&mut self.buffer, line) {
            // Half a line would spoil the stream for every reader.
            self.buffer.truncate(start);
            return Err(error.into());
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_BYTES { self.write_out() } else { Ok(Reading::Open) }
    }

    /// Hands everything to the reader.
    ///
    /// # Errors
    /// As [`JsonLines::write`].
    pub fn flush(&mut self) -> io::Result<Reading> {
        match self.write_out()? {
            Reading::Closed => Ok(Reading::Closed),
            Reading::Open => {
                let flushed = self.out.flush();
                self.outcome(flushed)
            }
        }
    }

    fn write_out(&mut self) -> io::Result<Reading> {
        if self.closed {
            return Ok(Reading::Closed);
        }
        let written = self.out.write_all(&self.buffer);
        // Also after an error: how much of it was written is not known, and repeating it would double lines.
        self.buffer.clear();
        self.outcome(written)
    }

    fn outcome(&mut self, result: io::Result<()>) -> io::Result<Reading> {
        match result {
            Ok(()) => Ok(Reading::Open),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                self.buffer = Vec::new();
                Ok(Reading::Closed)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::line::{
        Attached, Error, Frame, Outcome, SampleState, Samples, Span, SpanKind, Summary, Transaction,
        TransactionKind, Worker, WorkerEvent,
    };
    use std::cell::RefCell;
    use std::rc::Rc;

    fn frame() -> Frame {
        Frame { function: "user_detail".into(), file: "/srv/shop/views.py".into(), line: Some(12) }
    }

    fn span() -> Span {
        Span {
            kind: SpanKind::Db,
            name: "SELECT users".into(),
            db_system: Some("mysql".into()),
            db_query: Some("SELECT ... WHERE id = ?".into()),
            error_type: None,
            start_ns: 0,
            duration_ns: 0,
            span_id: "16 hex".into(),
            parent_span_id: "16 hex".into(),
            stack: vec![frame()].into(),
            server_address: None,
            server_port: None,
            reply_seen: true,
            ..Span::default()
        }
    }

    fn transaction() -> Transaction {
        Transaction {
            application: "shop".to_owned(),
            kind: TransactionKind::Http,
            name: "GET /users/{id}".to_owned(),
            method: Some("GET".to_owned()),
            path: Some("/users/7".to_owned()),
            route: Some("/users/{id}".to_owned()),
            status: Some(200),
            start_ns: 0,
            duration_ns: 0,
            pid: 4243,
            tid: 4243,
            trace_id: "32 hex".to_owned(),
            span_id: "16 hex".to_owned(),
            parent_span_id: None,
            trace_source: None,
            trace_sampled: None,
            trace_state: None,
            spans: vec![span()],
            error: Some(Error {
                kind: "ZeroDivisionError".to_owned(),
                message: Some("division by zero".to_owned()),
                handled: Some(false),
                stack: Vec::new().into(),
                module: Some("builtins".to_owned()),
                chain: Vec::new(),
                cut: false,
                tid: 4243,
            }),
            samples: vec![Samples { count: 3, state: SampleState::Cpu, stack: Vec::new().into() }],
            outcome: Outcome::Complete,
            request_bytes: Some(1),
            response_bytes: Some(2),
            handler: None,
            client_address: None,
            queue_ns: None,
            accept_queue_ns: None,
            waits: None,
            warnings: Vec::new(),
            task: None,
        }
    }

    /// Only the contract's own part is compared as text, names, order and all: what was appended follows it.
    fn starts_as(line: &Line, contract: &str, appended: &str) {
        let mut lines = JsonLines::new(Vec::new());
        assert_eq!(lines.write(line).unwrap(), Reading::Open);
        assert_eq!(lines.flush().unwrap(), Reading::Open);
        assert_eq!(String::from_utf8(lines.out).unwrap(), format!("{contract}{appended}\n"));
    }

    #[test]
    fn lines_are_the_contract_to_the_letter() {
        starts_as(
            &Line::Attached(Attached {
                application: "shop".to_owned(),
                pids: vec![4242, 4243],
                python: Some("3.11.7".to_owned()),
                agents: Vec::new(),
            }),
            r#"{"type":"attached","application":"shop","pids":[4242,4243],"python":"3.11.7"}"#,
            "",
        );
        starts_as(
            &Line::Transaction(Box::new(transaction())),
            concat!(
                r#"{"type":"transaction","application":"shop","kind":"http","name":"GET /users/{id}","#,
                r#""http.request.method":"GET","url.path":"/users/7","http.route":"/users/{id}","#,
                r#""http.response.status_code":200,"start_ns":0,"duration_ns":0,"pid":4243,"tid":4243,"#,
                r#""trace_id":"32 hex","span_id":"16 hex","parent_span_id":null,"#,
                r#""spans":[{"kind":"db","name":"SELECT users","db.system.name":"mysql","#,
                r#""db.query.text":"SELECT ... WHERE id = ?","error.type":null,"#,
                r#""start_ns":0,"duration_ns":0,"span_id":"16 hex","parent_span_id":"16 hex","#,
                r#""stack":[{"function":"user_detail","file":"/srv/shop/views.py","line":12}],"#,
                r#""server.address":null,"server.port":null,"reply_seen":true}],"#,
                r#""error":{"type":"ZeroDivisionError","message":"division by zero","handled":false,"stack":[],"#,
                r#""module":"builtins","chain":[],"cut":false,"tid":4243},"#,
                r#""samples":[{"count":3,"state":"cpu","stack":[]}]"#,
            ),
            r#","outcome":"complete","request_bytes":1,"response_bytes":2,"client.address":null,"waits":null,"handler":null,"queue_ns":null,"accept_queue_ns":null,"trace_source":null,"trace_sampled":null}"#,
        );
        starts_as(
            &Line::Worker(Worker { event: WorkerEvent::Started, pid: 4250 }),
            r#"{"type":"worker","event":"started","pid":4250}"#,
            "",
        );
        starts_as(
            &Line::Summary(Summary { dropped: [("ring_full".to_owned(), 0)].into(), ..Summary::default() }),
            r#"{"type":"summary","seen":0,"delivered":0,"dropped":{"ring_full":0}"#,
            r#","transactions":0,"incomplete":{}}"#,
        );
    }

    #[test]
    fn the_unknown_is_null_and_its_name_stays() {
        let unknown = Transaction {
            method: None,
            path: None,
            route: None,
            status: None,
            error: None,
            spans: Vec::new(),
            samples: Vec::new(),
            ..transaction()
        };
        let value = serde_json::to_value(Line::Transaction(Box::new(unknown))).unwrap();
        for name in [
            "http.request.method",
            "url.path",
            "http.route",
            "http.response.status_code",
            "parent_span_id",
            "trace_source",
            "trace_sampled",
            "error",
            "client.address",
            "waits",
            "queue_ns",
            "accept_queue_ns",
        ] {
            assert!(value.get(name).is_some_and(serde_json::Value::is_null), "{name}");
        }
    }

    #[test]
    fn a_line_never_spans_two() {
        let mut lines = JsonLines::new(Vec::new());
        let hostile = Transaction { path: Some("/a\nb\u{2028}\x1b[2J\"".to_owned()), ..transaction() };
        let line = Line::Transaction(Box::new(hostile));
        let _ = lines.write(&line).unwrap();
        let _ = lines.flush().unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }

    /// Counts the writes that reach it and fails on demand.
    #[derive(Default)]
    struct Ends {
        written: Vec<u8>,
        writes: usize,
        failure: Option<ErrorKind>,
    }

    #[derive(Clone, Default)]
    struct Pipe(Rc<RefCell<Ends>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut pipe = self.0.borrow_mut();
            if let Some(kind) = pipe.failure {
                return Err(kind.into());
            }
            pipe.written.extend_from_slice(bytes);
            pipe.writes += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn worker(pid: u32) -> Line {
        Line::Worker(Worker { event: WorkerEvent::Exited, pid })
    }

    #[test]
    fn lines_wait_for_the_flush_or_for_a_full_buffer() {
        let pipe = Pipe::default();
        let mut lines = JsonLines::new(pipe.clone());
        let _ = lines.write(&worker(1)).unwrap();
        assert_eq!(pipe.0.borrow().writes, 0);
        let _ = lines.flush().unwrap();
        assert_eq!(pipe.0.borrow().writes, 1);
        for pid in 0..5_000 {
            let _ = lines.write(&worker(pid)).unwrap();
        }
        assert!(pipe.0.borrow().writes > 1, "a full buffer does not wait");
        assert!(lines.buffer.len() < BUFFER_BYTES);
        let _ = lines.flush().unwrap();
        assert_eq!(pipe.0.borrow().written.iter().filter(|&&byte| byte == b'\n').count(), 5_001);
    }

    #[test]
    fn a_closed_pipe_is_an_outcome_and_stays_one() {
        let pipe = Pipe::default();
        pipe.0.borrow_mut().failure = Some(ErrorKind::BrokenPipe);
        let mut lines = JsonLines::new(pipe.clone());
        assert_eq!(lines.write(&worker(1)).unwrap(), Reading::Open);
        assert_eq!(lines.flush().unwrap(), Reading::Closed);
        pipe.0.borrow_mut().failure = None;
        assert_eq!(lines.write(&worker(2)).unwrap(), Reading::Closed);
        assert_eq!(lines.flush().unwrap(), Reading::Closed);
        assert_eq!(pipe.0.borrow().writes, 0);
    }

    #[test]
    fn another_failure_is_an_error() {
        let pipe = Pipe::default();
        pipe.0.borrow_mut().failure = Some(ErrorKind::StorageFull);
        let mut lines = JsonLines::new(pipe);
        let _ = lines.write(&worker(1)).unwrap();
        assert_eq!(lines.flush().unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
