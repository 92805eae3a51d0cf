//! `record`: samples of some processes into one profile. Lifecycle programs and, as the mode
//! wants it, those of sampling and of time off the CPU are attached; no sockets, no drivers.
//!
//! ```text
//! subject     who: pids, an application by name, or a program that is started
//! program     starts it, held back until it is watched
//! recorder    one owner of all state: ring -> who -> names -> profile
//! natives     native frames, from a copied stack to their places between Python frames
//! newcomers   processes whose interpreter is not up yet
//! run         the loop around the recorder: timer, ring, signals, progress, the end
//! away        time off the CPU, cut to the recording
//! waits       the recorder's part that is about them
//! parked      threads that were away when it began
//! closing     the file, and what is said about it
//! ```

mod away;
mod closing;
mod natives;
mod newcomers;
mod parked;
mod program;
mod recorder;
mod run;
mod subject;
mod waits;

pub use run::record;
