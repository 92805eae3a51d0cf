//! `pyapm run`: the service. It watches the applications that the rules name, for as long as it runs.
//!
//! ```text
//! service   the loop: ring, timer, signals; what follows from each
//! scout     who becomes an application: announcements of the kernel half, and a scan now and then
//! catalog   what is told of each application
//! reload    from one configuration to the next, without a break for what stays
//! health    what the service itself costs, and the budget that sampling gives way to
//! notify    systemd: ready, alive, reloading, stopping
//! exports   who is told: tasks, each with a subscriber
//! ```
//!
//! The engine's loop never waits for anybody: what it publishes goes to bounded channels (`exports::publish`).

mod catalog;
mod exports;
mod health;
mod notify;
mod reload;
mod scout;
mod service;
mod signals;

pub use service::run;
