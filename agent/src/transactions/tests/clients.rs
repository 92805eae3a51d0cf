//! Calls of client protocols as spans of the request that makes them.

use super::{Player, WEB, frames};
use pyapm_model::line::SpanKind;

const GET: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const UPSTREAM: u64 = 3;

#[test]
fn an_http_call_with_its_call_site() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(UPSTREAM);
    player.read(WEB, GET);
    let stack = frames(&[
        ("HTTPConnection.send", "/usr/lib/python3.11/http/client.py", 1000),
        ("view", "/srv/shop/views.py", 7),
    ]);
    player.write_from(UPSTREAM, b"GET /users/42?full=1 HTTP/1.1\r\nHost: up\r\n\r\n", stack);
    player.read(UPSTREAM, b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n");
    player.read(UPSTREAM, b"no");
    player.write(WEB, OK5);
    let transaction = player.only();
    let [span] = transaction.spans.as_slice() else { panic!("{:#?}", transaction.spans) };
    assert_eq!((span.kind, span.name.as_str()), (SpanKind::Http, "GET /users/{id}"));
    assert_eq!((span.method.as_deref(), span.path.as_deref()), (Some("GET"), Some("/users/42")));
    assert_eq!((span.status, span.error_type.as_deref()), (Some(404), Some("404")));
    assert_eq!((span.duration_ns, span.first_byte_ns), (2_000, Some(1_000)));
    assert_eq!(span.server_port, Some(3306));
    assert_eq!(span.stack.first().map(|frame| frame.function.as_str()), Some("view"));
    assert!(span.reply_seen);
    assert_eq!(span.db_system, None);
}

#[test]
fn a_call_outside_of_any_request_is_counted() {
    let mut player = Player::new();
    player.open(UPSTREAM);
    player.write(UPSTREAM, GET);
    player.read(UPSTREAM, OK5);
    assert!(player.out.finished.is_empty());
    assert_eq!(player.transactions.counts().span_unplaced, 1);
}

#[test]
fn what_is_not_answered_before_the_request_ends() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(UPSTREAM);
    player.read(WEB, GET);
    player.write(UPSTREAM, GET);
    player.write(WEB, OK5);
    player.read(UPSTREAM, OK5);
    let [span] = player.only().spans.as_slice() else { panic!() };
    assert!(!span.reply_seen);
    assert_eq!(span.status, None);
}

/// `with urlopen(url) as answer: return answer.status`
#[test]
fn a_status_counts_though_the_body_is_left_unread() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(UPSTREAM);
    player.read(WEB, GET);
    player.write(UPSTREAM, GET);
    player.read(UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    player.close(UPSTREAM);
    player.write(WEB, OK5);
    let [span] = player.only().spans.as_slice() else { panic!() };
    assert_eq!((span.status, span.reply_seen), (Some(200), true));
}
