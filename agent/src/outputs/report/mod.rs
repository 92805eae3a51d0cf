//! A past window for people: [`text`] for terminals and mail, [`html`] for browsers, one file that needs no other. JSON is
//! the model's own form. Nothing is reckoned here.

mod flame;
mod html;
mod page;
mod pieces;
mod tables;
mod text;
mod times;
mod waterfall;

pub use html::html;
pub use text::text;
pub use times::local;
