//! From the ring buffer's bytes to typed events. Drains and decodes; knows no process, and
//! keeps no state but the first parts of stacks whose last has not come.
//!
//! Order: events of one thread come in the order in which the thread made them, and a fork before anything
//! of the child, because ring space is reserved by the acting thread itself. Rooms further on rely on
//! nothing more.

mod decode;
mod event;
mod exception;
mod parts;
mod ring;
mod task;

pub use decode::{DecodeError, decode, left};
pub use event::{
    Body, ConnectionId, Content, Context, Direction, Endpoint, Event, Exception, ExceptionId, Gap, Greenlet,
    Io, Left, Library, LookedUp, Native, OffCpu, Relation, Sequence, StackId, StackPart, StackStatus,
    Statement, StatementStep, Step, Value,
};
pub use ring::{Delivered, Reader};
pub use task::{TaskBegun, TaskDone, TaskLeft};
