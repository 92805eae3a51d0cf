//! AMQP 0-9-1 (`amqp-xml-doc0-9-1` and the specification, with RabbitMQ's extensions): what is published, fetched,
//! delivered and acknowledged, where to, and how large. Bodies are stepped over.
//!
//! - [`client`]: one connection.
//! - [`methods`]: what its methods ask and answer.
//! - [`fields`]: the few types that these are made of, and the properties of a message.

mod client;
mod fields;
mod methods;

pub use client::{Amqp, begins, continues};
