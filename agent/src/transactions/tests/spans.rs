//! Statements as spans: text, time, reply, server, call site.

use super::{DB, ERROR_1146, OK, Player, ROWS, WEB, command, frames};
use crate::intake::Direction::{In, Out};
use crate::intake::{Body, Endpoint};
use pyapm_model::line::{Outcome, Transaction, WarningKind};
use pyapm_model::snapshot::Doing;

const GET: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const OK5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn serving() -> Player {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player.read(WEB, GET);
    player
}

fn answered(player: &mut Player) -> &Transaction {
    player.write(WEB, OK5);
    player.only()
}

#[test]
fn n_plus_one_is_21_spans_with_their_call_sites() {
    let mut player = serving();
    let stack = |line| {
        frames(&[
            ("Cursor.execute", "/v/lib/python3.11/site-packages/MySQLdb/cursors.py", 179),
            ("CursorWrapper.execute", "/v/lib/python3.11/site-packages/django/db/backends/utils.py", 89),
            ("nplus1", "/srv/shop/views.py", line),
            ("inner", "/v/lib/python3.11/site-packages/django/core/handlers/base.py", 55),
        ])
    };
    player.query("SELECT id FROM shop_order LIMIT 20", ROWS, Some(stack(40)));
    for id in 0..20 {
        let text = format!("SELECT `name` FROM `shop_user` WHERE `id` = {id} LIMIT 21");
        player.query(&text, ROWS, Some(stack(42)));
    }
    let transaction = answered(&mut player);
    assert_eq!(transaction.spans.len(), 21);
    for (index, span) in transaction.spans.iter().enumerate() {
        assert_eq!(span.stack.len(), 2, "driver frames are dropped, the rest outwards is kept");
        assert_eq!(span.stack[0].function, "nplus1");
        assert_eq!(span.stack[0].file, "/srv/shop/views.py");
        assert_eq!(span.stack[0].line, Some(if index == 0 { 40 } else { 42 }));
        assert_eq!(span.parent_span_id, transaction.span_id);
        assert!(span.reply_seen);
        assert_eq!(span.error_type, None);
        assert_eq!(span.duration_ns, 2_000);
        assert_eq!(span.server_address.as_deref(), Some("127.0.0.1"));
        assert_eq!(span.server_port, Some(3306));
        assert_eq!(span.db_system.as_deref(), Some("mysql"));
    }
    assert_eq!(transaction.spans[0].name, "SELECT shop_order");
    let text = "SELECT `name` FROM `shop_user` WHERE `id` = ? LIMIT ?";
    assert!(transaction.spans[1..].iter().all(|span| span.db_query.as_deref() == Some(text)));
    assert!(transaction.spans[1..].iter().all(|span| span.name == "SELECT shop_user"));
    let [warning] = &transaction.warnings[..] else { panic!("{:#?}", transaction.warnings) };
    assert_eq!((warning.kind, warning.count), (WarningKind::RepeatedCalls, 20));
    assert_eq!(warning.db_query.as_deref(), Some(text));
    assert_eq!(warning.duration_ns, 20 * 2_000);
    assert_eq!(warning.call_site.as_ref().and_then(|site| site.line), Some(42));
}

#[test]
fn error_number_over_any_segmentation() {
    for cut in 1..ERROR_1146.len() {
        let mut player = serving();
        player.statement(7, "SELECT * FROM nosuch", None);
        player.write(DB, &command("SELECT * FROM nosuch"));
        player.read(DB, &ERROR_1146[..cut]);
        player.read(DB, &ERROR_1146[cut..]);
        let span = &answered(&mut player).spans[0];
        assert_eq!(span.error_type.as_deref(), Some("1146"));
        assert!(span.reply_seen);
        assert_eq!(span.duration_ns, 3_000);
        assert!(span.stack.is_empty());
    }
}

#[test]
fn rows_read_later_extend_the_span() {
    let mut player = serving();
    player.query("SELECT * FROM big", ROWS, None);
    for _ in 0..5 {
        player.step();
        player.call(DB, In, &[b'r'; 4000], 256, 0);
    }
    player.step();
    player.step();
    let span = &answered(&mut player).spans[0];
    assert_eq!(span.duration_ns, 7_000);
    assert!(span.reply_seen);
}

#[test]
fn nested_library_calls_are_one() {
    let mut player = serving();
    player.statement(7, "SELECT 1 FROM a", None);
    player.query("SELECT 1 FROM a", ROWS, None);
    player.query("SELECT 1 FROM a", ROWS, None);
    assert_eq!(answered(&mut player).spans.len(), 2);
    assert_eq!(player.transactions.counts().statement_nested, 1);
}

#[test]
fn commands_without_a_statement_are_not_part_of_the_span_before() {
    let mut player = serving();
    player.query("SELECT 1 FROM a", ROWS, None);
    player.write(DB, b"\x01\0\0\0\x0e");
    player.step();
    player.read(DB, OK);
    let span = &answered(&mut player).spans[0];
    assert_eq!(span.duration_ns, 2_000);
}

#[test]
fn other_clients_between_statement_and_reply_are_not_taken_for_the_database() {
    let mut player = serving();
    player.open(3);
    player.query("SELECT 1 FROM a", ROWS, None);
    // Asked for, but never sent: the library found its connection dead.
    player.statement(7, "SELECT 2 FROM a", None);
    player.write(3, b"*1\r\n$4\r\nPING\r\n");
    player.read(3, b"+PONG\r\n");
    let spans = &answered(&mut player).spans;
    assert_eq!(spans.len(), 3);
    assert!(!spans[1].reply_seen);
    assert_eq!(spans[1].duration_ns, 0);
    assert_eq!(spans[1].server_port, None);
    assert_eq!(spans[2].db_query.as_deref(), Some("PING"));
}

#[test]
fn encrypted_replies_have_times_but_no_result() {
    let mut player = serving();
    player.statement(7, "SELECT 1 FROM a", None);
    player.write(DB, b"\x17\x03\x03\x00\x30................................................");
    player.read(DB, b"\x17\x03\x03\x00\x10................");
    let span = &answered(&mut player).spans[0];
    assert_eq!(span.duration_ns, 2_000);
    assert!(!span.reply_seen);
    assert_eq!(span.error_type, None);
    assert_eq!(span.server_port, Some(3306));
}

#[test]
fn unix_socket_has_no_address() {
    let mut player = Player::new();
    player.open(WEB);
    player.open_with(DB, Endpoint::Unix);
    player.read(WEB, GET);
    player.query("SELECT 1 FROM a", ROWS, None);
    let span = &answered(&mut player).spans[0];
    assert_eq!((span.server_address.as_deref(), span.server_port), (None, None));
    assert!(span.reply_seen);
}

#[test]
fn connection_made_before_the_request_and_its_hint() {
    let mut player = Player::new();
    player.open(WEB);
    player.open(DB);
    player
        .read(DB, b"\x4a\0\0\0\x0a5.5.5-10.11.6-MariaDB....................................................");
    let hint = player.out.hints.iter().find(|hint| hint.connection.0 == DB).copied();
    assert_eq!(hint.map(|hint| (hint.want_in, hint.want_out)), Some((8192, 4096)));
    player.query("SET autocommit=0", OK, None);
    assert_eq!(player.transactions.counts().span_unplaced, 1);
    player.read(WEB, GET);
    player.query("COMMIT", OK, None);
    let transaction = answered(&mut player);
    assert_eq!(transaction.spans.len(), 1);
    assert_eq!(transaction.spans[0].name, "COMMIT");
}

#[test]
fn statement_of_two_packets_each_way() {
    let mut player = serving();
    let text = "INSERT INTO t VALUES (1, 'x'), (2, 'y')";
    player.statement(7, text, None);
    let packet = command(text);
    player.write(DB, &packet[..5]);
    player.write(DB, &packet[5..]);
    player.read(DB, OK);
    let span = &answered(&mut player).spans[0];
    assert_eq!(span.duration_ns, 3_000);
    assert_eq!(span.db_query.as_deref(), Some("INSERT INTO t VALUES (?, ?)"));
}

#[test]
fn local_infile_waits_for_the_second_reply() {
    let mut player = serving();
    player.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", b"\x05\0\0\x01\xfb/tmp", None);
    player.write(DB, b"\x03\0\0\x02a,b\0\0\0\x03");
    player.read(DB, b"\x09\0\0\x04\xff\x7a\x04#42S02");
    let span = &answered(&mut player).spans[0];
    assert_eq!(span.error_type.as_deref(), Some("1146"));
    assert_eq!(span.duration_ns, 4_000);
}

#[test]
fn cut_off_while_waiting_for_the_database() {
    let mut player = serving();
    player.statement(7, "SELECT SLEEP(100)", None);
    player.write(DB, &command("SELECT SLEEP(100)"));
    let active = player.transactions.active(player.now_ns + 5_000);
    assert_eq!(active.len(), 1);
    assert_eq!(active[0].name, "GET /a");
    let waiting = Doing::Statement { text: "SELECT SLEEP(?)".into(), elapsed_ns: 6_000 };
    assert_eq!(active[0].doing, waiting);
    player.step();
    player.event(Body::Exit, None);
    let transaction = player.only();
    assert_eq!(transaction.outcome, Outcome::WorkerExited);
    assert_eq!(transaction.spans[0].duration_ns, 2_000);
    assert!(!transaction.spans[0].reply_seen);
}

#[test]
fn lost_reply_bytes_are_unknown_not_success() {
    let mut player = serving();
    player.query("SELECT 1 FROM a", ROWS, None);
    player.statement(7, "SELECT 2 FROM a", None);
    player.write(DB, &command("SELECT 2 FROM a"));
    player.lose(DB, In, 10);
    player.read(DB, ROWS);
    let spans = &answered(&mut player).spans;
    assert!(spans[0].reply_seen);
    assert!(!spans[1].reply_seen);
    assert_eq!(spans[1].duration_ns, 3_000);
}

#[test]
fn handle_moves_to_a_new_connection() {
    let mut player = serving();
    player.query("SELECT 1 FROM a", ROWS, None);
    player.write(DB, b"\x01\0\0\0\x01");
    player.close(DB);
    player.open(4);
    player.statement(7, "SELECT 2 FROM a", None);
    player.write(4, &command("SELECT 2 FROM a"));
    player.read(4, ERROR_1146);
    let spans = &answered(&mut player).spans;
    assert_eq!(spans[0].error_type, None);
    assert_eq!(spans[1].error_type.as_deref(), Some("1146"));
}

#[test]
fn database_connection_that_breaks() {
    let mut player = serving();
    player.statement(7, "SELECT 1 FROM a", None);
    player.write(DB, &command("SELECT 1 FROM a"));
    player.ended(DB, In, true);
    player.close(DB);
    player.ended(DB, Out, true);
    let span = &answered(&mut player).spans[0];
    assert!(!span.reply_seen);
}
