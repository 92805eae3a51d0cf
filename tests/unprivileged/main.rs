//! Tests that need no root: the command line of the built binary, and the promises of the workloads that the
//! privileged tests stand on.

mod cli;
mod shop;
