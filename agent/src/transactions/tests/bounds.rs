//! Every bound holds, and what does not fit is counted.

use super::{DB, Player, ROWS, WEB, frames};
use crate::transactions::Limits;

const GET: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn spans_and_stacks_of_one_transaction() {
    let limits = Limits { spans_per_transaction: 3, stacks_per_transaction: 2, ..Limits::default() };
    let mut player = Player::with(limits);
    player.open(WEB);
    player.open(DB);
    player.read(WEB, GET);
    for line in 0..5 {
        player.query(&format!("SELECT {line} FROM a"), ROWS, None);
        player.sample(u64::from(line) + 1, Some(frames(&[("f", "/srv/a.py", line)])));
        player.sample(1, Some(frames(&[("f", "/srv/a.py", 0)])));
    }
    player.write(WEB, OK5);
    let transaction = player.only();
    assert_eq!(transaction.spans.len(), 3);
    assert_eq!(transaction.samples.len(), 2);
    let kept: u64 = transaction.samples.iter().map(|samples| samples.count).sum();
    let counts = player.transactions.counts();
    assert_eq!(counts.spans_overflow, 2);
    assert_eq!(counts.samples_overflow, 3);
    assert_eq!(kept + counts.samples_overflow, 10);
}

#[test]
fn transactions_in_flight() {
    let mut player = Player::with(Limits { active: 2, ..Limits::default() });
    for connection in 1..=4 {
        player.open(connection);
        player.read(connection, GET);
    }
    assert_eq!(player.transactions.open(), 2);
    assert_eq!(player.transactions.counts().active_overflow, 2);
    let hint = player.out.hints.last().copied();
    assert_eq!(hint.map(|hint| (hint.want_in, hint.want_out)), Some((0, 0)));
    for connection in 1..=4 {
        player.write(connection, OK5);
    }
    assert_eq!(player.finished().len(), 2);
    player.open(5);
    player.read(5, GET);
    assert_eq!(player.transactions.open(), 1);
}

#[test]
fn pipelined_requests_on_one_connection() {
    let mut player = Player::with(Limits { active_per_connection: 3, ..Limits::default() });
    player.open(WEB);
    player.read(WEB, &GET.repeat(10));
    assert_eq!(player.transactions.open(), 0);
    assert_eq!(player.transactions.counts().active_overflow, 1);
    assert_eq!(player.finished().len(), 3);
}

#[test]
fn connections_and_threads() {
    let mut player = Player::with(Limits { connections: 2, threads: 2, ..Limits::default() });
    for connection in 1..=4 {
        player.open(connection);
        player.tid = 200 + u32::try_from(connection).unwrap();
        player.read(connection, GET);
    }
    assert_eq!(player.transactions.open(), 2);
    assert_eq!(player.transactions.counts().connections_overflow, 4);
    player.write(1, OK5);
    player.write(2, OK5);
    player.close(1);
    player.close(2);
    // Idle threads make room for new ones.
    for connection in 5..=6 {
        player.tid += 1;
        player.open(connection);
        player.read(connection, GET);
        player.write(connection, OK5);
        player.close(connection);
    }
    assert_eq!(player.finished().len(), 4);
    assert_eq!(player.transactions.counts().threads_overflow, 0);
}

#[test]
fn names() {
    let mut player = Player::with(Limits { names: 3, ..Limits::default() });
    player.open(WEB);
    for word in ["a", "b", "c", "d", "e", "a"] {
        player.read(WEB, format!("GET /{word} HTTP/1.1\r\n\r\n").as_bytes());
        player.write(WEB, OK5);
    }
    let names: Vec<_> = player.finished().into_iter().map(|t| t.name.clone()).collect();
    assert_eq!(names, ["GET /a", "GET /b", "GET /c", "{other}", "{other}", "GET /a"]);
    assert_eq!(player.transactions.counts().names_overflow, 2);
    assert_eq!(player.transactions.counts().view().get("names_overflow"), Some(&2));
}

#[test]
fn not_http_is_given_up_with_a_hint() {
    let mut player = Player::new();
    player.open(WEB);
    for _ in 0..10 {
        player.write(WEB, b"who is there\n");
        player.read(WEB, b"nobody\n");
    }
    assert_eq!(player.transactions.counts().not_http, 1);
    assert_eq!(player.out.hints.len(), 1);
    assert_eq!((player.out.hints[0].want_in, player.out.hints[0].want_out), (0, 0));
}
