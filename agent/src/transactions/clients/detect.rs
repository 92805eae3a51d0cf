//! Which protocol a connection speaks, by the first bytes of a call. A peer's port is no proof.

use super::Protocol;
use super::amqp::{self, Amqp};
use super::http::Http;
use super::http2::{self, Http2};
use super::kafka::{self, Kafka};
use super::memcached::{self, Memcached};
use super::mongodb::{self, Mongodb};
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
    if http2::begins(head) {
        return Some(Box::new(Http2::opening()));
    }
    if http2::continues(head, moved) {
        return Some(Box::new(Http2::in_the_middle()));
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
    if mongodb::begins(head, moved) {
        return Some(Box::new(Mongodb::new(opening)));
    }
    if kafka::begins(head, moved, opening) {
        return Some(Box::new(Kafka::new(opening)));
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

/// A parser by the name of a fuzzing target, see `transactions::fuzz`.
#[must_use]
pub fn named(name: &str) -> Option<Box<dyn Protocol>> {
    Some(match name {
        "amqp" => Box::new(Amqp::opening()),
        "amqp-middle" => Box::new(Amqp::in_the_middle()),
        "mysql" => Box::new(Mysql::opening()),
        "mysql-middle" => Box::new(Mysql::in_the_middle()),
        "postgresql" => Box::new(Postgresql::opening()),
        "postgresql-middle" => Box::new(Postgresql::in_the_middle()),
        "redis" => Box::new(Redis::default()),
        "mongodb" => Box::new(Mongodb::new(true)),
        "kafka" => Box::new(Kafka::new(true)),
        "memcached" => Box::new(Memcached::default()),
        "http-client" => Box::new(Http::default()),
        "http2-client" => Box::new(Http2::opening()),
        "http2-client-middle" => Box::new(Http2::in_the_middle()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a consumer asks first on a connection that is older than the attach (kafka-python 2.3).
    #[test]
    fn kafka_in_the_middle() {
        let head = b"\0\0\0A\0\x02\0\x05\0\0\0\x03\0\x12kafka-python-2.3.3\xff\xff\xff\xff\0\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        let moved = u32::try_from(head.len()).unwrap();
        assert_eq!(moved, 69);
        let found = detect(head, moved, Direction::Out, false).map(|protocol| protocol.system());
        assert_eq!(found, Some("kafka"));
    }
}
