//! What the messages look like: which there are, how long they may be, what is kept of each. Chapter 55.7.

use crate::transactions::clients::frames::Shape;
use pyapm_wire::event::STATEMENT_CAPTURE;

/// Type and length.
pub const HEADER: usize = 5;
/// Messages before the connection is set up have no type.
pub const OPENING_HEADER: usize = 4;
/// Bytes kept of a statement, and of the names before it.
const KEPT_TEXT: usize = STATEMENT_CAPTURE as usize + 64;
/// Bytes kept of messages that hold names: the server cuts names at 63 bytes, but not those of prepared
/// statements and portals.
const KEPT_NAMES: usize = 256;
/// Bytes kept of an error: the code comes before the text, which is not wanted.
const KEPT_ERROR: usize = 64;
/// Longest message: the server's `PQ_LARGE_MESSAGE_LIMIT` (`src/include/libpq/libpq.h`).
const LONGEST: u64 = 0x3fff_ffff;

/// What asks for encryption, answered by one byte, and what cancels.
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// Protocol versions 3.0 to 3.2.
const VERSIONS: std::ops::RangeInclusive<u32> = 0x0003_0000..=0x0003_0002;

/// A message from the client.
#[must_use]
pub fn request(header: &[u8]) -> Option<Shape> {
    let (kind, length) = typed(header)?;
    let keep = match kind {
        b'Q' | b'P' => KEPT_TEXT,
        b'B' | b'E' | b'C' => KEPT_NAMES,
        b'D' | b'F' | b'd' | b'f' | b'p' => 0,
        b'S' | b'H' | b'X' | b'c' if length == 0 => 0,
        _ => return None,
    };
    Some(Shape { length, keep })
}

/// A message from the server.
#[must_use]
pub fn reply(header: &[u8]) -> Option<Shape> {
    let (kind, length) = typed(header)?;
    let keep = match kind {
        b'C' if length > 1 => 64,
        b'E' if length > 1 => KEPT_ERROR,
        b'Z' if length == 1 => 1,
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' if length == 0 => 0,
        b'T' | b'D' | b't' | b'G' | b'H' | b'W' if length >= 2 => 0,
        b'K' if length >= 8 => 0,
        b'R' | b'S' | b'A' | b'N' | b'v' | b'V' if length >= 1 => 0,
        b'd' => 0,
        _ => return None,
    };
    Some(Shape { length, keep })
}

/// A message before the connection is set up: all of it is the code, or settings.
#[must_use]
pub fn opening(header: &[u8]) -> Option<Shape> {
    let length = u64::from(u32::from_be_bytes(header.try_into().ok()?)).checked_sub(4)?;
    (4..=10_000).contains(&length).then_some(Shape { length, keep: 4 })
}

/// The code of such a message, when it is one.
#[must_use]
pub fn opening_code(payload: &[u8]) -> Option<u32> {
    let code = u32::from_be_bytes(payload.get(..4)?.try_into().ok()?);
    (VERSIONS.contains(&code) || matches!(code, SSL_REQUEST | GSS_REQUEST | CANCEL_REQUEST)).then_some(code)
}

fn typed(header: &[u8]) -> Option<(u8, u64)> {
    let [kind, length @ ..] = header else { return None };
    let length = u64::from(u32::from_be_bytes(length.try_into().ok()?)).checked_sub(4)?;
    (length <= LONGEST).then_some((*kind, length))
}

/// A string that ends in a zero byte, and what follows it.
#[must_use]
pub fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Whether the first bytes that a client sends on a connection are PostgreSQL's.
#[must_use]
pub fn begins(head: &[u8], moved: u64) -> bool {
    let Some((header, payload)) = head.split_at_checked(OPENING_HEADER) else { return false };
    let length = opening(header).map(|shape| shape.length + OPENING_HEADER as u64);
    length == Some(moved) && opening_code(payload).is_some()
}

/// Whether a call of a client's, in the middle of a connection, is whole messages of PostgreSQL's that ask
/// for something. `head` are the first of the `moved` bytes.
#[must_use]
pub fn continues(head: &[u8], moved: u64) -> bool {
    let (mut at, mut asks) = (0usize, false);
    loop {
        if at as u64 == moved {
            return asks;
        }
        let Some(header) = head.get(at..).and_then(|rest| rest.get(..HEADER)) else {
            // What is not there cannot be wrong: the messages so far must do.
            return asks && (head.len() as u64) < moved;
        };
        let Some(shape) = request(header) else { return false };
        let payload = &head[at + HEADER..];
        match header[0] {
            // Its text ends where the message ends, or goes on beyond what is here.
            b'Q' => {
                let end = usize::try_from(shape.length).unwrap_or(usize::MAX).saturating_sub(1);
                let zero = payload.iter().position(|byte| *byte == 0);
                if zero.unwrap_or(end) != end {
                    return false;
                }
                asks = true;
            }
            b'P' | b'B' => {
                if string(payload).and_then(|(_, rest)| string(rest)).is_none() && payload.len() < 200 {
                    return false;
                }
                asks = true;
            }
            _ => {}
        }
        at = at.saturating_add(HEADER).saturating_add(usize::try_from(shape.length).unwrap_or(usize::MAX));
        if at as u64 > moved {
            return false;
        }
    }
}
