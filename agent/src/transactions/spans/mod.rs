//! Outgoing calls of the application: opened where they are asked for, closed by what comes back.
//!
//! - [`open`]: the spans that have not been given out yet, whoever they belong to.
//! - [`client`]: calls that a protocol's parser sees on a connection.
//! - [`embedded`]: statements of a database that is a library, of which all is told as it happens.
//! - [`statement`]: statements that a driver's function is called with, before they are on the wire.

mod client;
mod embedded;
mod open;
mod statement;
mod streams;

pub use client::{Caller, Client};
pub use embedded::Embedded;
pub use open::{Answer, Asking, OpenSpan, RequestId, SpanId, Spans};
