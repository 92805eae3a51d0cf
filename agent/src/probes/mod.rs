//! The kernel half, as userspace sees it: load, attach, and the one narrow door by which userspace writes
//! kernel maps. Knows nothing of what the records mean.

mod attach;
mod load;
mod logs;
mod mapped;
mod site;
mod tables;
mod tracefs;
mod tracepoint;

pub use attach::UprobeSite;
pub use load::{OffCpu, ProbeError, Probes, Ring, Setup};
pub use logs::Logs;
pub use site::{Site, SiteError, find as find_site};
pub use tables::{Counts, Tables};
