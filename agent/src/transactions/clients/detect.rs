//! Which protocol a connection speaks, by the first bytes of a call. A peer's port is no proof.

use super::Protocol;
use super::http::Http;
use crate::intake::Direction;
use crate::transactions::http::{Likeness, request_likeness};

/// A parser for the protocol, fed with nothing yet; `None` while it is not known. `head` are the first bytes
/// of the `moved` bytes of one call; `opening` says that they are the connection's first.
#[must_use]
pub fn detect(head: &[u8], _moved: u32, direction: Direction, _opening: bool) -> Option<Box<dyn Protocol>> {
    match direction {
        Direction::Out if request_likeness(head) == Likeness::Yes => Some(Box::new(Http::default())),
        _ => None,
    }
}
