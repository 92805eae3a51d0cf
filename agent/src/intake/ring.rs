//! Drains the ring buffer. One reader; each record is decoded where it lies and handed on before its space
//! is given back.

use super::decode::decode;
use super::event::{Body, Event};
use super::parts::Parts;
use aya::maps::{MapData, RingBuf};
use std::os::fd::{AsFd, BorrowedFd};

/// What the reader itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Records that arrived and were decoded.
    pub decoded: u64,
    /// Records that arrived and made no sense.
    pub undecodable: u64,
    /// Of all of them, without the ring's own headers.
    pub bytes: u64,
}

pub struct Reader {
    ring: RingBuf<MapData>,
    delivered: Delivered,
    parts: Parts,
}

impl Reader {
    #[must_use]
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, delivered: Delivered::default(), parts: Parts::default() }
    }

    /// Hands on what is there, at most `limit` records; the number of records taken.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(&Event<'_>)) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(record) = self.ring.next() else { break };
            taken += 1;
            self.delivered.bytes += record.len() as u64;
            match decode(&record) {
                Ok(event) => {
                    self.delivered.decoded += 1;
                    match &event.body {
                        Body::StackPart(part) => {
                            if let Some(body) = self.parts.add(event.tid, part) {
                                take(&Event { body, ..event });
                            }
                        }
                        _ => take(&event),
                    }
                }
                Err(error) => {
                    self.delivered.undecodable += 1;
                    tracing::debug!(%error, "undecodable record");
                }
            }
        }
        taken
    }

    #[must_use]
    pub fn delivered(&self) -> Delivered {
        self.delivered
    }
}

/// Readable when the kernel half thinks that the reader should not wait for its timer.
impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
