//! Which request an event belongs to: the only place that answers this.
//!
//! - [`place`]: puts spans and samples where they belong.
//! - [`thread`]: one request a thread at a time.
//! - [`lineage`]: many requests on one thread (asyncio, uvloop, greenlets).
//! - [`greenlets`]: the greenlets of one process, and who made which.
//! - [`handed`]: requests that one thread reads and others answer (waitress).
//! - [`loop_time`], [`worked`], [`shown`]: for whom an event loop's thread works, and since when.
//! - [`ancestry`]: the contexts of one process, and what was made from what.
//! - [`served`]: its requests, and when each was the one being worked on.
//! - [`lingering`]: requests that have been answered and are not given out yet.

mod ancestry;
mod greenlets;
mod handed;
mod lineage;
mod lingering;
mod loop_time;
mod place;
mod served;
mod shown;
#[cfg(test)]
mod tests;
mod thread;
mod worked;

pub use lingering::Lingering;
pub use loop_time::{LoopTime, Stretch, Within};
pub use place::{Lineages, Pools};
