//! Hostile input: nothing panics, nothing grows without bound.

use super::{Dice, Player};
use crate::intake::{Body, ConnectionId, Direction, Endpoint, Io, Library, StackStatus, Statement};

/// Fragments that steer the machines into their corners, mixed with noise.
const FRAGMENTS: [&[u8]; 24] = [
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 999",
    b"ffffffffffffffff\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"\x09\0\0\0\x03SELECT 1",
    b"\x09\0\0\x01\xff\x7a\x04#42S02",
    b"\xff\xff\xff\xff\xff\xff",
    b"\x17\x03\x03\0\x10",
    b"SELECT 'a\\' FROM `b",
    b"\0\0\0\0",
    b"HEAD * HTTP/1.0\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
];

#[test]
fn no_sequence_of_events_panics() {
    let mut dice = Dice(0x5eed);
    for _ in 0..400 {
        let mut player = Player::new();
        for _ in 0..300 {
            let mut bytes = Vec::new();
            for _ in 0..dice.below(4) {
                bytes.extend_from_slice(FRAGMENTS[dice.below(FRAGMENTS.len())]);
            }
            if dice.below(4) == 0 && !bytes.is_empty() {
                let at = dice.below(bytes.len());
                bytes[at] = u8::try_from(dice.below(256)).unwrap();
                bytes.truncate(at + dice.below(8));
            }
            player.tid = 100 + u32::try_from(dice.below(3)).unwrap();
            let connection = ConnectionId(dice.next() % 4);
            let direction = if dice.below(2) == 0 { Direction::In } else { Direction::Out };
            let key = (connection.0, direction == Direction::In);
            let offset = match dice.below(20) {
                0 => dice.next(),
                1 => 0,
                _ => player.positions.get(&key).copied().unwrap_or(0),
            };
            let cut = dice.below(bytes.len() + 1);
            let moved = match dice.below(10) {
                0 => u32::MAX,
                1 => 0,
                _ => u32::try_from(bytes.len()).unwrap(),
            };
            player.positions.insert(key, offset.wrapping_add(u64::from(moved)));
            player.step();
            let io = Io {
                connection,
                direction,
                offset,
                moved,
                head: &bytes[..cut],
                tail: &bytes[cut..],
                end_of_stream: dice.below(30) == 0,
                failed: dice.below(30) == 0,
                stack: None,
                status: StackStatus::NotAsked,
            };
            let statement = Statement {
                library: Library::Mysql,
                handle: dice.next() % 3,
                text: &bytes,
                text_len: u32::try_from(dice.below(100)).unwrap(),
                stack: None,
                status: StackStatus::NoFrame,
            };
            let fd = u32::try_from(dice.below(3)).unwrap();
            let body = match dice.below(20) {
                0 => Body::ConnectionClosed { connection },
                1 => Body::ConnectionOpened {
                    connection,
                    fd,
                    local: Endpoint::Unix,
                    peer: Endpoint::Other(9),
                    sequence: None,
                    unread_ns: None,
                },
                2..=4 => Body::Statement(statement),
                5 => Body::Sample { stack: None, status: StackStatus::NoFrame, holds_gil: false },
                6 if dice.below(20) == 0 => Body::Exit,
                _ => Body::Io(io),
            };
            player.event(body, None);
        }
        let active = player.transactions.active(player.now_ns);
        assert_eq!(active.len(), player.transactions.open());
        player.event(Body::Exit, None);
        assert_eq!(player.transactions.open(), 0);
        let counted = player.transactions.counts().transactions;
        assert_eq!(counted, player.out.finished.len() as u64);
    }
}
