//! The kernel half, as userspace sees it: load, attach, and the one narrow door by which userspace writes
//! kernel maps. Knows nothing of what the records mean.

mod attach;
mod exceptions;
mod exit_site;
mod load;
mod logs;
mod mapped;
mod raise_site;
mod resolver;
mod site;
mod sqlite;
mod tables;
mod tasks;
mod tls;
mod tracefs;
mod tracepoint;
mod verify;

pub use attach::UprobeSite;
pub use exceptions::ExceptionProbe;
pub use load::{OffCpu, ProbeError, Probes, Ring, Setup};
pub use logs::Logs;
pub use raise_site::{Passes, RaiseOffsets, RaiseSite, find as find_raise_site};
pub use resolver::ResolverSites;
pub use site::{Site, SiteError, at as site_at, find as find_site, find_at as find_site_at};
pub use sqlite::{SqliteFile, SqlitePlan, SqliteProbe, SqliteProgram, sqlite_plan};
pub use tables::{Counts, Tables};
pub use tasks::TaskProbe;
pub use tls::{TlsFile, TlsFunction, TlsPlan, TlsProbe, TlsProgram, TlsWay, tls_plan};
