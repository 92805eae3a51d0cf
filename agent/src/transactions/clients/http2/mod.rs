//! HTTP/2 as a client speaks it (RFC 9113), in clear by prior knowledge or inside TLS: each stream that the client
//! begins is one call, with as many at once as the connection carries.
//!
//! - [`client`]: streams, from the frames of both directions.
//! - [`frames`]: headers of frames, and what frames carry besides their padding.
//! - [`hpack`]: fields of header blocks (RFC 7541), as somebody reads them who may not have been there from the beginning.
//!
//! Bodies are counted and not looked at; of the fields, only those that name a call or say how it went are kept. An
//! upgrade from HTTP/1.1 (`Upgrade: h2c`, which RFC 9113 has done away with) is not followed.

mod client;
mod frames;
mod hpack;

pub use client::Http2;
pub(super) use frames::{begins, continues};
