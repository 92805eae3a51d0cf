//! Redis, in the protocol's versions 2 and 3 (`redis.io/docs/reference/protocol-spec`): command and the pattern
//! of its key. Values are stepped over, and keys are kept without what makes them many.

mod client;
mod commands;
mod reply;
mod request;
mod task;

pub use client::Redis;
pub use request::begins;
