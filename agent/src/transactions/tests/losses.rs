//! Records that were lost, bytes that were not captured: what is known stays known, the rest is marked.

use super::{Player, WEB};
use crate::intake::Body;
use crate::intake::Direction::{In, Out};
use pyapm_model::line::Outcome::{Aborted, Complete, Incomplete, WorkerExited};

const GET: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn started() -> Player {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, GET);
    player
}

#[test]
fn loss_inside_a_body_of_known_length_changes_nothing() {
    let mut player = started();
    player.write(WEB, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n");
    player.lose(WEB, Out, 200);
    player.write(WEB, &[b'x'; 100]);
    assert_eq!(player.only().outcome, Complete);
    assert_eq!(player.only().response_bytes, Some(340));
    assert_eq!(player.transactions.counts().gap, 1);
}

#[test]
fn loss_of_the_last_body_bytes_shows_with_the_next_response() {
    let mut player = started();
    player.write(WEB, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n");
    player.lose(WEB, Out, 300);
    player.read(WEB, b"GET /b HTTP/1.1\r\n\r\n");
    player.write(WEB, OK5);
    let summary = player.summary();
    assert_eq!(summary[0], ("GET /a".to_owned(), Some(200), Incomplete));
    assert_eq!(summary[1], ("GET /b".to_owned(), Some(200), Complete));
}

#[test]
fn lost_response_head() {
    let mut player = started();
    player.lose(WEB, Out, 40);
    player.write(WEB, b"some body");
    player.read(WEB, b"GET /b HTTP/1.1\r\n\r\n");
    player.write(WEB, OK5);
    let summary = player.summary();
    assert_eq!(summary[0], ("GET /a".to_owned(), None, Incomplete));
    assert_eq!(summary[1], ("GET /b".to_owned(), Some(200), Complete));
    assert_eq!(player.transactions.counts().framing_lost, 1);
}

#[test]
fn lost_response_head_then_close() {
    let mut player = started();
    player.lose(WEB, Out, 40);
    player.write(WEB, b"some body");
    let last = player.now_ns;
    player.close(WEB);
    assert_eq!(player.only().outcome, Incomplete);
    assert_eq!(player.out.finished[0].ended_ns, last);
}

#[test]
fn lost_request_resynchronises_at_the_next() {
    let mut player = started();
    player.write(WEB, OK5);
    player.lose(WEB, In, 60);
    player.write(WEB, OK5);
    player.read(WEB, b"GET /c HTTP/1.1\r\n\r\n");
    player.write(WEB, OK5);
    let summary = player.summary();
    assert_eq!(summary.len(), 2);
    assert_eq!(summary[1], ("GET /c".to_owned(), Some(200), Complete));
    assert_eq!(player.transactions.counts().response_unmatched, 1);
}

#[test]
fn uncaptured_bytes_of_a_chunked_response() {
    let mut player = started();
    player.write(WEB, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    // The gap lies inside a chunk whose size is known; then one that hides a chunk's size.
    let chunk = [&b"1000\r\n"[..], &[b'x'; 4096], b"\r\n"].concat();
    player.step();
    player.call(WEB, Out, &chunk, 100, 64);
    player.step();
    player.call(WEB, Out, &[&chunk[..], &chunk[..]].concat(), 100, 64);
    player.write(WEB, b"0\r\n\r\n");
    player.read(WEB, b"GET /b HTTP/1.1\r\n\r\n");
    player.write(WEB, OK5);
    let summary = player.summary();
    assert_eq!(summary[0], ("GET /a".to_owned(), Some(200), Incomplete));
    assert_eq!(summary[1], ("GET /b".to_owned(), Some(200), Complete));
    assert_eq!(player.transactions.counts().framing_lost, 1);
}

#[test]
fn worker_exit_and_exec_end_what_is_open() {
    for body in [Body::Exit, Body::Exec] {
        let mut player = started();
        player.step();
        player.event(body, None);
        assert_eq!(player.only().outcome, WorkerExited);
        assert_eq!(player.transactions.open(), 0);
        player.close(WEB);
        assert_eq!(player.finished().len(), 1);
    }
}

#[test]
fn descriptor_used_again_without_a_close() {
    let mut player = started();
    player.step();
    let local = crate::intake::Endpoint::Unix;
    let connection = crate::intake::ConnectionId(77);
    player.event(
        Body::ConnectionOpened { connection, fd: 11, local, peer: local, sequence: None, unread_ns: None },
        None,
    );
    assert_eq!(player.only().outcome, Incomplete);
    player.read(77, GET);
    player.write(77, OK5);
    assert_eq!(player.finished()[1].outcome, Complete);
    assert_eq!(player.finished()[1].client_address, None);
}

/// Connections that are older than the attach: the rest of a body comes before the first head.
#[test]
fn attached_in_the_middle() {
    let mut player = Player::new();
    player.write(WEB, b"...the rest of an older response");
    player.read(WEB, GET);
    player.write(WEB, OK5);
    assert_eq!(player.summary(), [("GET /a".to_owned(), Some(200), Complete)]);
    let mut player = Player::new();
    player.read(WEB, b"...the rest of an older upload");
    player.write(WEB, OK5);
    player.read(WEB, GET);
    player.write(WEB, OK5);
    assert_eq!(player.summary(), [("GET /a".to_owned(), Some(200), Complete)]);
}

#[test]
fn late_records_are_counted_and_not_used() {
    let mut player = started();
    player.positions.insert((WEB, true), 0);
    player.read(WEB, GET);
    player.write(WEB, OK5);
    assert_eq!(player.finished().len(), 1);
    assert_eq!(player.transactions.counts().late, 1);
}

#[test]
fn unanswered_pipelined_requests_are_aborted() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, &[GET, GET, GET].concat());
    player.write(WEB, OK5);
    player.close(WEB);
    let outcomes: Vec<_> =
        player.summary().into_iter().map(|(_, status, outcome)| (status, outcome)).collect();
    assert_eq!(outcomes, [(Some(200), Complete), (None, Aborted), (None, Aborted)]);
}

/// Without the record of the opening, each direction's first record says where its stream stands.
#[test]
fn opening_lost() {
    let mut player = Player::new();
    player.positions.insert((WEB, true), 500);
    player.positions.insert((WEB, false), 9_000);
    player.read(WEB, GET);
    player.write(WEB, OK5);
    assert_eq!(player.summary(), [("GET /a".to_owned(), Some(200), Complete)]);
    assert_eq!(player.only().client_address, None);
    assert_eq!(player.transactions.counts().gap, 0);
    assert!(player.out.hints.is_empty(), "no descriptor, no hint");
}
