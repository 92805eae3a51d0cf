//! `record`: samples of some processes into one profile. Lifecycle and sampling programs alone are attached; no
//! sockets, no drivers.
//!
//! ```text
//! subject     who: pids, an application by name, or a program that is started
//! program     starts it, held back until it is watched
//! recorder    one owner of all state: ring -> who -> names -> profile
//! natives     native frames, from a copied stack to their places between Python frames
//! newcomers   processes whose interpreter is not up yet
//! run         the loop around the recorder: timer, ring, signals, progress, the end
//! closing     the file, and what is said about it
//! ```

mod closing;
mod natives;
mod newcomers;
mod program;
mod recorder;
mod run;
mod subject;

pub use run::record;
