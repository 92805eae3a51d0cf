//! TLS: plaintext as a session's, and which connection carries it.

use super::{DB, OK, Player, WEB, command};
use crate::intake::{Body, ConnectionId, Endpoint};
use pyapm_model::line::Outcome;

const SESSION: u64 = 50;
const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A client's or server's hello, as far as it matters.
const HELLO: &[u8] = &[0x16, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3];

/// What TLS 1.3 makes of content on the connection.
fn enciphered(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 17).unwrap().to_be_bytes();
    let mut record = vec![0x17, 3, 3, length[0], length[1]];
    record.resize(content.len() + 22, 0xa5);
    record
}

fn session(player: &mut Player, session: u64, carrier: Option<u64>) {
    player.step();
    let carrier = carrier.map(ConnectionId);
    player.event(Body::TlsSession { session: ConnectionId(session), carrier }, None);
}

fn web(player: &mut Player, connection: u64, last: u8) {
    player.open_with(connection, Endpoint::Inet { address: [127, 0, 0, last].into(), port: 4000 });
}

fn handshake(player: &mut Player, connection: u64) {
    player.read(connection, HELLO);
    player.write(connection, HELLO);
    player.read(connection, &enciphered(&[0; 30]));
}

/// gunicorn: the library reads and writes the socket itself.
#[test]
fn requests_over_a_carrier_that_is_known() {
    let mut player = Player::new();
    web(&mut player, WEB, 1);
    handshake(&mut player, WEB);
    for round in 0..2 {
        player.read(WEB, &enciphered(REQUEST));
        if round == 0 {
            session(&mut player, SESSION, Some(WEB));
        }
        player.read(SESSION, REQUEST);
        player.write(WEB, &enciphered(RESPONSE));
        player.write(SESSION, RESPONSE);
    }
    player.close(WEB);
    player.close(SESSION);
    let one = || ("GET /a".to_owned(), Some(200), Outcome::Complete);
    assert_eq!(player.summary(), [one(), one()]);
    assert_eq!(player.finished()[0].client_address.as_deref(), Some("127.0.0.1"));
    assert_eq!(player.transactions.counts().not_http, 0);
}

/// asyncio: memory in between, two connections served by one thread at once.
#[test]
fn a_carrier_is_told_by_what_moves() {
    let mut player = Player::new();
    for connection in [WEB, WEB + 1] {
        web(&mut player, connection, u8::try_from(connection).unwrap() + 10);
        handshake(&mut player, connection);
    }
    for connection in [WEB, WEB + 1] {
        player.read(connection, &enciphered(REQUEST));
        session(&mut player, SESSION + connection, None);
        player.read(SESSION + connection, REQUEST);
    }
    for connection in [WEB + 1, WEB] {
        player.write(SESSION + connection, RESPONSE);
        player.write(connection, &enciphered(RESPONSE));
    }
    let clients: Vec<Option<&str>> =
        player.finished().iter().map(|one| one.client_address.as_deref()).collect();
    assert_eq!(clients, [Some("127.0.0.12"), Some("127.0.0.11")]);
}

/// A thread that writes to a session and then elsewhere has told nothing, and what does not fit neither.
#[test]
fn steps_that_do_not_fit_tell_nothing() {
    let mut player = Player::new();
    web(&mut player, WEB, 1);
    handshake(&mut player, WEB);
    player.read(WEB, &[0x17, 3, 3, 0, 19]);
    session(&mut player, SESSION, None);
    player.read(SESSION, REQUEST);
    player.write(SESSION, RESPONSE);
    player.write(WEB, &[0x17; 4000]);
    assert_eq!(player.summary(), [("GET /a".to_owned(), Some(200), Outcome::Complete)]);
    assert_eq!(player.only().client_address, None);
}

/// uvloop reads the first request of a connection some steps later; by then another connection has moved.
#[test]
fn a_read_that_comes_later_takes_no_other_carrier() {
    let mut player = Player::new();
    web(&mut player, WEB, 1);
    web(&mut player, WEB + 1, 2);
    player.read(WEB, HELLO);
    player.write(WEB, HELLO);
    player.read(WEB, &[enciphered(&[0; 36]), enciphered(REQUEST)].concat());
    player.read(WEB + 1, HELLO);
    player.write(WEB + 1, HELLO);
    session(&mut player, SESSION, None);
    player.read(SESSION, REQUEST);
    // The answer says which it is.
    player.write(SESSION, RESPONSE);
    player.write(WEB, &enciphered(RESPONSE));
    player.read(WEB, &enciphered(REQUEST));
    player.read(SESSION, REQUEST);
    player.write(SESSION, RESPONSE);
    let clients: Vec<Option<&str>> =
        player.finished().iter().map(|one| one.client_address.as_deref()).collect();
    assert_eq!(clients, [None, Some("127.0.0.1")]);
}

/// uvloop up to 0.22 sends what several sessions wrote at the end of a turn.
#[test]
fn answers_that_go_out_together_tell_nothing() {
    let mut player = Player::new();
    for connection in [WEB, WEB + 1] {
        web(&mut player, connection, u8::try_from(connection).unwrap());
        handshake(&mut player, connection);
        session(&mut player, SESSION + connection, None);
        player.read(SESSION + connection, REQUEST);
    }
    for _ in 0..2 {
        player.write(SESSION + WEB + 1, RESPONSE);
        player.write(SESSION + WEB, RESPONSE);
        player.write(WEB, &enciphered(RESPONSE));
        player.write(WEB + 1, &enciphered(RESPONSE));
        player.read(SESSION + WEB, REQUEST);
        player.read(SESSION + WEB + 1, REQUEST);
    }
    assert_eq!(player.finished().len(), 4);
    assert!(player.finished().iter().all(|one| one.client_address.is_none()));
}

/// What was inferred and is contradicted is not believed any more, nor anything after.
#[test]
fn a_contradiction_takes_the_belief_away() {
    let mut player = Player::new();
    for connection in [WEB, WEB + 1] {
        web(&mut player, connection, u8::try_from(connection).unwrap());
        handshake(&mut player, connection);
    }
    player.read(WEB, &enciphered(REQUEST));
    session(&mut player, SESSION, None);
    player.read(SESSION, REQUEST);
    for _ in 0..2 {
        player.write(SESSION, RESPONSE);
        player.write(WEB + 1, &enciphered(RESPONSE));
        player.read(SESSION, REQUEST);
    }
    let clients: Vec<Option<&str>> =
        player.finished().iter().map(|one| one.client_address.as_deref()).collect();
    assert_eq!(clients, [Some("127.0.0.1"), None]);
}

/// A response that ends with its connection ends with the carrier.
#[test]
fn the_carrier_ends_its_session() {
    let mut player = Player::new();
    web(&mut player, WEB, 1);
    handshake(&mut player, WEB);
    player.read(WEB, &enciphered(REQUEST));
    session(&mut player, SESSION, Some(WEB));
    player.read(SESSION, REQUEST);
    player.write(SESSION, b"HTTP/1.0 200 OK\r\n\r\nabc");
    assert_eq!(player.finished().len(), 0);
    player.close(WEB);
    assert_eq!(player.summary(), [("GET /a".to_owned(), Some(200), Outcome::Complete)]);
    player.close(SESSION);
    assert_eq!(player.finished().len(), 1);
}

/// MySQL greets in clear and goes on in TLS; also when the attach came after that.
#[test]
fn a_database_that_turns_to_tls() {
    for greeted in [true, false] {
        let mut player = Player::new();
        player.open(WEB);
        player.read(WEB, REQUEST);
        player.open(DB);
        if greeted {
            player.read(DB, b"\x4a\0\0\0\x0a10.11.6-MariaDB\0\x05\0\0\0abcdefgh\0");
            player.write(DB, b"\x20\0\0\x01\x85\xae\x0a\0");
            player.write(DB, HELLO);
            player.read(DB, HELLO);
            player.write(DB, &enciphered(b"login"));
            session(&mut player, SESSION, Some(DB));
            player.write(SESSION, b"\x05\0\0\x02login");
        }
        player.statement(7, "SELECT 1", None);
        player.write(DB, &enciphered(&command("SELECT 1")));
        if !greeted {
            session(&mut player, SESSION, Some(DB));
        }
        player.write(SESSION, &command("SELECT 1"));
        player.read(DB, &enciphered(OK));
        player.read(SESSION, OK);
        player.write(WEB, RESPONSE);
        let transaction = player.only();
        let [span] = &transaction.spans[..] else { panic!("{transaction:#?}") };
        assert!(span.reply_seen, "greeted: {greeted}; {span:#?}");
        assert_eq!(span.server_port, Some(3306));
    }
}

/// A library is followed function by function: what is read shows before what is written does, for as long as that takes.
#[test]
fn a_session_whose_answers_show_first() {
    const ANSWER: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    let mut player = Player::new();
    player.open(WEB);
    player.read(WEB, REQUEST);
    session(&mut player, SESSION, None);
    for _ in 0..20 {
        player.read(SESSION, ANSWER);
    }
    player.write(SESSION, b"Q\0\0\0\x0dSELECT 1\0");
    player.read(SESSION, ANSWER);
    player.write(WEB, RESPONSE);
    let transaction = player.only();
    let [span] = &transaction.spans[..] else { panic!("{transaction:#?}") };
    assert_eq!((span.db_query.as_deref(), span.returned_rows), (Some("SELECT ?"), Some(1)), "{span:#?}");
    assert_eq!(player.transactions.counts().not_http, 0);
}
