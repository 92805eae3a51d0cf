//! PostgreSQL's protocol 3 (PostgreSQL 15 manual, chapter 55): simple and extended queries, prepared statements,
//! portals, COPY, pipelines. Rows, values and messages are stepped over; passwords are never looked at.

mod client;
mod messages;
mod replies;
mod requests;

pub use client::Postgresql;
pub use messages::{begins, continues};
