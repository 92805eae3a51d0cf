//! Frames (RFC 9113 sections 4 and 6): what a header says, which bytes of a frame are of use, and whether bytes are
//! frames at all. What frames mean for a stream is told elsewhere.

use crate::transactions::clients::frames::{Frame, Shape};

/// Length, kind, flags, stream (RFC 9113 section 4.1).
pub(super) const HEADER: usize = 9;
/// What a client says first (section 3.4); its own frames follow.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame of any kind but data; few programs raise the limit of 16 KiB that holds at first.
const LARGEST: u64 = 1 << 20;
/// Bytes of one frame's part of a header block that are kept.
pub(super) const KEPT_BLOCK: usize = 64 * 1024;
/// Frames of one run that are looked at to tell whether it is made of frames.
const CHAINED: usize = 64;

pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
    /// The last one that is registered (RFC 9218); unknown ones must be passed over, but nobody sends any.
    pub(in super::super) const LAST: u8 = 0x10;
}

pub(super) mod flag {
    /// Of `DATA` and `HEADERS`.
    pub(in super::super) const END_STREAM: u8 = 1;
    /// Of `SETTINGS` and `PING`.
    pub(in super::super) const ACK: u8 = 1;
    pub(in super::super) const END_HEADERS: u8 = 4;
    pub(in super::super) const PADDED: u8 = 8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub length: u64,
    pub kind: u8,
    pub flags: u8,
    /// 0 for what concerns the connection.
    pub stream: u32,
}

impl Head {
    /// `None` for what no sender may send.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s0, s1, s2, s3, ..] = *bytes else { return None };
        let length = u64::from(u32::from_be_bytes([0, a, b, c]));
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let head = Self { length, kind, flags, stream };
        // The first bit is reserved, and not set by senders (section 4.1).
        (stream >> 31 == 0 && head.is_sound()).then_some(head)
    }

    /// As the definition of its kind has it (section 6).
    fn is_sound(self) -> bool {
        let of_stream = self.stream != 0;
        match self.kind {
            kind::DATA => of_stream,
            kind::HEADERS | kind::CONTINUATION => of_stream && self.length <= LARGEST,
            kind::PUSH_PROMISE => of_stream && (4..=LARGEST).contains(&self.length),
            kind::PRIORITY => of_stream && self.length == 5,
            kind::RST_STREAM => of_stream && self.length == 4,
            kind::SETTINGS => {
                let empty = self.flags & flag::ACK == 0 || self.length == 0;
                !of_stream && self.length.is_multiple_of(6) && self.length <= LARGEST && empty
            }
            kind::PING => !of_stream && self.length == 8,
            kind::GOAWAY => !of_stream && (8..=LARGEST).contains(&self.length),
            kind::WINDOW_UPDATE => self.length == 4,
            other => other <= kind::LAST && self.length <= LARGEST,
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// For [`crate::transactions::clients::frames::follow`].
pub(super) fn shape(header: &[u8]) -> Option<Shape> {
    let head = Head::parse(header)?;
    let keep = match head.kind {
        // How much of it is padding.
        kind::DATA => usize::from(head.has(flag::PADDED)),
        kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => KEPT_BLOCK,
        kind::RST_STREAM | kind::GOAWAY => 8,
        _ => 0,
    };
    Some(Shape { length: head.length, keep })
}

/// The part of a header block that a frame carries; `None` when it is not all there.
pub(super) fn fragment<'a>(head: Head, frame: &Frame<'a>) -> Option<&'a [u8]> {
    let mut bytes = frame.payload;
    if bytes.len() as u64 != frame.length {
        return None;
    }
    if head.kind != kind::CONTINUATION && head.has(flag::PADDED) {
        let (padding, rest) = bytes.split_first()?;
        bytes = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    match head.kind {
        kind::HEADERS if head.has(flag::PRIORITY) => bytes.get(5..),
        // The stream that is promised.
        kind::PUSH_PROMISE => bytes.get(4..),
        _ => Some(bytes),
    }
}

/// Bytes of a body in a frame of data; `None` when how much of it is padding was not seen.
pub(super) fn data(head: Head, frame: &Frame<'_>) -> Option<u64> {
    if !head.has(flag::PADDED) {
        return Some(frame.length);
    }
    let padding = frame.payload.first().copied()?;
    frame.length.checked_sub(1 + u64::from(padding))
}

/// Two numbers of four bytes, as `GOAWAY` has them, or the first.
pub(super) fn numbers(payload: &[u8]) -> (Option<u32>, Option<u32>) {
    let number = |at: usize| {
        let bytes = payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    (number(0), number(4))
}

/// Name of an error code (section 7).
pub(super) fn error(code: Option<u32>) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let named = code.and_then(|code| NAMES.get(usize::try_from(code).ok()?));
    named.copied().unwrap_or("RST_STREAM")
}

/// Whether these `head` bytes, the first of `moved`, are frames one after the other that end exactly with them, as far
/// as they are there.
pub(super) fn chain(head: &[u8], moved: u64) -> bool {
    let mut at = 0;
    for _ in 0..CHAINED {
        let seen = usize::try_from(at).ok().and_then(|at| head.get(at..)).unwrap_or_default();
        if seen.len() < HEADER {
            // The rest was not captured.
            return at > 0 && (moved > head.len() as u64) && at + (HEADER as u64) <= moved;
        }
        let Some(parsed) = Head::parse(seen) else { return false };
        at += HEADER as u64 + parsed.length;
        if at == moved {
            return true;
        }
        if at > moved {
            return false;
        }
    }
    true
}

/// The first bytes that a client sends on a connection.
pub(in super::super) fn begins(head: &[u8]) -> bool {
    head.len() >= 18 && head.starts_with(&PREFACE[..head.len().min(PREFACE.len())])
}

/// What a client sends in the middle of a connection: a request that begins a stream, and whatever goes out with it.
pub(in super::super) fn continues(head: &[u8], moved: u64) -> bool {
    let Some(parsed) = Head::parse(head) else { return false };
    let allowed = flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
    if parsed.kind != kind::HEADERS || parsed.stream.is_multiple_of(2) || parsed.flags & !allowed != 0 {
        return false;
    }
    let skipped = usize::from(parsed.has(flag::PADDED)) + if parsed.has(flag::PRIORITY) { 5 } else { 0 };
    // Fields whose names begin with a colon stand first (section 8.3): they are in the static table or in the
    // dynamic one, as whole fields or as names of literals. Words of other protocols stand nowhere here.
    let is_field = |byte: u8| matches!(byte, 0x81..=0x87 | 0xbe..=0xff | 0x41..=0x47 | 0x7e..=0x7f | 1..=7 | 0x11..=0x17);
    head.get(HEADER + skipped).copied().is_some_and(is_field) && chain(head, moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_first() {
        assert!(begins(PREFACE));
        assert!(begins(&PREFACE[..18]));
        assert!(begins(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()));
        assert!(!begins(&PREFACE[..10]));
        assert!(!begins(b"PRI * HTTP/1.0\r\n\r\nSM\r\n\r\n"));
    }

    #[test]
    fn requests_in_the_middle() {
        // `HEADERS` of stream 5 with `:method: GET` and an entry of the dynamic table, then an update of the window.
        let request = [0, 0, 2, 1, 5, 0, 0, 0, 5, 0x82, 0xbe];
        let both = [&request[..], &[0, 0, 4, 8, 0, 0, 0, 0, 5, 0, 0, 1, 0]].concat();
        assert!(continues(&request, 11));
        assert!(continues(&both, 24));
        assert!(!continues(&both, 25));
        assert!(!continues(&both[..23], 23));
        // Captured in part.
        assert!(continues(&both[..14], 24));
        for (place, byte) in [(3, 0), (8, 4), (4, 0xc5), (9, b' '), (5, 0x80)] {
            let mut other = request;
            other[place] = byte;
            assert!(!continues(&other, 11), "{other:?}");
        }
        // MySQL, Kafka and MongoDB say their lengths at other places.
        for other in [&b"\x21\0\0\0\x03SELECT 1"[..], b"\0\0\0\x14\0\x03\0\x07\0\0\0\x01", b"\x3a\0\0\0"] {
            assert!(!continues(other, other.len() as u64));
        }
    }

    #[test]
    fn frames_that_nobody_may_send() {
        for header in [
            [0, 0, 1, kind::DATA, 0, 0, 0, 0, 0],
            [0, 0, 3, kind::RST_STREAM, 0, 0, 0, 0, 1],
            [0, 0, 6, kind::SETTINGS, 0, 0, 0, 0, 1],
            [0, 0, 6, kind::SETTINGS, flag::ACK, 0, 0, 0, 0],
            [0, 0, 7, kind::PING, 0, 0, 0, 0, 0],
            [0, 0, 0, 0x11, 0, 0, 0, 0, 0],
            [0xff, 0, 0, kind::HEADERS, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(Head::parse(&header), None, "{header:?}");
        }
        assert_eq!(Head::parse(&[0; 8]), None);
    }

    #[test]
    fn padding_and_priority_are_no_fields() {
        let parsed = |flags, length| Head { length, kind: kind::HEADERS, flags, stream: 1 };
        let frame = |payload| Frame { header: &[], payload, length: 9 };
        let payload: &[u8] = &[2, 0, 0, 0, 0, 9, 0x82, 0, 0];
        assert_eq!(fragment(parsed(flag::PADDED | flag::PRIORITY, 9), &frame(payload)), Some(&[0x82][..]));
        assert_eq!(fragment(parsed(0, 9), &frame(payload)), Some(payload));
        assert_eq!(fragment(parsed(0, 9), &frame(&payload[..8])), None);
        assert_eq!(fragment(parsed(flag::PADDED, 9), &frame(&[9, 0, 0, 0, 0, 0, 0, 0, 0])), None);
        let padded = Head { kind: kind::DATA, ..parsed(flag::PADDED, 9) };
        assert_eq!(data(padded, &frame(&payload[..1])), Some(6));
        assert_eq!(data(padded, &frame(&[])), None);
        assert_eq!(data(padded, &frame(&[9])), None);
    }
}
