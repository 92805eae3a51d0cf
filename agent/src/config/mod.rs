//! The configuration file: what may be set, what each key means and defaults to, what is wrong with a file and where. It
//! knows no process and does nothing: who uses a section is to the right.
//!
//! One section is one struct in one file, made by [`section!`], whose documentation is what `pyapm config init` writes.
//! A new section is a file, and one line in [`sections!`] below.

mod alerts;
mod budget;
mod collection;
mod discovery;
mod file;
mod history;
mod init;
mod log;
mod otlp;
mod patterns;
mod prometheus;
mod section;
mod service;
mod statsd;

pub use alerts::{AlertRule, Alerts};
pub use budget::Budget;
pub use collection::Collection;
pub use discovery::{Discovery, Rule};
pub use file::{ConfigError, Problem, load, parse};
pub use history::History;
pub use init::init;
pub use log::Log;
pub use otlp::Otlp;
pub use patterns::Patterns;
pub use prometheus::Prometheus;
pub use section::{Checked, Described, Key, Wrong};
pub use service::Service;
pub use statsd::Statsd;

use section::sections;

sections! {
    service: Service,
    discovery: Discovery,
    collection: Collection,
    budget: Budget,
    prometheus: Prometheus,
    otlp: Otlp,
    statsd: Statsd,
    log: Log,
    history: History,
    alerts: Alerts,
}
