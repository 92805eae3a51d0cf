//! Whose a stream is that shares its connection with others. Streams are begun by frames, and a client writes out whatever
//! waits to be written: whoever gets to it writes others' frames with its own, or only others'. So the writer of a
//! stream's first frame need not be the one who asked for it (`docs/decisions/0030-http2-by-its-writers.md`).

use super::Caller;
use pyapm_model::line::Frame;
use pyapm_wire::scope::flag;

/// How long the owner of a stream that another has written out may come late to write himself, where threads of equal
/// standing share a connection. On an event loop it is his turn before any answer is read.
const LATE_NS: u64 = 1_000_000_000;

/// The streams of one connection whose first frame was perhaps not written by their owner.
#[derive(Debug, Default)]
pub struct Streams {
    /// Those that are still open.
    open: Vec<u64>,
    latest_ns: Option<u64>,
}

/// How a stream came to be written.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Streams that began with the same write.
    pub with_it: usize,
    /// Others of this connection were open before.
    pub others_open: bool,
}

impl Streams {
    /// Whether the writer is surely the one who asked for it.
    pub fn is_writers(&self, caller: &Caller, begun: Begun) -> bool {
        let is_late = self.latest_ns.is_some_and(|latest| {
            caller.scope.flags & flag::COROUTINE == 0 && caller.time_ns.saturating_sub(latest) < LATE_NS
        });
        let own = caller.stack.as_deref().and_then(sends_its_own).unwrap_or(!begun.others_open);
        own && begun.with_it == 1 && self.open.is_empty() && !is_late
    }

    /// Somebody else's frame has been written, perhaps.
    pub fn doubt(&mut self, tag: u64, time_ns: u64) {
        self.open.push(tag);
        self.latest_ns = Some(time_ns);
    }

    pub fn ended(&mut self, tag: u64) {
        self.open.retain(|open| *open != tag);
    }
}

/// Whether a client that is known (httpcore 1.0, `httpcore/_sync/http2.py` and `_async/http2.py`) is just about to send a
/// request of its own, and not to acknowledge what it has read, or to send the rest of a body; `None` for others.
fn sends_its_own(stack: &[Frame]) -> Option<bool> {
    let is = |frame: &Frame, name: &str| frame.function.rsplit('.').next() == Some(name);
    let writes = stack.iter().position(|frame| {
        frame.file.ends_with("/http2.py")
            && frame.file.contains("httpcore")
            && is(frame, "_write_outgoing_data")
    })?;
    stack.get(writes + 1).map(|frame| is(frame, "_send_request_headers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transactions::thread::ThreadKey;
    use pyapm_wire::scope::Scope;

    fn caller(time_ns: u64, functions: &[&str], flags: u32) -> Caller {
        let frame = |function: &&str| Frame {
            function: (*function).into(),
            file: "/venv/httpcore/_async/http2.py".into(),
            line: None,
        };
        Caller {
            time_ns,
            thread: ThreadKey { pid: 1, tid: 1 },
            scope: Scope { flags, ..Scope::default() },
            stack: Some(functions.iter().map(frame).collect()),
        }
    }

    const ALONE: Begun = Begun { with_it: 1, others_open: false };
    const ASKS: [&str; 2] = ["A._write_outgoing_data", "A._send_request_headers"];

    #[test]
    fn by_what_the_writer_is_about() {
        let streams = Streams::default();
        let is = |functions: &[&str], begun| streams.is_writers(&caller(1, functions, 0), begun);
        assert!(is(&ASKS, ALONE));
        assert!(is(&ASKS, Begun { others_open: true, ..ALONE }));
        assert!(!is(&ASKS, Begun { with_it: 2, ..ALONE }));
        assert!(!is(&["_write_outgoing_data", "_receive_events"], ALONE));
        // Another client's frames say nothing.
        assert!(is(&["send"], ALONE));
        assert!(!is(&["send"], Begun { others_open: true, ..ALONE }));
        let blind = Caller { stack: None, ..caller(1, &[], 0) };
        assert!(streams.is_writers(&blind, ALONE));
    }

    #[test]
    fn after_a_doubt_nobody_is_believed_until_it_is_over() {
        let mut streams = Streams::default();
        streams.doubt(3, 10);
        let at = |time_ns, flags| caller(time_ns, &ASKS, flags);
        assert!(!streams.is_writers(&at(20, flag::COROUTINE), ALONE));
        streams.ended(3);
        assert!(streams.is_writers(&at(20, flag::COROUTINE), ALONE));
        assert!(!streams.is_writers(&at(20, 0), ALONE));
        assert!(streams.is_writers(&at(20 + LATE_NS, 0), ALONE));
    }
}
