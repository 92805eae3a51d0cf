//! Transactions, metrics, errors and samples as OTLP messages (opentelemetry-proto 1.10). It builds messages; who
//! sends them, when and where to, is elsewhere.
//!
//! - [`resource`]: who speaks: the application, and pyapm as the scope.
//! - [`traces`]: a transaction and its spans.
//! - [`metrics`]: families of metrics.
//! - [`logs`]: errors as log records.
//! - [`profiles`]: samples, linked to the transactions in which they were taken.
//! - [`keep`]: which transactions are sent whole, and how the rest is stood for.

mod attributes;
mod keep;
mod logs;
mod metrics;
mod profiles;
mod resource;
mod traces;

pub use keep::{Keep, Keeper};
pub use logs::logs;
pub(super) use logs::traceback;
pub use metrics::metrics;
pub use profiles::profiles;
pub use resource::About;
pub use traces::traces;

#[cfg(test)]
mod tests;
