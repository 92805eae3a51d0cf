//! The first packet of a server's reply to a statement, gathered over any number of reads.

/// What the first packet says (MySQL protocol, "Text Resultset" and "Generic Response Packets").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough bytes yet.
    Unseen,
    Ok,
    /// The server's error number.
    Error(u16),
    /// The server asks the client for a file; the real reply follows what the client sends.
    LocalInfile,
    /// Column definitions and rows follow.
    Rows,
    /// Not a reply packet, or its first bytes are missing.
    Unknown,
}

/// Header (length in three bytes, sequence number) and the first three bytes of the payload: its kind and
/// an error's number.
const NEEDED: usize = 7;

/// Gathers what a verdict needs, and no more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply {
    bytes: [u8; NEEDED],
    length: usize,
    missed: bool,
}

impl Reply {
    /// Adds one read's bytes: `head` are the first of the `moved` bytes.
    pub fn read(&mut self, head: &[u8], moved: u64) {
        let room = NEEDED.saturating_sub(self.length);
        if room == 0 || self.missed {
            return;
        }
        let taken = room.min(head.len());
        if let Some(target) = self.bytes.get_mut(self.length..self.length + taken) {
            target.copy_from_slice(&head[..taken]);
        }
        self.length += taken;
        self.missed = self.length < NEEDED && (head.len() as u64) < moved;
    }

    /// Bytes of the reply were lost before any of them was seen here.
    pub fn lose(&mut self) {
        self.missed |= self.length < NEEDED;
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let seen = &self.bytes[..self.length.min(NEEDED)];
        // A reply's sequence number is never 0: the statement's own packet had that.
        match seen {
            [_, _, _, 0, ..] => Verdict::Unknown,
            [0, 0, 0, _, ..] => Verdict::Unknown,
            // MariaDB's progress reports come as error 65535, ahead of the reply (ERR_Packet in its manual).
            [_, _, _, _, 0xff, 0xff, 0xff] => Verdict::Unknown,
            [_, _, _, _, 0xff, low, high] => Verdict::Error(u16::from_le_bytes([*low, *high])),
            [_, _, _, _, 0xff, ..] if !self.missed => Verdict::Unseen,
            [_, _, _, _, 0xff, ..] => Verdict::Unknown,
            [_, _, _, _, 0x00, ..] => Verdict::Ok,
            [_, _, _, _, 0xfb, ..] => Verdict::LocalInfile,
            [_, _, _, _, _, ..] => Verdict::Rows,
            _ if self.missed => Verdict::Unknown,
            _ => Verdict::Unseen,
        }
    }
}

/// Whether an outbound call's first bytes are a command that carries a statement of this length
/// (`COM_QUERY`, 3). When they are not, the bytes are something else's: TLS, compression.
#[must_use]
pub fn carries_statement(head: &[u8], text_len: u32) -> bool {
    /// Packets are cut at this payload size.
    const LONGEST: u32 = 0x00ff_ffff;
    let [l0, l1, l2, 0, 3, ..] = head else { return false };
    u32::from_le_bytes([*l0, *l1, *l2, 0]) == text_len.saturating_add(1).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(packet: &[u8]) -> Verdict {
        let mut whole = Reply::default();
        whole.read(packet, packet.len() as u64);
        for cut in 0..=packet.len() {
            let mut parts = Reply::default();
            parts.read(&packet[..cut], cut as u64);
            parts.read(&packet[cut..], (packet.len() - cut) as u64);
            assert_eq!(parts.verdict(), whole.verdict(), "cut {cut}");
        }
        whole.verdict()
    }

    #[test]
    fn first_packets() {
        let error = b"\x2c\0\0\x01\xff\x7a\x04#42S02Table 'shop.nosuch' doesn't exist";
        assert_eq!(verdict_of(error), Verdict::Error(1146));
        assert_eq!(verdict_of(b"\x07\0\0\x01\0\0\0\x02\0\0\0"), Verdict::Ok);
        assert_eq!(verdict_of(b"\x01\0\0\x01\x03\x27\0\0\x02\x03def"), Verdict::Rows);
        assert_eq!(verdict_of(b"\x09\0\0\x01\xfb/etc/abc"), Verdict::LocalInfile);
        assert_eq!(verdict_of(b"\x17\x03\x03\x00\x40abcdef"), Verdict::Unknown);
        assert_eq!(verdict_of(b"\0\0\0\x01"), Verdict::Unknown);
        assert_eq!(verdict_of(b"\x2c\0\0\x01\xff\xff\xff\x01"), Verdict::Unknown);
        assert_eq!(verdict_of(b""), Verdict::Unseen);
        assert_eq!(verdict_of(b"\x2c\0\0\x01\xff\x7a"), Verdict::Unseen);
    }

    #[test]
    fn missing_bytes_are_unknown() {
        let mut reply = Reply::default();
        reply.read(b"\x2c\0", 44);
        reply.read(b"\xff\x7a\x04", 3);
        assert_eq!(reply.verdict(), Verdict::Unknown);
        let mut reply = Reply::default();
        reply.lose();
        assert_eq!(reply.verdict(), Verdict::Unknown);
        let mut reply = Reply::default();
        reply.read(b"\x2c\0\0\x01\xff", 44);
        assert_eq!(reply.verdict(), Verdict::Unknown);
    }

    #[test]
    fn statement_packets() {
        assert!(carries_statement(b"\x09\0\0\0\x03SELECT 1", 8));
        assert!(carries_statement(b"\xff\xff\xff\0\x03SELECT", 30_000_000));
        assert!(!carries_statement(b"\x09\0\0\0\x03SELECT 1", 9));
        assert!(!carries_statement(b"\x17\x03\x03\0\x40....", 8));
        assert!(!carries_statement(b"", 8));
    }
}
