//! What comes out does not depend on how the streams were cut into calls.

use super::{Dice, Player, WEB};
use crate::intake::Direction::{self, In, Out};
use crate::transactions::Clock;
use pyapm_model::line::{Outcome, Transaction};

/// What is expected of one transaction: method and path, status, start step, end step, bytes in, bytes out.
type Expected = (&'static str, Option<u16>, Outcome, u64, u64, u64, u64);

struct Case {
    name: &'static str,
    /// One entry per turn: all of its bytes carry the same time.
    script: Vec<(Direction, Vec<u8>)>,
    close: bool,
    expected: Vec<Expected>,
}

fn case(name: &'static str, script: &[(Direction, &[u8])], close: bool, expected: Vec<Expected>) -> Case {
    let script = script.iter().map(|(direction, bytes)| (*direction, bytes.to_vec())).collect();
    Case { name, script, close, expected }
}

const GET: &[u8] = b"GET /a?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn cases() -> Vec<Case> {
    use Outcome::{Aborted, Complete};
    let get = GET.len() as u64;
    let ok5 = OK5.len() as u64;
    let long_post = [&b"POST /up HTTP/1.1\r\nContent-Length: 3000\r\n\r\n"[..], &[b'x'; 3000]].concat();
    vec![
        case("plain", &[(In, GET), (Out, OK5)], true, vec![("GET /a", Some(200), Complete, 1, 2, get, ok5)]),
        case(
            "keep-alive",
            &[(In, GET), (Out, OK5), (In, b"\r\nPUT /b HTTP/1.1\r\ncontent-LENGTH: 2\r\n\r\nhi"), (Out, OK5)],
            true,
            vec![("GET /a", Some(200), Complete, 1, 2, get, ok5), ("PUT /b", Some(200), Complete, 3, 4, 40, ok5)],
        ),
        case(
            "pipelined",
            &[
                (In, b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n"),
                (Out, OK5),
                (Out, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx"),
            ],
            true,
            vec![
                ("GET /1", Some(200), Complete, 1, 2, 19, ok5),
                ("POST /2", Some(201), Complete, 1, 3, 42, 43),
                ("GET /3", Some(500), Complete, 1, 3, 19, 41),
            ],
        ),
        case(
            "chunked both ways",
            &[
                (In, b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n"),
                (Out, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
                (Out, b"4\r\nabcd\r\nA\r\n0123456789\r\n"),
                (Out, b"0\r\n\r\n"),
                (In, GET),
                (Out, OK5),
            ],
            false,
            vec![
                ("POST /c", Some(200), Complete, 1, 4, 73, 82),
                ("GET /a", Some(200), Complete, 5, 6, get, ok5),
            ],
        ),
        case(
            "100-continue",
            &[
                (In, b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
                (Out, b"HTTP/1.1 100 Continue\r\n\r\n"),
                (In, b"body"),
                (Out, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
                (Out, OK5),
            ],
            true,
            vec![("POST /e", Some(200), Complete, 1, 5, 65, 25 + 37 + ok5)],
        ),
        case(
            "100-continue refused, next request without the body",
            &[
                (In, b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
                (Out, b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
            ],
            true,
            vec![("POST /e", Some(417), Complete, 1, 2, 61, 38)],
        ),
        case(
            "HEAD, 204, 304",
            &[
                (In, b"HEAD /h HTTP/1.1\r\n\r\n"),
                (Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
                (In, GET),
                (Out, b"HTTP/1.1 204 No Content\r\n\r\n"),
                (In, GET),
                (Out, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
                (In, GET),
                (Out, OK5),
            ],
            true,
            vec![
                ("HEAD /h", Some(200), Complete, 1, 2, 20, 41),
                ("GET /a", Some(204), Complete, 3, 4, get, 27),
                ("GET /a", Some(304), Complete, 5, 6, get, 49),
                ("GET /a", Some(200), Complete, 7, 8, get, ok5),
            ],
        ),
        case(
            "until close",
            &[(In, GET), (Out, b"HTTP/1.0 200 OK\r\n\r\nsome"), (Out, b"thing")],
            true,
            vec![("GET /a", Some(200), Complete, 1, 3, get, 28)],
        ),
        case(
            "gone before the response",
            &[(In, GET)],
            true,
            vec![("GET /a", None, Aborted, 1, 2, get, 0)],
        ),
        case(
            "gone within the response",
            &[(In, GET), (Out, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")],
            true,
            vec![("GET /a", Some(200), Aborted, 1, 3, get, 44)],
        ),
        case("gone within the head", &[(In, b"GET /a HTTP/1.1\r\nHost:")], true, vec![]),
        case(
            "long request body",
            &[(In, &long_post), (Out, OK5)],
            true,
            vec![("POST /up", Some(200), Complete, 1, 2, long_post.len() as u64, ok5)],
        ),
        case(
            "answered before the body was read",
            &[
                (In, b"POST /e HTTP/1.1\r\nContent-Length: 4\r\n\r\n"),
                (Out, b"HTTP/1.1 413 Big\r\nContent-Length: 0\r\n\r\n"),
                (In, b"body"),
                (In, GET),
                (Out, OK5),
            ],
            true,
            vec![
                ("POST /e", Some(413), Complete, 1, 2, 39, 39),
                ("GET /a", Some(200), Complete, 4, 5, get, ok5),
            ],
        ),
        case(
            "upgrade",
            &[
                (In, b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
                (Out, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
                (In, b"GET /not-http HTTP/1.1\r\n\r\n"),
                (Out, b"HTTP/1.1 200 OK\r\n\r\n"),
            ],
            true,
            vec![("GET /ws", Some(101), Complete, 1, 2, 40, 36)],
        ),
        case(
            "absolute form, unknown method, repeated equal length",
            &[
                (In, b"BREW http://h.example/pot?x HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nz"),
                (Out, b"HTTP/1.1 418 Teapot\nContent-Length: 0\n\n"),
            ],
            true,
            vec![("_OTHER /pot", Some(418), Complete, 1, 2, 63, 39)],
        ),
        case(
            "headers that are refused",
            &[
                (In, b"GET /bad HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
                (Out, b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\nbad"),
            ],
            true,
            vec![("GET /bad", Some(400), Complete, 1, 2, 59, 42)],
        ),
    ]
}

/// Plays a script, every turn cut where `cut` says.
fn play(case: &Case, mut cut: impl FnMut(usize) -> usize) -> Player {
    let mut player = Player::new();
    player.open(WEB);
    for (direction, bytes) in &case.script {
        player.step();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = cut(rest.len()).clamp(1, rest.len());
            player.call(WEB, *direction, &rest[..length], length, 0);
            rest = &rest[length..];
        }
    }
    if case.close {
        player.close(WEB);
    }
    player
}

fn check(case: &Case, player: &Player, how: &str) {
    let start = |t: &Transaction| (t.start_ns - super::OFFSET as u64) / 1_000 - 1;
    let got: Vec<_> = player
        .finished()
        .into_iter()
        .map(|t| {
            let path = t.path.as_deref().unwrap_or("-");
            let end = start(t) + t.duration_ns / 1_000;
            let line = format!("{} {path}", t.method.as_deref().unwrap_or("-"));
            (line, t.status, t.outcome, start(t), end, t.request_bytes, t.response_bytes)
        })
        .collect();
    let expected: Vec<_> =
        case.expected.iter().map(|e| (e.0.to_owned(), e.1, e.2, e.3, e.4, Some(e.5), Some(e.6))).collect();
    assert_eq!(got, expected, "{} ({how})", case.name);
    assert_eq!(player.transactions.open(), 0, "{}", case.name);
}

#[test]
fn whole_turns() {
    for case in cases() {
        check(&case, &play(&case, |length| length), "whole");
    }
}

#[test]
fn byte_by_byte() {
    for case in cases() {
        check(&case, &play(&case, |_| 1), "bytes");
    }
}

#[test]
fn cut_at_every_position() {
    for case in cases() {
        for (turn, (_, bytes)) in case.script.iter().enumerate() {
            for at in 1..bytes.len().min(400) {
                let (mut now, mut left) = (0, 0);
                let player = play(&case, |length| {
                    if left == 0 {
                        now += 1;
                        left = length;
                    }
                    let take = if now - 1 == turn && left == bytes.len() { at } else { length };
                    left -= take;
                    take
                });
                check(&case, &player, &format!("turn {turn} at {at}"));
            }
        }
    }
}

#[test]
fn cut_at_random() {
    let mut dice = Dice(42);
    for case in cases() {
        for round in 0..200 {
            let most = 1 + dice.below(60);
            let player = play(&case, |_| 1 + dice.below(most));
            check(&case, &player, &format!("round {round}"));
        }
    }
}

#[test]
fn refused_expectation_then_another_request() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n");
    player.write(WEB, b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
    player.read(WEB, GET);
    player.write(WEB, OK5);
    let lines: Vec<_> = player.summary().into_iter().map(|(line, status, _)| (line, status)).collect();
    assert_eq!(lines, [("POST /e".to_owned(), Some(417)), ("GET /a".to_owned(), Some(200))]);
}

#[test]
fn half_close_is_not_the_end() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, GET);
    player.ended(WEB, In, false);
    assert!(player.out.finished.is_empty());
    player.write(WEB, OK5);
    player.close(WEB);
    assert_eq!(player.only().outcome, Outcome::Complete);
}

#[test]
fn broken_pipe_aborts() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, GET);
    player.write(WEB, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
    player.ended(WEB, Out, true);
    assert_eq!(player.only().outcome, Outcome::Aborted);
    assert_eq!(player.only().status, Some(200));
    player.close(WEB);
    assert_eq!(player.finished().len(), 1);
}

#[test]
fn server_answers_half_a_head() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, b"GET /slow HTTP/1.1\r\nHost: x\r\n");
    player.write(WEB, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    player.close(WEB);
    assert_eq!(player.summary(), [("GET /slow".to_owned(), Some(408), Outcome::Complete)]);
    assert_eq!(player.only().tid, super::PID);
}

#[test]
fn head_of_more_than_64_kib_is_one_transaction() {
    let mut player = Player::new();
    player.open(WEB);
    let long = [&b"GET /long HTTP/1.1\r\nX: "[..], &vec![b'y'; 70_000]].concat();
    for piece in long.chunks(16 * 1024) {
        player.read(WEB, piece);
    }
    player.write(WEB, b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n");
    player.close(WEB);
    assert_eq!(player.summary(), [("GET /long".to_owned(), Some(431), Outcome::Complete)]);
}

/// 10 MB in and 10 MB out, of which the kernel copies nothing but the heads; the hints say so.
#[test]
fn large_bodies_with_only_heads_captured() {
    const LENGTH: usize = 10_000_000;
    let mut player = Player::new();
    player.open(WEB);
    let request = format!("POST /big HTTP/1.1\r\nContent-Length: {LENGTH}\r\n\r\n");
    player.read(WEB, request.as_bytes());
    let hint = *player.out.hints.last().unwrap();
    assert_eq!(hint.skip_in, (request.len() + LENGTH) as u64);
    assert_eq!(hint.connection.0, WEB);
    let body = vec![b'b'; 65_536];
    let mut left = LENGTH;
    while left > 0 {
        let piece = &body[..left.min(body.len())];
        player.step();
        player.call(WEB, In, piece, 0, 0);
        left -= piece.len();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    player.write(WEB, head.as_bytes());
    assert_eq!(player.out.hints.last().unwrap().skip_out, (head.len() + LENGTH) as u64);
    let mut left = LENGTH;
    while left > 0 {
        let piece = &body[..left.min(50_000)];
        player.step();
        player.call(WEB, Out, piece, 16, 8);
        left -= piece.len();
    }
    let last = player.now_ns;
    assert_eq!(player.out.hints.len(), 2);
    player.read(WEB, GET);
    player.write(WEB, OK5);
    let big = player.finished()[0];
    assert_eq!(big.outcome, Outcome::Complete);
    assert_eq!(big.request_bytes, Some((request.len() + LENGTH) as u64));
    assert_eq!(big.response_bytes, Some((head.len() + LENGTH) as u64));
    assert_eq!(big.start_ns + big.duration_ns, last + super::OFFSET as u64);
    assert_eq!(player.finished()[1].outcome, Outcome::Complete);
}

#[test]
fn names_times_and_trace() {
    let mut player = Player::new();
    player.open(WEB);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = format!("GET /users/7?q=secret HTTP/1.1\r\nTraceparent: {parent}\r\n\r\n");
    player.read(WEB, request.as_bytes());
    player.write(WEB, OK5);
    player.read(WEB, b"GET /nothing/here HTTP/1.1\r\ntraceparent: 00-zz\r\n\r\n");
    player.write(WEB, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let finished = player.finished();
    assert_eq!(finished[0].name, "GET /users/{id}");
    assert_eq!(finished[0].path.as_deref(), Some("/users/7"));
    assert_eq!(finished[0].trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(finished[0].parent_span_id.as_deref(), Some("b7ad6b7169203331"));
    assert_eq!(finished[0].client_address.as_deref(), Some("127.0.0.1"));
    assert_eq!(finished[0].duration_ns, 1_000);
    assert_eq!(finished[1].name, "GET (not found)");
    assert_eq!(finished[1].parent_span_id, None);
    assert_eq!(finished[1].trace_id.len(), 32);
    assert_ne!(finished[0].span_id, finished[1].span_id);
}

#[test]
fn how_long_a_request_had_waited() {
    let mut player = Player::new();
    let clock = Clock { monotonic_to_wall_offset_ns: 1_700_000_000_000_000_000 };
    player.transactions.set_clock(clock);
    player.open(WEB);
    for (header, expected) in [
        // The first byte is read at the first microseconds of the player's time.
        ("X-Request-Start: t=1699999999.990\r\nX-Request-Start: t=1699999999.999", true),
        ("x-queue-start: 1699999999990000", true),
        ("X-Request-Start: t=1700000001.000", false),
        ("X-Request-Start: soon", false),
        ("X-Request-Stark: t=1699999999.990", false),
    ] {
        player.read(WEB, format!("GET / HTTP/1.1\r\n{header}\r\n\r\n").as_bytes());
        let read_ns = player.now_ns;
        player.write(WEB, OK5);
        let waited = player.finished().last().unwrap().queue_ns;
        assert_eq!(waited, expected.then_some(10_000_000 + read_ns), "{header}");
    }
}

#[test]
fn connections_that_became_something_else_are_counted_while_they_are_open() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!((player.transactions.upgraded(), player.transactions.open()), (0, 1));
    player.write(WEB, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(player.only().status, Some(101));
    player.read(WEB, GET);
    player.write(WEB, OK5);
    assert_eq!(player.finished().len(), 1);
    assert_eq!((player.transactions.upgraded(), player.transactions.open()), (1, 0));
    player.close(WEB);
    assert_eq!(player.transactions.upgraded(), 0);
}

#[test]
fn body_after_head_does_not_disturb_the_next_request() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, b"HEAD /h HTTP/1.1\r\n\r\n");
    player.write(WEB, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    player.write(WEB, b"hello");
    player.read(WEB, GET);
    player.write(WEB, OK5);
    let outcomes: Vec<_> =
        player.summary().into_iter().map(|(_, status, outcome)| (status, outcome)).collect();
    assert_eq!(outcomes, [(Some(200), Outcome::Complete); 2]);
    let counts = player.transactions.counts();
    assert_eq!((counts.stray_output, counts.framing_lost), (1, 0));
}
