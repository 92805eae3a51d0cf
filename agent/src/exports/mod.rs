//! What leaves the daemon while it runs: whoever serves, pushes or writes what is published. Each export is a future that
//! is given a [`Subscriber`] and its own part of the configuration; `pipeline` spawns it. How things are written is
//! `outputs`' matter, what they mean everybody's to the left.
//!
//! # To add one
//!
//! 1. `config/NAME.rs`: its section (see `config/service.rs` for the shape), and its line in `config/mod.rs`.
//! 2. `outputs/...`: pure formatting.
//! 3. `exports/NAME.rs`: `pub async fn run(settings: &config::Name, subscriber: Subscriber) -> anyhow::Result<()>`,
//!    which ends when [`Subscriber::next`] gives `None`.
//! 4. `pipeline/run/exports.rs`: one arm that spawns it. An export whose section changes at a reload is ended
//!    (its future is dropped) and started anew with a new subscriber; the others are not touched.

pub mod alerts;
pub mod history;
pub mod http;
pub mod log;
pub mod otlp;
pub mod prometheus;
mod publish;
pub mod socket;
pub mod statsd;

pub use publish::{Alerts, AlertsShown, LINES, Live, Overviews, Published, Publisher, Subscriber};
