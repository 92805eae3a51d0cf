//! What the process asks of others: client protocols as pure, incremental parsers of one connection's
//! bytes. They find where calls begin and end and what became of them; they know neither threads nor
//! requests nor time.
//!
//! - [`calls`]: what every protocol's parser is, and what it says.
//! - [`detect`]: which protocol a connection speaks, by its first bytes.
//! - one file or folder for each protocol.

mod calls;
mod detect;
mod http;

pub use calls::{Call, CallResult, Calls, Operation, Protocol, Wants};
pub use detect::detect;
