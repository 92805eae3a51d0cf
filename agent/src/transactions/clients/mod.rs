//! What the process asks of others: client protocols as pure, incremental parsers of one connection's
//! bytes. They find where calls begin and end and what became of them; they know neither threads nor
//! requests nor time.
//!
//! - [`calls`]: what every protocol's parser is, and what it says.
//! - [`detect`]: which protocol a connection speaks, by its first bytes.
//! - [`frames`]: messages that say their length in a header, which most binary protocols have.
//! - [`key`]: the patterns of keys.
//! - one file or folder for each protocol.
//!
//! Calls of protocols that answer in order have tag 0; a parser then says when a call begins and ends, and
//! whoever feeds it knows that the bytes between belong to the oldest.

mod amqp;
mod calls;
mod detect;
pub(super) mod frames;
mod http;
mod http2;
mod kafka;
mod key;
mod memcached;
mod mongodb;
mod mysql;
mod postgresql;
mod redis;

#[cfg(test)]
pub(super) mod tests;

pub use calls::{Call, CallResult, Calls, Operation, Protocol, Purpose, Wants};
pub use detect::{detect, named};
pub use mysql::{Mysql, carries_statement};
