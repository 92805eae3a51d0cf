//! Which transaction a statement or a sample belongs to.

use super::{DB, PID, Player, ROWS, WEB, command, frames};
use crate::intake::Direction;
use pyapm_model::snapshot::Doing;

const GET: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const POOL: u32 = PID + 7;

#[test]
fn pool_thread_that_reads_owns_the_request() {
    let mut player = Player::new();
    // The main thread accepts, pool threads read: gunicorn's gthread.
    player.open(WEB);
    player.tid = POOL;
    player.read(WEB, GET);
    player.open(DB);
    player.query("SELECT 1 FROM a", ROWS, None);
    player.tid = PID;
    player.query("SELECT 2 FROM a", ROWS, None);
    player.tid = POOL;
    player.write(WEB, OK5);
    let transaction = player.only();
    assert_eq!(transaction.tid, POOL);
    assert_eq!(transaction.spans.len(), 1);
    assert_eq!(player.transactions.counts().span_unplaced, 1);
}

#[test]
fn keep_alive_connection_changes_threads() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    for tid in [201, 202, 203] {
        player.tid = tid;
        player.read(WEB, GET);
        player.query("SELECT 1 FROM a", ROWS, None);
        player.write(WEB, OK5);
    }
    let finished = player.finished();
    assert_eq!(
        finished.iter().map(|t| (t.tid, t.spans.len())).collect::<Vec<_>>(),
        [(201, 1), (202, 1), (203, 1)]
    );
}

#[test]
fn body_read_by_another_thread() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player.tid = 201;
    player.read(WEB, b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n");
    player.tid = 202;
    player.read(WEB, b"hi");
    player.query("SELECT 1 FROM a", ROWS, None);
    player.tid = 201;
    player.query("SELECT 2 FROM a", ROWS, None);
    player.tid = 202;
    player.write(WEB, OK5);
    assert_eq!(player.only().spans.len(), 1);
    assert_eq!(player.only().tid, 202);
    assert_eq!(player.transactions.counts().span_unplaced, 1);
}

#[test]
fn pipelined_requests_are_worked_on_in_turn() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player.read(WEB, &[GET, b"GET /b HTTP/1.1\r\n\r\n"].concat());
    player.query("SELECT 1 FROM first_table", ROWS, None);
    player.write(WEB, OK5);
    player.query("SELECT 1 FROM second_table", ROWS, None);
    player.query("SELECT 1 FROM second_table", ROWS, None);
    player.write(WEB, OK5);
    let finished = player.finished();
    assert_eq!(finished[0].spans.len(), 1);
    assert_eq!(finished[0].spans[0].name, "SELECT first_table");
    assert_eq!(finished[1].spans.len(), 2);
    assert_eq!(finished[1].spans[0].name, "SELECT second_table");
}

/// An event loop has several requests at once: wrong would be worse than unknown.
#[test]
fn one_thread_with_two_requests_places_nothing() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(5);
    player.open(DB);
    player.read(WEB, GET);
    player.read(5, GET);
    player.query("SELECT 1 FROM a", ROWS, None);
    player.sample(1, Some(frames(&[("f", "/srv/a.py", 1)])));
    player.write(WEB, OK5);
    player.query("SELECT 1 FROM a", ROWS, None);
    player.write(5, OK5);
    let spans: Vec<_> = player.finished().iter().map(|t| t.spans.len()).collect();
    assert_eq!(spans, [0, 1]);
    assert_eq!(player.transactions.counts().span_unplaced, 1);
    assert_eq!(player.transactions.counts().sample_unplaced, 1);
}

#[test]
fn statement_after_the_response_is_unplaced() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player.read(WEB, GET);
    player.write(WEB, OK5);
    player.query("SELECT 1 FROM a", ROWS, None);
    assert_eq!(player.only().spans.len(), 0);
    assert_eq!(player.transactions.counts().span_unplaced, 1);
}

#[test]
fn samples_are_merged_by_what_they_show() {
    let mut player = Player::new();
    player.sample(9, None);
    player.open(WEB);
    player.read(WEB, GET);
    let busy = frames(&[("work", "/srv/a.py", 3), ("view", "/srv/a.py", 9)]);
    let other = frames(&[("rest", "/srv/a.py", 5)]);
    player.sample(1, Some(other.clone()));
    // Another instruction of the same line: another stack id, the same frames.
    player.sample(2, Some(busy.clone()));
    player.sample(3, Some(busy.clone()));
    player.sample(2, Some(busy.clone()));
    let active = player.transactions.active(player.now_ns);
    assert_eq!(active[0].doing, Doing::Function(busy[0].clone()));
    player.sample(0, None);
    player.write(WEB, OK5);
    let samples = &player.only().samples;
    assert_eq!(samples.len(), 3);
    assert_eq!((samples[0].count, &samples[0].stack[..]), (3, &busy[..]));
    assert_eq!((samples[1].count, &samples[1].stack[..]), (1, &other[..]));
    assert_eq!((samples[2].count, samples[2].stack.len()), (1, 0));
    assert_eq!(player.transactions.counts().sample_unplaced, 1);
}

#[test]
fn active_longest_first() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(5);
    player.read(5, b"GET /users/9 HTTP/1.1\r\n\r\n");
    player.tid = 300;
    player.read(WEB, GET);
    let active = player.transactions.active(player.now_ns + 1_000);
    assert_eq!(active.len(), 2);
    assert_eq!(active[0].name, "GET /users/{id}");
    assert_eq!(active[0].path.as_deref(), Some("/users/9"));
    assert_eq!((active[0].elapsed_ns, active[1].elapsed_ns), (2_000, 1_000));
    assert_eq!((active[0].tid, active[1].tid), (PID, 300));
    assert_eq!(active[0].doing, Doing::Unknown);
}

#[test]
fn statement_packets_of_another_thread_do_not_bind() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player.open(6);
    player.tid = 201;
    player.read(WEB, GET);
    player.statement(7, "SELECT 1 FROM a", None);
    player.tid = 202;
    player.write(6, &command("SELECT 1 FROM a"));
    player.read(6, super::ERROR_1146);
    player.tid = 201;
    player.write(DB, &command("SELECT 1 FROM a"));
    player.read(DB, ROWS);
    player.write(WEB, OK5);
    let span = &player.only().spans[0];
    assert_eq!(span.error_type, None);
    assert!(span.reply_seen);
}

/// A request whose answer was lost from sight does not stand between its thread and the next one.
#[test]
fn lost_answers_do_not_make_a_thread_ambiguous() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(5);
    player.open(DB);
    player.read(WEB, GET);
    player.lose(WEB, Direction::Out, 50);
    player.write(WEB, b"rest of an answer");
    player.read(5, GET);
    player.query("SELECT 1 FROM a", ROWS, None);
    player.write(5, OK5);
    assert_eq!(player.only().spans.len(), 1);
    player.close(WEB);
    assert_eq!(player.finished().len(), 2);
}

#[test]
fn seeing_the_peer_go_does_not_take_a_request_over() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player.tid = POOL;
    player.read(WEB, GET);
    player.tid = PID;
    player.ended(WEB, Direction::In, false);
    player.tid = POOL;
    player.query("SELECT 1 FROM a", ROWS, None);
    player.write(WEB, OK5);
    assert_eq!((player.only().spans.len(), player.only().tid), (1, POOL));
}
