//! The MySQL client protocol, as far as a statement's reply needs it: did it fail, and with which number.
//! Nothing of results is read.

mod reply;

pub use reply::{Reply, Verdict, carries_statement};
