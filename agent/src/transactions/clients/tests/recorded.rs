//! Every recording: the calls that it comes to, however its bytes are cut.

use super::{captured, described, folder, played, recording, whole};
use crate::transactions::clients::amqp::Amqp;
use crate::transactions::clients::http2::Http2;
use crate::transactions::clients::kafka::Kafka;
use crate::transactions::clients::memcached::Memcached;
use crate::transactions::clients::mongodb::Mongodb;
use crate::transactions::clients::mysql::Mysql;
use crate::transactions::clients::postgresql::Postgresql;
use crate::transactions::clients::redis::Redis;
use crate::transactions::clients::{Call, Protocol};
use crate::transactions::http::Part;

pub(super) fn parser(name: &str) -> Box<dyn Protocol> {
    match name.split_once('/') {
        Some(("postgresql", _)) => Box::new(Postgresql::opening()),
        Some(("redis", _)) => Box::new(Redis::default()),
        Some(("mysql", _)) => Box::new(Mysql::opening()),
        Some(("amqp", _)) => Box::new(Amqp::opening()),
        Some(("mongodb", _)) => Box::new(Mongodb::new(true)),
        Some(("kafka", _)) => Box::new(Kafka::new(true)),
        Some(("http2", _)) => Box::new(Http2::opening()),
        Some(("memcached", _)) => Box::new(Memcached::default()),
        other => panic!("no protocol for {other:?}"),
    }
}

/// All of them, so that a recording without a test shows.
pub(in crate::transactions) const RECORDINGS: [&str; 18] = [
    "postgresql/psycopg2",
    "postgresql/psycopg3",
    "postgresql/asyncpg",
    "postgresql/pg8000",
    "redis/resp2",
    "redis/resp3",
    "redis/pubsub",
    "mysql/pymysql",
    "mysql/connector",
    "mysql/mysqlclient",
    "memcached/pymemcache",
    "amqp/pika",
    "amqp/kombu",
    "mongodb/pymongo",
    "kafka/kafka-python",
    "kafka/aiokafka-produce",
    "kafka/aiokafka-fetch",
    "http2/httpx",
];

fn for_each(check: impl Fn(&str, super::Exchange)) {
    for name in RECORDINGS {
        check(name, recording(name));
    }
}

#[test]
fn calls() {
    for_each(|name, exchange| {
        let calls = played(parser(name), &exchange, whole);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder());
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name.replace('/', "-"), described(&calls)));
    });
}

#[test]
fn byte_by_byte() {
    for_each(|name, exchange| {
        let expected = played(parser(name), &exchange, whole);
        let calls = played(parser(name), &exchange, |_, bytes| bytes.chunks(1).map(Part::Bytes).collect());
        assert_eq!(described(&calls), described(&expected), "{name}");
    });
}

/// Each run of bytes in two, at every place in turn.
#[test]
fn cut_at_every_byte() {
    for_each(|name, exchange| {
        let expected = described(&played(parser(name), &exchange, whole));
        let longest = exchange.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
        for at in 1..longest {
            let calls = played(parser(name), &exchange, |_, bytes| {
                let (first, second) = bytes.split_at(at.min(bytes.len()));
                [first, second].into_iter().filter(|run| !run.is_empty()).map(Part::Bytes).collect()
            });
            assert_eq!(described(&calls), expected, "{name} cut at {at}");
        }
    });
}

/// A long answer's first bytes and its last ones are enough for the same calls with the same errors.
#[test]
fn as_captured() {
    for_each(|name, exchange| {
        let mut expected = played(parser(name), &exchange, whole);
        let calls = played(parser(name), &exchange, |index, bytes| {
            captured(bytes, if exchange[index].0 { 4096 } else { 1024 })
        });
        // Rows that were not captured are not counted.
        for (expected, call) in expected.iter_mut().zip(&calls) {
            if let (Call::Ended { result: whole, .. }, Call::Ended { result, .. }) = (expected, call)
                && result.rows.is_none()
            {
                whole.rows = None;
            }
        }
        assert_eq!(described(&calls), described(&expected), "{name}");
    });
}
