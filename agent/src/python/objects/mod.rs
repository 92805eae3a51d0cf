//! Python objects out of a target's memory: what they are, what they hold, what their attributes are. Each
//! file reads one kind. Everything is bounded, all or nothing, and believes nothing: an object may be freed
//! while it is read, so what comes out is right only as far as the caller knows that it stayed in place.

mod attribute;
mod dict;
mod function;
mod kind;
mod layout;
mod locals;
mod module;
mod number;
mod repr;
mod sequence;
mod tracked;

pub use dict::Item;
pub(in crate::python) use kind::TP_NAME;
pub use kind::{Kind, Type};
pub use layout::{Managed, Objects, ValueLayout};
pub use locals::Local;
pub use number::Int;
