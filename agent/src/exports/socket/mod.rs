//! The unix socket of the service, for the live view: requests and answers of `pyapm_model::service`, JSON, one object a
//! line. Whoever may open it sees what the live view shows.
//!
//! A client can neither slow the service down nor make it grow: there are so many and no more, each has one request of
//! a bounded length and a bounded time to make it in, only the newest answer waits for it, and one that does not take it
//! is left.

mod bind;
mod client;
mod connect;

pub use bind::Socket;
pub use connect::{Connection, ConnectionError};
