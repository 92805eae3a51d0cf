//! From the ring buffer's bytes to typed events. Drains and decodes; knows no process and keeps no state.

mod event;

pub use event::{
    Body, ConnectionId, Direction, Endpoint, Event, Io, Library, StackId, StackStatus, Statement,
};
