//! Transactions as lines of JSON in a file, or on stdout.
//!
//! - [`run`]: which are written.
//! - [`file`]: the file, and when it is put aside.

mod file;
mod run;

pub use run::run;
