//! `[budget]`: what the daemon may cost.

use super::section::{Checked, Wrong, section};

section! {
    /// What the daemon may cost. Beyond it, sampling slows down, step by step, and the log and the live view say so; below
    /// it for a minute, sampling comes back. Requests and their spans are never thinned out.
    pub struct Budget {
        /// CPU of the daemon in percent of one core, over ten seconds; 0 for no limit.
        cpu_percent: f64 = 25.0,
        /// Sampling never becomes slower than this by itself, in samples per second and CPU.
        least_sampling_hz: u32 = 5,
    }
}

impl Checked for Budget {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !(self.cpu_percent.is_finite() && self.cpu_percent >= 0.0) {
            wrong.push(Wrong::key("cpu_percent", "not a number from 0 on"));
        }
        if !(1..=1000).contains(&self.least_sampling_hz) {
            wrong.push(Wrong::key("least_sampling_hz", "not from 1 to 1000"));
        }
        wrong
    }
}
