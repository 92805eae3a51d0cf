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
        format!(
            "{} samples, {:.2} s of {}, {} Hz over {:.1} s",
            total.samples,
            total.nanoseconds as f64 / 1e9,
            self.about.mode.time(),
            self.about.rate_hz,
            self.about.duration_ns as f64 / 1e9,
        )
    }
}
