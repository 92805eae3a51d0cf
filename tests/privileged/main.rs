//! Tests that need root and a kernel: the built binary against real applications, one file per subject. Run one at a
//! time (`--test-threads=1`): they saturate the machine.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helping functions too")]

mod application;
mod blocked_loops;
mod capabilities;
mod contained;
mod conversations;
mod discovery;
mod drivers;
mod drivers_async;
mod dump;
mod errors;
mod exports_otlp;
mod exports_prometheus;
mod exports_push;
mod history;
mod input;
mod late_libraries;
mod loops;
mod losses;
mod private;
mod pythons;
mod queues;
mod record;
mod routes;
mod servers;
mod service;
mod socket;
mod spans;
mod stacks;
mod stores;
mod streaming;
mod tls;
mod traces;
mod transactions;
mod unchanged;
mod view;
mod waits;
mod waits_in_transactions;
