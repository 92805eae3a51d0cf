//! HTTP/1.1 message framing of one connection (or, of requests, that of the uwsgi protocol), both directions, from the bytes that system calls moved.
//!
//! It finds where messages begin and end (RFC 9112 section 6) and what the heads say. It never keeps a
//! body, never decodes content, and knows neither threads nor spans: those ride along as a caller's type.

mod body;
mod detect;
mod head;
mod outbound;
mod queued;
mod server;
mod uwsgi;

pub use body::{Body, Progress};
pub use detect::{Likeness, request_likeness, response_likeness};
pub use head::{
    Framing, RequestHead, ResponseHead, host_of, known_method, parse_request, parse_response, path_of,
};
pub use queued::QueueStart;
pub use server::{Ended, Exchange, Part, Requests, Server, Sink};
pub use uwsgi::packet_likeness;
