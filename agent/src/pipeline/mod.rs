//! The wiring: the only room that spawns tasks, makes channels and decides how things start and stop.
//!
//! ```text
//! start     pid -> application, interpreters, loaded and attached probes
//! engine    one owner of all state: ring -> events -> names -> transactions -> store
//! attach    the loop around the engine: timer, ring, signals, outputs, view
//! dump      what all threads are doing now: one look, without an engine
//! run       the service: as attach, for all applications that the rules name, told to exports
//! top       the view of what the service watches, over its socket
//! record    lifecycle and samples alone -> names -> a profile -> a file
//! ```
//!
//! One task owns the engine; nothing is shared. The only channel is a `watch` of snapshots to the view:
//! it holds the newest alone, so a slow terminal skips snapshots and holds nobody up.

mod agents;
mod attach;
mod clock;
mod code_deaths;
mod drivers;
mod dump;
mod engine;
mod exceptions;
mod loops;
mod record;
mod routes;
mod run;
mod snapshot;
mod sqlite;
mod start;
mod stop;
mod tasks;
mod tls;
mod top;

pub use attach::attach;
pub use dump::dump;
pub use record::record;
pub use run::run;
pub use start::{StartError, try_load};
pub use top::top;
