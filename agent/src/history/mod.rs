//! What is kept of the past: an SQLite database that the service writes minute by minute and `pyapm report` reads,
//! also while it is being written. It is bounded by size and age, and whole after any end of its writer.
//!
//! - [`schema`]: the file, its tables, who may open it.
//! - [`minutes`], [`whole`]: what is added up before it is written; pure.
//! - [`commit`], [`prune`]: how it gets into the file, and out of it.
//! - [`writer`]: the thread that does it.
//! - [`read`], [`figures`], [`compare`]: what a window of time was like.
//!
//! It draws nothing and decides nothing about times as people write them.

mod commit;
mod compare;
mod error;
mod figures;
mod functions;
mod minutes;
mod packed;
mod prune;
mod read;
mod schema;
mod whole;
mod writer;

pub use error::HistoryError;
pub use read::{History, Query};
pub use writer::{Entry, Refused, Writer};

#[cfg(test)]
mod tests;
