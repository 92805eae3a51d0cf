//! The readers of what was measured: [`json`] writes it for machines, line by line as it happens; [`text`]
//! writes a snapshot for people where there is no terminal,
//! [`dump`] what all threads are doing, in either form, [`prometheus`] metrics for a scraper,
//! [`statsd`] for a server that they are pushed to, [`otlp`] everything for OpenTelemetry, [`log_line`] transactions for log systems, [`report`](mod@report) a past window for people. They format and write; they count, keep and
//! decide nothing. The live view is the package `pyapm-tui`.

pub mod dump;
pub mod json;
pub mod log_line;
pub mod otlp;
pub mod profile;
pub mod prometheus;
pub mod report;
pub mod statsd;
pub mod text;
