//! What every format is given: the profile, what it is about, and how names shall look.

use crate::profile::{Mode, Profile};
use serde::Serialize;

/// How a profile came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// What was recorded, in words.
    pub title: String,
    pub mode: Mode,
    /// Samples per second and CPU that were asked for.
    pub rate_hz: u32,
    /// Nanoseconds of the Unix epoch.
    pub started_ns: u64,
    pub duration_ns: u64,
}

/// How frames are named, and what a stack begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Process and thread stand below each stack's outermost frame.
    pub threads: bool,
    /// Functions as a whole: no lines.
    pub function: bool,
    /// Files by their whole path.
    pub full_paths: bool,
}

/// All there is to write.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    pub profile: &'a Profile,
    pub about: &'a About,
    pub look: Look,
}

impl Recording<'_> {
    /// What one unit of a folded stack's number is.
    pub(super) fn unit(&self) -> &'static str {
        if self.about.mode.is_counted() { "samples" } else { "microseconds" }
    }

    /// What was recorded, in one line of figures.
    pub(super) fn figures(&self) -> String {
        let total = self.profile.total();
        let (samples, seconds) = (total.samples, total.nanoseconds as f64 / 1e9);
        let (mode, length) = (self.about.mode, self.about.duration_ns as f64 / 1e9);
        let time = mode.time();
        if mode.samples_cpu() {
            format!(
                "{samples} samples, {seconds:.2} s of {time}, {} Hz over {length:.1} s",
                self.about.rate_hz
            )
        } else {
            format!("{samples} waits, {seconds:.2} s of {time}, over {length:.1} s")
        }
    }
}
