//! The finished vocabulary that every output speaks. Plain data with public fields; no I/O, no clocks,
//! no knowledge of how anything was measured.
//!
//! [`line`](mod@line) is the JSON lines contract, [`snapshot`] the state that views draw, [`recent`] the latest
//! transactions one by one, [`service`] what the service says
//! of itself and its applications, [`dump`] what all threads are doing at one moment, [`report`] what the history says of a
//! past window, [`error`] exceptions, [`task`] what a queue's worker was handed.

pub mod definition;
pub mod dump;
pub mod error;
pub mod line;
pub mod metric;
pub mod recent;
pub mod report;
pub mod service;
pub mod snapshot;
pub mod stack;
pub mod task;
