//! `[history]`: what is kept on disk for `pyapm report`.

use super::section::{Checked, Wrong, section};
use std::path::PathBuf;

section! {
    /// What happened, minute by minute, in a file for `pyapm report`: figures of routes, SQL and exceptions, stacks, and the
    /// slowest and failed transactions whole.
    pub struct History {
        /// Whether anything is kept.
        enabled: bool = true,
        /// The file, an SQLite database. Its folder is made if only that is missing.
        file: PathBuf = "/var/lib/pyapm/history.db".into(),
        /// The file does not become larger than this: the oldest goes first. A log of at most some megabytes lies beside it.
        max_bytes: u64 = 536_870_912,
        /// What is older goes, in days.
        max_days: f64 = 14.0,
        /// Transactions of each application that are kept whole, of each minute: so many of the slowest.
        slowest_per_minute: u32 = 5,
        /// And so many of those that failed.
        failed_per_minute: u32 = 10,
        /// Keep what single requests carried, too: their paths, addresses of clients, messages of exceptions. Without it,
        /// routes and types alone are kept.
        values: bool = false,
    }
}

impl Checked for History {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !self.file.is_absolute() || self.file.file_name().is_none() {
            wrong.push(Wrong::key("file", "not an absolute path of a file"));
        }
        if !((8 << 20)..=(1 << 40)).contains(&self.max_bytes) {
            wrong.push(Wrong::key("max_bytes", "not from 8388608 (8 MiB) to 1099511627776 (1 TiB)"));
        }
        if !(0.01..=3_660.0).contains(&self.max_days) {
            wrong.push(Wrong::key("max_days", "not from 0.01 to 3660"));
        }
        for (key, value) in
            [("slowest_per_minute", self.slowest_per_minute), ("failed_per_minute", self.failed_per_minute)]
        {
            if value > 1_000 {
                wrong.push(Wrong::key(key, "more than 1000"));
            }
        }
        wrong
    }
}
