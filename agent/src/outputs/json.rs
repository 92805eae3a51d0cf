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
