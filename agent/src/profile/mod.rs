//! Where the time went: named stacks with how often and how long each was seen, by thread and by what the thread
//! was doing. Adds up and leaves out; reads no process and writes no file.

mod aggregate;
mod sample;
mod selection;

pub use aggregate::{Entry, Limits, Profile, Stack, Thread, Weight};
pub use sample::{Mode, State};
pub use selection::{BadPattern, Selection};
