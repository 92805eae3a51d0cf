//! Figures that leave their bounds: watched as they come, told in the log and to a webhook.
//!
//! - [`window`]: the last seconds of an application or route.
//! - [`rule`]: whether a figure is out of bounds for long enough; pure.
//! - [`message`]: what a receiver is sent.
//! - [`board`]: what fires and what has lately, for views.
//! - [`webhook`]: the receiver, the queue before it, and when it is tried again.

mod board;
mod message;
mod rule;
mod run;
mod webhook;
mod window;

pub use run::{has_rules, run, wants_live};
