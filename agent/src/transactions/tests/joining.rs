//! Two applications, one connection between them, seen from both ends.

use super::*;
use crate::intake::Sequence;
use crate::targets::ApplicationId;
use crate::transactions::{Applications, FinishedTransaction, Joining};
use pyapm_model::line::TraceSource;

const A: ApplicationId = ApplicationId(1);
const B: ApplicationId = ApplicationId(2);
/// A's connection to B, and B's from A.
const TO_B: u64 = 21;
const FROM_A: u64 = 22;
const MS: u64 = 1_000_000;

const ASK: &[u8] = b"GET /leaf/7 HTTP/1.1\r\nHost: b\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Both {
    a: Player,
    b: Player,
    joining: Joining,
}

impl Applications for (&mut Player, &mut Player) {
    fn transactions(&mut self, application: ApplicationId) -> Option<&mut Transactions> {
        match application {
            A => Some(&mut self.0.transactions),
            B => Some(&mut self.1.transactions),
            _ => None,
        }
    }
}

fn end(address: [u8; 4], port: u16) -> Endpoint {
    Endpoint::Inet { address: address.into(), port }
}

impl Both {
    /// `passed` bytes went from A to B before B was watched. TCP's numbers go round in the third request.
    fn new(client: [u8; 4], passed: u32) -> Self {
        let mut both = Self { a: Player::new(), b: Player::new(), joining: Joining::default() };
        let base = u32::MAX - 40;
        let (local, peer) = (end(client, 40_000), end([127, 0, 0, 1], 8000));
        let of = |sent, received| Some(Sequence { sent, received });
        let (connection, fd) = (ConnectionId(TO_B), 5);
        let opened =
            Body::ConnectionOpened { connection, fd, local, peer, sequence: of(base, 9), unread_ns: None };
        both.a.event(opened, None);
        both.joining.address(local);
        let connection = ConnectionId(FROM_A);
        let sequence = of(9, base.wrapping_add(passed));
        let opened =
            Body::ConnectionOpened { connection, fd, local: peer, peer: local, sequence, unread_ns: None };
        both.b.event(opened, None);
        both.a.transactions.finisher.ids = super::super::ids::Ids::new(77);
        both
    }

    /// What has ended, with its place.
    fn due(&mut self, now_ns: u64) -> Vec<(ApplicationId, FinishedTransaction)> {
        for (id, player) in [(A, &mut self.a), (B, &mut self.b)] {
            for made in player.transactions.made() {
                self.joining.call(id, made);
            }
            for finished in player.out.finished.drain(..) {
                self.joining.ended(id, finished);
            }
        }
        self.joining.due(now_ns, &mut (&mut self.a, &mut self.b))
    }

    fn a_is_asked(&mut self, extra: &str) {
        self.a.read(WEB, format!("GET /ask HTTP/1.1\r\nHost: a\r\n{extra}\r\n").as_bytes());
    }
}

#[test]
fn the_span_of_the_caller_is_the_parent_of_every_request_on_the_connection() {
    let mut both = Both::new([127, 0, 0, 1], 0);
    for turn in 0..3 {
        both.a_is_asked("");
        both.a.write(TO_B, ASK);
        both.b.read(FROM_A, ASK);
        both.b.write(FROM_A, ANSWER);
        let [(B, leaf)] = &both.due(both.b.now_ns)[..] else { panic!("B's has ended and A's has not") };
        let leaf = leaf.transaction.clone();
        both.a.read(TO_B, ANSWER);
        both.a.write(WEB, ANSWER);
        let [(A, asked)] = &both.due(both.a.now_ns)[..] else { panic!("A's has ended") };
        let asked = &asked.transaction;
        assert_eq!(leaf.trace_id, asked.trace_id, "turn {turn}");
        assert_eq!(leaf.parent_span_id.as_deref(), Some(asked.spans[0].span_id.as_str()));
        assert_eq!((leaf.trace_source, asked.trace_source), (Some(TraceSource::Connection), None));
    }
}

#[test]
fn a_connection_that_is_older_for_one_end_than_for_the_other() {
    let mut both = Both::new([127, 0, 0, 1], u32::try_from(ASK.len()).unwrap());
    // B has not seen the first.
    both.a_is_asked("");
    both.a.write(TO_B, ASK);
    both.a.read(TO_B, ANSWER);
    both.a.write(WEB, ANSWER);
    let first = both.due(both.a.now_ns).remove(0).1.transaction;
    both.a_is_asked("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n");
    both.a.write(TO_B, ASK);
    both.b.read(FROM_A, ASK);
    both.b.write(FROM_A, ANSWER);
    let leaf = both.due(both.b.now_ns).remove(0).1.transaction;
    assert_eq!(leaf.trace_id, "0af7651916cd43dd8448eb211c80319c", "A's own caller's");
    assert_ne!(leaf.parent_span_id.as_deref(), Some(first.spans[0].span_id.as_str()));
    assert!(leaf.parent_span_id.is_some());
}

#[test]
fn a_caller_that_is_told_late_is_waited_for_but_not_for_long() {
    let mut both = Both::new([127, 0, 0, 1], 0);
    // Somebody has called before: from then on it may come.
    both.a_is_asked("");
    both.a.write(TO_B, ASK);
    assert!(both.due(both.a.now_ns).is_empty());
    both.b.read(FROM_A, ASK);
    both.b.write(FROM_A, ANSWER);
    assert_eq!(both.due(both.b.now_ns).len(), 1);
    both.b.read(FROM_A, ASK);
    both.b.write(FROM_A, ANSWER);
    assert!(both.due(both.b.now_ns).is_empty(), "it waits");
    both.a.read(TO_B, ANSWER);
    both.a.write(TO_B, ASK);
    let (_, leaf) = both.due(both.b.now_ns).remove(0);
    assert!(leaf.transaction.parent_span_id.is_some());
    both.b.read(FROM_A, ASK);
    both.b.write(FROM_A, ANSWER);
    assert!(both.due(both.b.now_ns + 400 * MS).is_empty());
    let (_, leaf) = both.due(both.b.now_ns + 600 * MS).remove(0);
    assert_eq!((leaf.transaction.parent_span_id, leaf.transaction.trace_source), (None, None));
}

#[test]
fn who_comes_from_elsewhere_is_not_waited_for() {
    let mut both = Both::new([127, 0, 0, 1], 0);
    both.a_is_asked("");
    both.a.write(TO_B, ASK);
    assert!(both.due(both.a.now_ns).is_empty());
    // Another client, on another host.
    let connection = ConnectionId(30);
    let (local, peer) = (end([10, 0, 0, 1], 8000), end([10, 0, 0, 9], 40_000));
    let sequence = Some(Sequence { sent: 1, received: u32::MAX - 40 });
    both.b.event(Body::ConnectionOpened { connection, fd: 6, local, peer, sequence, unread_ns: None }, None);
    both.b.read(30, ASK);
    both.b.write(30, ANSWER);
    let (_, leaf) = both.due(both.b.now_ns).remove(0);
    assert_eq!(leaf.transaction.parent_span_id, None);
}

#[test]
fn a_header_counts_for_more_than_the_connection() {
    let mut both = Both::new([127, 0, 0, 1], 0);
    let ask = b"GET /leaf/7 HTTP/1.1\r\nb3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1\r\n\r\n";
    both.a_is_asked("");
    both.a.write(TO_B, ask);
    both.b.read(FROM_A, ask);
    both.b.write(FROM_A, ANSWER);
    let leaf = both.due(both.b.now_ns).remove(0).1.transaction;
    assert_eq!(leaf.parent_span_id.as_deref(), Some("b7ad6b7169203331"));
    assert_eq!((leaf.trace_source, leaf.trace_sampled), (Some(TraceSource::B3), Some(true)));
}

#[test]
fn a_call_of_nobody_is_no_parent() {
    let mut both = Both::new([127, 0, 0, 1], 0);
    both.a.write(TO_B, ASK);
    both.b.read(FROM_A, ASK);
    both.b.write(FROM_A, ANSWER);
    let leaf = both.due(both.b.now_ns).remove(0).1.transaction;
    assert_eq!((leaf.parent_span_id, leaf.trace_source), (None, None));
}
