//! Which processes are watched, and as what: from one pid to the whole application, and who joins and leaves it
//! later; and what the kernel says of their threads and open files. Knows `/proc` and command lines; knows nothing of
//! interpreter state or of probes.

mod application;
mod calls;
mod consumption;
mod descriptors;
mod discover;
mod environment;
mod error;
mod interpreter;
mod invocation;
mod libraries;
mod listening;
#[cfg(test)]
mod live;
mod pool;
mod process;
mod procfs;
mod registry;
mod residence;
mod rules;
mod usage;
mod waits;

pub use application::{Application, Member, Server};
pub use calls::{Place, SystemCall, Waits};
pub use consumption::{Consumed, Consumption, Spent};
pub use descriptors::Descriptors;
pub use discover::{Discovery, Survey};
pub use error::TargetError;
pub use interpreter::Interpreters;
pub use invocation::printable;
pub use libraries::{Libraries, Library, LibraryKind, LibraryUser, libraries};
pub use listening::Listening;
pub use pool::pool_pipes;
pub use process::ProcessKey;
pub use procfs::{Layout, ProcFs, Stat};
pub use registry::{ApplicationId, Registry, Watched};
pub use residence::Residence;
pub use rules::{Rules, Traits, Verdict};
pub use usage::{Usage, UsageMeter};
pub use waits::{Reason, Wait};
