//! The unix socket of the service, for the live view: requests and answers of `pyapm_model::service`, JSON, one object a
//! line. Whoever may open it sees what the live view shows.
//!
//! A client can neither slow the service down nor make it grow: there are so many and no more, each asks one
//! thing at a time, in a bounded length, and has a bounded time to say first what it wants; only the newest answer waits for
//! it, and one that does not take it is left.

mod bind;
mod client;
mod connect;
mod view;

pub use bind::Socket;
pub use connect::{Connection, ConnectionError};
