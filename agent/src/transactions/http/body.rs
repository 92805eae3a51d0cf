//! Where a message body ends. It counts bytes and reads chunk sizes; it never looks at content.

/// How the rest of a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunks),
    /// Everything until the connection closes.
    UntilClose,
}

/// Where in a chunked body the next byte is (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    Size {
        value: u64,
        digits: u8,
    },
    /// After the size, up to the end of its line.
    Extension {
        size: u64,
        length: u32,
    },
    Data(u64),
    /// The line end after the data.
    DataEnd,
    /// In a trailer line of so many bytes so far; `total` over all of them.
    Trailer {
        line: u32,
        total: u32,
    },
}

/// What a step over some bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Done,
    /// The bytes are not a chunked body.
    Broken,
    /// The end cannot be told: bytes that framing needs are absent.
    Unknown,
}

/// Bytes of chunk extensions or trailers that are followed.
const LONGEST_LINES: u32 = 64 * 1024;

impl Body {
    /// The start of a chunked body.
    #[must_use]
    pub fn chunked() -> Self {
        Self::Chunked(Chunks::Size { value: 0, digits: 0 })
    }

    /// Steps over bytes; returns how many belong to this body.
    pub fn bytes(&mut self, bytes: &[u8]) -> (usize, Progress) {
        match self {
            Self::Length(rest) => {
                let taken = usize::try_from(*rest).unwrap_or(usize::MAX).min(bytes.len());
                *rest -= taken as u64;
                (taken, if *rest == 0 { Progress::Done } else { Progress::More })
            }
            Self::Chunked(chunks) => chunks.bytes(bytes),
            Self::UntilClose => (bytes.len(), Progress::More),
        }
    }

    /// Steps over so many bytes that nobody has seen; returns how many belong to this body.
    pub fn absent(&mut self, count: u64) -> (u64, Progress) {
        match self {
            Self::Length(rest) => {
                let taken = count.min(*rest);
                *rest -= taken;
                (taken, if *rest == 0 { Progress::Done } else { Progress::More })
            }
            Self::Chunked(Chunks::Data(rest)) if count <= *rest => {
                *rest -= count;
                if *rest == 0 {
                    *self = Self::Chunked(Chunks::DataEnd);
                }
                (count, Progress::More)
            }
            Self::Chunked(_) => (count, Progress::Unknown),
            Self::UntilClose => (count, Progress::More),
        }
    }

    /// Bytes ahead whose values do not matter.
    #[must_use]
    pub fn indifferent(&self) -> u64 {
        match self {
            Self::Length(rest) | Self::Chunked(Chunks::Data(rest)) => *rest,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }
}

impl Chunks {
    fn bytes(&mut self, bytes: &[u8]) -> (usize, Progress) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if let Self::Data(rest) = self {
                let taken = usize::try_from(*rest).unwrap_or(usize::MAX).min(bytes.len() - at);
                *rest -= taken as u64;
                at += taken;
                if *rest == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            at += 1;
            match self.byte(byte) {
                Progress::More => {}
                ended => return (at, ended),
            }
        }
        (at, Progress::More)
    }

    /// One byte outside of chunk data. A bare line feed ends a line, as lenient servers take it.
    fn byte(&mut self, byte: u8) -> Progress {
        *self = match (*self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                if value >> 60 != 0 {
                    return Progress::Broken;
                }
                Self::Size { value: (value << 4) | digit, digits: digits.saturating_add(1) }
            }
            (Self::Size { digits: 0, .. }, _) => return Progress::Broken,
            (Self::Size { value, .. }, b'\n') => Self::after_size(value),
            (Self::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') => {
                Self::Extension { size: value, length: 0 }
            }
            (Self::Size { .. }, _) => return Progress::Broken,
            (Self::Extension { size, .. }, b'\n') => Self::after_size(size),
            (Self::Extension { length, .. }, _) if length >= LONGEST_LINES => return Progress::Broken,
            (Self::Extension { size, length }, _) => Self::Extension { size, length: length + 1 },
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::DataEnd, _) => return Progress::Broken,
            (Self::Trailer { line: 0, .. }, b'\n') => return Progress::Done,
            (Self::Trailer { total, .. }, _) if total >= LONGEST_LINES => return Progress::Broken,
            (Self::Trailer { total, .. }, b'\n') => Self::Trailer { line: 0, total: total + 1 },
            (Self::Trailer { line, total }, b'\r') => Self::Trailer { line, total: total + 1 },
            (Self::Trailer { line, total }, _) => Self::Trailer { line: line + 1, total: total + 1 },
            // Data is taken in whole runs by the caller.
            (Self::Data(rest), _) => Self::Data(rest),
        };
        Progress::More
    }

    fn after_size(size: u64) -> Self {
        if size == 0 { Self::Trailer { line: 0, total: 0 } } else { Self::Data(size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to cut a chunked body in two gives the same end.
    #[test]
    fn chunked_in_any_two_pieces() {
        let text = b"5;name=\"v\"\r\nhello\r\n1\nx\n0A\r\n0123456789\r\n000\r\nX-T: 1\r\nY: 2\r\n\r\nNEXT";
        let end = text.len() - 4;
        for cut in 0..=text.len() {
            let mut body = Body::chunked();
            let (first, progress) = body.bytes(&text[..cut]);
            if progress == Progress::Done {
                assert_eq!(first, end);
                continue;
            }
            assert_eq!((first, progress), (cut.min(end), Progress::More), "cut {cut}");
            assert_eq!(body.bytes(&text[cut..]), (end - cut, Progress::Done), "cut {cut}");
        }
    }

    #[test]
    fn absent_bytes_inside_a_chunk_are_harmless() {
        let mut body = Body::chunked();
        assert_eq!(body.bytes(b"64\r\nab"), (6, Progress::More));
        assert_eq!(body.indifferent(), 98);
        assert_eq!(body.absent(98), (98, Progress::More));
        assert_eq!(body.bytes(b"\r\n0\r\n\r\n"), (7, Progress::Done));
        let mut body = Body::chunked();
        body.bytes(b"64\r\nab");
        assert_eq!(body.absent(99), (99, Progress::Unknown));
    }

    #[test]
    fn garbage_is_broken_not_followed() {
        for bad in [&b"\r\n"[..], b"g", b"1\r\nab", b"11111111111111111\r\n", b"1x"] {
            let mut body = Body::chunked();
            assert_eq!(body.bytes(bad).1, Progress::Broken, "{}", String::from_utf8_lossy(bad));
        }
        let mut body = Body::chunked();
        let mut long = b"1;".to_vec();
        long.resize(70_000, b'x');
        assert_eq!(body.bytes(&long).1, Progress::Broken);
    }

    #[test]
    fn lengths() {
        let mut body = Body::Length(10);
        assert_eq!(body.bytes(b"abc"), (3, Progress::More));
        assert_eq!(body.absent(6), (6, Progress::More));
        assert_eq!(body.bytes(b"xyz"), (1, Progress::Done));
        let mut body = Body::UntilClose;
        assert_eq!(body.bytes(b"abc"), (3, Progress::More));
        assert_eq!(body.absent(6), (6, Progress::More));
    }
}
