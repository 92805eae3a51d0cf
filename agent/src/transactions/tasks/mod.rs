//! Work that a process is handed through a pipe, and whose end it tells through another: the pool of Celery's
//! `prefork` workers. Each message is a length and a pickle, of which only the outline is read.
//!
//! - [`pickle`]: a pickle's values, without making one.
//! - [`messages`]: what the messages of the pool say.
//! - [`pool`]: the two pipes of one worker process, as streams.
//! - [`done`]: the end of a task.
//! - [`told`]: tasks that come by no pipe, whose threads tell where they begin and end.
//! - [`sent`]: messages that were sent, by their ids, so that who does the work finds who asked for it.

mod done;
mod messages;
mod pickle;
mod pool;
mod sent;
mod told;

#[cfg(test)]
pub(super) mod tests;

pub use messages::{Delivery, Finished};
pub use pool::{Deliveries, Results, WANT_RESULT, WANT_TASK};
pub use sent::{Link, Sent};
