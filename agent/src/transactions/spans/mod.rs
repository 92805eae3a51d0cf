//! Outgoing calls of the application: opened where they are asked for, closed by what comes back.
//!
//! - [`open`]: the spans that have not been given out yet, whoever they belong to.
//! - [`client`]: calls that a protocol's parser sees on a connection.
//! - [`statement`]: statements that a driver's function is called with, before they are on the wire.

mod client;
mod open;
mod statement;

pub use client::{Caller, Client};
pub use open::{Answer, Asking, OpenSpan, RequestId, SpanId, Spans};
