//! Messages of one direction, one after the other, each a header of fixed size that says how long the rest is.
//! Knows where messages begin and end, keeps the first bytes of those that matter, and finds its place again
//! after a gap. What a message means is its protocol's business.

use crate::transactions::http::Part;

/// Longest header of any protocol here (memcached's binary one).
const LONGEST_HEADER: usize = 24;
/// Bytes at the end of a part in which a place to go on from is looked for.
const SEARCHED: usize = 1024;
/// Messages that a place to go on from must be followed by at most, before it is believed.
const CHAINED: usize = 64;

/// What a header says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes after the header.
    pub length: u64,
    /// How many of them are of use, from their start.
    pub keep: usize,
}

/// One message that has passed whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: &'a [u8],
    /// The first bytes after the header, as many as were asked for and captured.
    pub payload: &'a [u8],
    /// Bytes after the header.
    pub length: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Header,
    Payload,
    /// Somewhere: nothing is followed until a message's start is found.
    Lost,
}

#[derive(Debug, Default)]
pub struct Frames {
    at: At,
    header: [u8; LONGEST_HEADER],
    /// Bytes of the header that are there.
    filled: usize,
    kept: Vec<u8>,
    keep: usize,
    length: u64,
    rest: u64,
}

impl Frames {
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// The next byte begins a message.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.at == At::Header && self.filled == 0
    }

    /// Bytes ahead whose values do not matter: the rest of a message of which all that is kept is there.
    #[must_use]
    pub fn indifferent(&self) -> u64 {
        if self.at == At::Payload && self.kept.len() >= self.keep { self.rest } else { 0 }
    }

    /// The next byte begins a message, whatever was before.
    pub fn restart(&mut self) {
        self.at = At::Header;
        self.filled = 0;
    }

    pub fn lose(&mut self) {
        self.at = At::Lost;
    }

    /// The next message that ends within `bytes`, which are moved on behind it. `size` is that of the header,
    /// and `shape` reads one, or refuses what cannot be one: then the place is lost.
    pub fn next(
        &mut self,
        bytes: &mut &[u8],
        size: usize,
        shape: impl Fn(&[u8]) -> Option<Shape>,
    ) -> Option<Frame<'_>> {
        let size = size.min(LONGEST_HEADER);
        if self.at == At::Header {
            let (now, later) = bytes.split_at(bytes.len().min(size.saturating_sub(self.filled)));
            if let Some(room) = self.header.get_mut(self.filled..self.filled + now.len()) {
                room.copy_from_slice(now);
            }
            self.filled += now.len();
            *bytes = later;
            if self.filled < size {
                return None;
            }
            let Some(shape) = shape(&self.header[..size]) else {
                self.at = At::Lost;
                return None;
            };
            self.at = At::Payload;
            self.kept.clear();
            (self.length, self.rest, self.keep) = (shape.length, shape.length, shape.keep);
        }
        if self.at == At::Lost {
            *bytes = &[];
            return None;
        }
        let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX)));
        let wanted = self.keep.saturating_sub(self.kept.len()).min(now.len());
        self.kept.extend_from_slice(&now[..wanted]);
        self.rest -= now.len() as u64;
        *bytes = later;
        self.finished(size)
    }

    /// Steps over bytes that nobody has: the message that ends in or behind them, if one does. When there
    /// are more than it had, the place is lost.
    pub fn skip(&mut self, count: u64, size: usize) -> Option<Frame<'_>> {
        if count == 0 || self.at == At::Lost {
            return None;
        }
        if self.at == At::Header {
            self.at = At::Lost;
            return None;
        }
        // What comes behind the hole is not what stood before it.
        self.keep = self.kept.len();
        let missing = count.min(self.rest);
        self.rest -= missing;
        let ended = self.finished(size).is_some();
        if count > missing {
            self.at = At::Lost;
        }
        ended.then(|| self.frame(size))
    }

    fn finished(&mut self, size: usize) -> Option<Frame<'_>> {
        if self.rest > 0 {
            return None;
        }
        self.at = At::Header;
        self.filled = 0;
        Some(self.frame(size))
    }

    fn frame(&self, size: usize) -> Frame<'_> {
        Frame { header: &self.header[..size.min(LONGEST_HEADER)], payload: &self.kept, length: self.length }
    }

    /// Looks for the start of a message from which messages follow each other up to the very end of `part`,
    /// the last of which satisfies `last`. When there is one, `part` begins there and is followed again.
    pub fn recover(
        &mut self,
        part: &mut &[u8],
        size: usize,
        shape: impl Fn(&[u8]) -> Option<Shape>,
        last: impl Fn(&[u8]) -> bool,
    ) -> bool {
        if self.at != At::Lost {
            return true;
        }
        let bytes = &part[part.len().saturating_sub(SEARCHED)..];
        let found = (0..bytes.len()).find(|start| {
            let mut at = *start;
            for _ in 0..CHAINED {
                let Some(header) = bytes.get(at..at + size) else { return false };
                let Some(length) = shape(header).and_then(|shape| usize::try_from(shape.length).ok()) else {
                    return false;
                };
                let end = at.saturating_add(size).saturating_add(length);
                if end == bytes.len() {
                    return last(&bytes[at..]);
                }
                at = end;
            }
            false
        });
        if let Some(found) = found {
            *part = &bytes[found..];
            self.restart();
        }
        found.is_some()
    }
}

/// Feeds a run of a stream to `frames`, each finished message to `each`.
pub fn follow(
    frames: &mut Frames,
    part: Part<'_>,
    size: usize,
    shape: impl Fn(&[u8]) -> Option<Shape>,
    mut each: impl FnMut(Frame<'_>),
) {
    match part {
        Part::Bytes(mut bytes) => {
            while let Some(frame) = frames.next(&mut bytes, size, &shape) {
                each(frame);
            }
        }
        Part::Absent(count) | Part::Lost(count) => {
            if let Some(frame) = frames.skip(count, size) {
                each(frame);
            }
        }
    }
}
