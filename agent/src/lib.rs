//! The userspace half of pyapm, as rooms in a row. Data flows from left to right only; a room imports only
//! from its left (`cargo xtask tidy` holds this). `pipeline` and `cli` may import all.
//!
//! ```text
//! telemetry, config, binaries, host -> probes -> intake -> targets -> python -> symbols
//!     -> native -> profile -> frameworks -> transactions -> store -> history -> outputs -> exports
//! ```
//!
//! The single return path is `probes::tables`: userspace writes kernel maps through it, control, never data.

pub mod binaries;
pub mod cli;
pub mod config;
pub mod exports;
pub mod frameworks;
pub mod history;
pub mod host;
pub mod intake;
pub mod native;
pub mod outputs;
pub mod pipeline;
pub mod probes;
pub mod profile;
pub mod python;
pub mod store;
pub mod symbols;
pub mod targets;
pub mod telemetry;
pub mod transactions;
