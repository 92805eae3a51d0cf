//! `[collection]`: what is taken from the kernel.

use super::section::{Checked, Wrong, section};

section! {
    /// What is taken from the kernel.
    pub struct Collection {
        /// On-CPU stack samples per second on each CPU, 1 to 1000.
        sampling_hz: u32 = 99,
        /// Size of the buffer between kernel and daemon in bytes: a power of two, 4096 to 1073741824. A change needs a
        /// restart.
        ring_bytes: u32 = 8 << 20,
        /// From how many milliseconds on a turn of an event loop counts as blocked, 1 to 60000. A change needs a restart.
        event_loop_blocked_ms: u32 = 100,
        /// Have the kernel count how often each probe is hit and how long it takes (`kernel.bpf_stats_enabled` for as
        /// long as the service runs). Counting itself costs some ten nanoseconds a hit.
        probe_costs: bool = false,
    }
}

impl Checked for Collection {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !(1..=1000).contains(&self.sampling_hz) {
            wrong.push(Wrong::key("sampling_hz", "not from 1 to 1000"));
        }
        if !(self.ring_bytes.is_power_of_two() && (4096..=1 << 30).contains(&self.ring_bytes)) {
            wrong.push(Wrong::key("ring_bytes", "not a power of two from 4096 to 1073741824"));
        }
        if !(1..=60_000).contains(&self.event_loop_blocked_ms) {
            wrong.push(Wrong::key("event_loop_blocked_ms", "not from 1 to 60000"));
        }
        wrong
    }
}
