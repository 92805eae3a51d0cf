//! Tests that need no root: the command line of the built binary, and the promises of the workloads that the
//! privileged tests stand on.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helping functions too")]

mod cli;
mod deployment;
mod otlp;
mod shop;
