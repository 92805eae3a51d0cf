//! Which protocol a connection speaks, by the first bytes of a call. A peer's port is no proof.

use super::Protocol;
use super::amqp::{self, Amqp};
use super::http::Http;
use super::memcached::{self, Memcached};
use super::mysql::{self, Mysql};
use super::postgresql::{self, Postgresql};
use super::redis::{self, Redis};
use crate::intake::Direction;
use crate::transactions::http::{Likeness, request_likeness};

/// A parser for the protocol, fed with nothing yet; `None` while it is not known. `head` are the first bytes
/// of the `moved` bytes of one call; `opening` says that they are the connection's first.
#[must_use]
pub fn detect(head: &[u8], moved: u32, direction: Direction, opening: bool) -> Option<Box<dyn Protocol>> {
    let moved = u64::from(moved);
    if direction == Direction::In {
        // In all other protocols the client speaks first.
        let greeted = opening && mysql::begins(head, moved);
        return greeted.then(|| Box::new(Mysql::opening()) as Box<dyn Protocol>);
    }
    if request_likeness(head) == Likeness::Yes {
        return Some(Box::new(Http::default()));
    }
    if redis::begins(head) {
        return Some(Box::new(Redis::default()));
    }
    if opening && amqp::begins(head) {
        return Some(Box::new(Amqp::opening()));
    }
    if amqp::continues(head, moved) {
        return Some(Box::new(Amqp::in_the_middle()));
    }
    if memcached::begins(head) {
        return Some(Box::new(Memcached::default()));
    }
    if opening && postgresql::begins(head, moved) {
        return Some(Box::new(Postgresql::opening()));
    }
    if postgresql::continues(head, moved) {
        return Some(Box::new(Postgresql::in_the_middle()));
    }
    if mysql::continues(head, moved) {
        return Some(Box::new(Mysql::in_the_middle()));
    }
    None
}
