//! `[log]`: transactions as lines of JSON.

use super::section::{Checked, Wrong, section};

section! {
    /// One line of JSON for each transaction that failed or was slow, with its trace id. It is not the service's own log,
    /// which goes to stderr.
    pub struct Log {
        /// An absolute path, or `-` for stdout, which systemd hands to its journal. Without it nothing is written.
        file: Option<String> = None => "\"/var/log/pyapm/transactions.log\"",
        /// Transactions without an error are written if they last so long, in milliseconds; 0 for all.
        slow_milliseconds: u64 = 1000,
        /// The file is put aside, as `.1`, before it becomes larger than this; 0 for never.
        rotate_bytes: u64 = 104_857_600,
        /// The file is put aside when it is so old, in hours; 0 for never.
        rotate_hours: f64 = 0.0,
        /// Files that were put aside and are kept.
        keep_files: u32 = 5,
    }
}

impl Checked for Log {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if self.file.as_deref().is_some_and(|file| file != "-" && !file.starts_with('/')) {
            wrong.push(Wrong::key("file", "neither an absolute path nor `-`"));
        }
        if self.rotate_bytes != 0 && self.rotate_bytes < 4096 {
            wrong.push(Wrong::key("rotate_bytes", "neither 0 nor 4096 or more"));
        }
        if !(0.0..=87_600.0).contains(&self.rotate_hours) {
            wrong.push(Wrong::key("rotate_hours", "not from 0 to 87600"));
        }
        if self.keep_files > 1000 {
            wrong.push(Wrong::key("keep_files", "more than 1000"));
        }
        wrong
    }
}
