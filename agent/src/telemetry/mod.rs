//! What the daemon says of itself, on stderr. What it lost is counted where it is lost and reported with the
//! data, not here.

mod logging;

pub use logging::{Held, LOG_VARIABLE, hold_log, start_logging};
