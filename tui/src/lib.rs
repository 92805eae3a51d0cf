//! The live terminal view: draws [`Snapshot`](pyapm_model::snapshot::Snapshot)s, one after the other, and
//! lets a person sort, filter and pause them, and look into them. It knows the model only: not how anything was measured, not
//! where a snapshot comes from ([`Source`]), and it keeps no figures of its own but the dots of the X-View.
//!
//! ```text
//! keyboard, mouse --keys--> Message --update--> State --view--> terminal
//! Source -------------------^          |
//!    ^---------------- asks -----------+
//! ```
//!
//! One loop ([`run`]) owns the state; everything reaches it as a message, and it draws at most thirty times a second.

mod canvas;
pub mod format;
mod keyboard;
pub mod keys;
mod run;
mod source;
pub mod state;
mod terminal;
mod theme;
pub mod update;
mod view;

#[cfg(test)]
mod fixture;

pub use canvas::Canvas;
pub use run::{Exit, ViewOptions, run};
pub use source::{Delivery, Local, Source};
pub use theme::Palette;
