//! Requests by the uwsgi protocol: of nginx, and of uWSGI's own router, which is another process.

use super::{OK, Player, WEB};
use crate::intake::Direction;
use pyapm_model::line::Outcome;

fn packet(method: &str, target: &str, length: usize) -> Vec<u8> {
    let length = length.to_string();
    let mut body = Vec::new();
    let variables = [
        ("QUERY_STRING", "x=1"),
        ("REQUEST_METHOD", method),
        ("CONTENT_LENGTH", &length),
        ("REQUEST_URI", target),
    ];
    for text in variables.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    let size = u16::try_from(body.len()).unwrap().to_le_bytes();
    [&[0, size[0], size[1], 0][..], &body].concat()
}

const ANSWER: &[u8] = b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nok";

fn one(path: &str) -> (String, Option<u16>, Outcome) {
    (format!("POST {path}"), Some(201), Outcome::Complete)
}

#[test]
fn a_packet_cut_anywhere_is_one_request() {
    let request = [&packet("POST", "/a/7?x=1", 3)[..], b"abc"].concat();
    for cut in 1..request.len() {
        let mut player = Player::new();
        player.open(WEB);
        player.read(WEB, &request[..cut]);
        player.read(WEB, &request[cut..]);
        player.query("SELECT 1", OK, None);
        player.write(WEB, ANSWER);
        player.close(WEB);
        assert_eq!(player.summary(), [one("/a/7")], "cut at {cut}");
        assert_eq!(player.only().spans.len(), 1, "cut at {cut}");
        assert_eq!(player.only().request_bytes, Some(request.len() as u64), "cut at {cut}");
    }
}

/// The answer of an application that tells no length ends with the connection.
#[test]
fn until_the_connection_ends() {
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, &packet("POST", "/a", 0));
    player.write(WEB, b"HTTP/1.1 201 Made\r\n\r\n");
    player.write(WEB, b"some");
    assert_eq!(player.finished().len(), 0);
    player.close(WEB);
    assert_eq!(player.summary(), [one("/a")]);
}

#[test]
fn what_the_router_passes_on_is_the_workers() {
    let mut player = Player::new();
    for round in 0..2 {
        let (client, worker) = (WEB + round * 10, WEB + round * 10 + 1);
        player.open(client);
        player.read(client, b"POST /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        player.open(worker);
        player.write(worker, &packet("POST", "/a", 0));
        assert_eq!(player.transactions.active(player.now_ns).len(), 0);
        player.read(worker, ANSWER);
        player.write(client, ANSWER);
        player.ended(worker, Direction::In, false);
        player.close(worker);
    }
    assert_eq!(player.summary(), []);
    assert_eq!(player.transactions.counts().passed_on, 2);
    assert_eq!(player.transactions.open(), 0);
}
