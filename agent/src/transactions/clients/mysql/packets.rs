//! Packets: three bytes of length, a sequence number that starts at 0 with each command, and the payload.

use crate::transactions::clients::frames::Shape;
use pyapm_wire::event::STATEMENT_CAPTURE;

pub const HEADER: usize = 4;
/// Payload at which a message goes on in the next packet.
pub const CONTINUED: u64 = 0x00ff_ffff;
/// Bytes kept of a command: a statement, with its kind and attributes in front.
const KEPT_COMMAND: usize = STATEMENT_CAPTURE as usize + 16;
/// Bytes kept of what a client sends otherwise: its capabilities, at the start of a connection.
const KEPT_OTHER: usize = 4;
/// Bytes kept of a reply's packet: numbers of rows and states, an error's number.
const KEPT_REPLY: usize = 32;

/// Commands (`include/my_command.h` of MySQL 8, `include/mysql_com.h` of MariaDB).
pub mod command {
    pub const QUIT: u8 = 0x01;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_FETCH: u8 = 0x1c;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
    /// Highest command number of MySQL 8 (`COM_CLONE`).
    pub const LAST: u8 = 0x20;
    /// MariaDB's.
    pub const STMT_BULK_EXECUTE: u8 = 0xfa;
}

#[must_use]
pub fn request(header: &[u8]) -> Option<Shape> {
    let (length, sequence) = parsed(header)?;
    Some(Shape { length, keep: if sequence == 0 { KEPT_COMMAND } else { KEPT_OTHER } })
}

#[must_use]
pub fn reply(header: &[u8]) -> Option<Shape> {
    let (length, _) = parsed(header)?;
    Some(Shape { length, keep: KEPT_REPLY })
}

fn parsed(header: &[u8]) -> Option<(u64, u8)> {
    let [l0, l1, l2, sequence] = header else { return None };
    Some((u64::from(u32::from_le_bytes([*l0, *l1, *l2, 0])), *sequence))
}

/// Whether a reply's packet is like one that ends an answer, header included: from it on a stream can be
/// followed again. A state that no server has, and a sequence number of 0, speak against it.
#[must_use]
pub fn ends_answer(packet: &[u8]) -> bool {
    match packet {
        [5, 0, 0, sequence, 0xfe, _, _, _, high] => *sequence > 1 && *high < 0x80,
        [7..=60, 0, 0, sequence, 0xfe, 0, 0, _, high, ..] => *sequence > 1 && *high < 0x80,
        _ => false,
    }
}

/// The server's greeting (protocol 10), alone in a call of the client's.
#[must_use]
pub fn begins(head: &[u8], moved: u64) -> bool {
    matches!(head, [l0, l1, l2, 0, 10, ..]
        if u64::from(u32::from_le_bytes([*l0, *l1, *l2, 0])) + HEADER as u64 == moved)
}

/// A client's command, alone in a call of its own.
#[must_use]
pub fn continues(head: &[u8], moved: u64) -> bool {
    let [l0, l1, l2, 0, first, ..] = head else { return false };
    let length = u64::from(u32::from_le_bytes([*l0, *l1, *l2, 0]));
    length + HEADER as u64 == moved
        && ((1..=command::LAST).contains(first) || *first == command::STMT_BULK_EXECUTE)
}

/// Whether an outbound call's first bytes are a command that carries a statement of this length. When they
/// are not, the bytes are something else's: TLS, compression.
#[must_use]
pub fn carries_statement(head: &[u8], text_len: u32) -> bool {
    let [l0, l1, l2, 0, command::QUERY, attributes @ ..] = head else { return false };
    let length = u64::from(u32::from_le_bytes([*l0, *l1, *l2, 0]));
    let attributes = if attributes.starts_with(&[0, 1]) { 2 } else { 0 };
    length == (u64::from(text_len) + 1 + attributes).min(CONTINUED)
}

/// An integer of one to nine bytes, and what follows; `None` for what is none.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let width = match first {
        0..=0xfa => return Some((u64::from(*first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    let value = digits.iter().rev().fold(0u64, |value, digit| (value << 8) | u64::from(*digit));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        assert!(continues(b"\x09\0\0\0\x03SELECT 1", 13));
        assert!(!continues(b"\x09\0\0\0\x03SELECT 1", 14));
        assert!(!continues(b"*1\r\n$4\r\nPING\r\n", 14));
        assert!(!continues(b"", 0));
        assert!(begins(b"\x4a\0\0\0\x0a5.5.5", 0x4e));
        assert!(!begins(b"\x4a\0\0\x02\x0a5.5.5", 0x4e));
    }

    #[test]
    fn statement_packets() {
        assert!(carries_statement(b"\x09\0\0\0\x03SELECT 1", 8));
        assert!(carries_statement(b"\x0b\0\0\0\x03\0\x01SELECT 1", 8));
        assert!(carries_statement(b"\xff\xff\xff\0\x03SELECT", 30_000_000));
        assert!(!carries_statement(b"\x09\0\0\0\x03SELECT 1", 9));
        assert!(!carries_statement(b"\x17\x03\x03\0\x40....", 8));
        assert!(!carries_statement(b"", 8));
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"\x05rest"), Some((5, &b"rest"[..])));
        assert_eq!(number(b"\xfc\x01\x02"), Some((0x201, &b""[..])));
        assert_eq!(number(b"\xfd\x01\x02\x03."), Some((0x3_0201, &b"."[..])));
        assert_eq!(number(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"), Some((u64::MAX, &b""[..])));
        for broken in [&b""[..], b"\xfb", b"\xff", b"\xfc\x01", b"\xfe\x01"] {
            assert_eq!(number(broken), None);
        }
    }
}
