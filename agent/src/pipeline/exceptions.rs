//! The probe of exceptions, one for each interpreter's file, however many processes map it; and its watchdog: a
//! program that raises more than the probe may cost is left alone for a while, and for how long is counted.

use crate::probes::{ExceptionProbe, Probes, Tables, UprobeSite};
use crate::python::Interpreter;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Frames reached by exceptions that the probe may be run for, over all processes: so many a second, and as many at
/// once. At some two microseconds each, that is 4 % of one CPU. Beyond it the probe goes away.
const MOST_HITS: u64 = 20_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Between two looks: so long a flood may go on unseen.
const LOOK_NS: u64 = 100_000_000;
/// Probes go away for so long at first, and for twice as long each time that they meet the same again.
const FIRST_PAUSE_NS: u64 = 2_000_000_000;
const LONGEST_PAUSE_NS: u64 = 64_000_000_000;

#[derive(Debug, Default)]
pub(super) struct ExceptionProbes {
    /// By device and inode; `None` where a file cannot be probed.
    places: HashMap<(u64, u64), Option<Place>>,
    /// Frames reached, and when, at the last look.
    seen: Option<(u64, u64)>,
    /// Of the hits so far, those that are not paid off yet, at [`MOST_HITS`] a second.
    owed: u64,
    pause: Option<Pause>,
    /// Of the next pause.
    pause_ns: u64,
    /// Of all that have ended.
    paused_ns: u64,
}

#[derive(Debug)]
struct Place {
    site: UprobeSite,
    /// `None` while paused.
    probe: Option<ExceptionProbe>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    since_ns: u64,
    until_ns: u64,
}

impl ExceptionProbes {
    /// Probes the interpreter of a process, unless its file has been. What cannot be probed is logged once and left.
    pub(super) fn follow(&mut self, probes: &mut Probes, interpreter: &Interpreter) {
        let Some(raising) = &interpreter.raising else {
            tracing::debug!("no exceptions from `{}`", interpreter.file.display());
            return;
        };
        // The process may have gone, and the path with it: another of its kind will come by.
        let Some(file) = identity(&raising.path) else { return };
        if self.places.contains_key(&file) {
            return;
        }
        if !raising.site.emulated {
            tracing::info!("no cheap place for a probe of exceptions in `{}`", interpreter.file.display());
        }
        let site = UprobeSite { path: raising.path.clone(), file_offset: raising.site.file_offset };
        let probe = match self.pause {
            Some(_) => Ok(None),
            None => probes.attach_exceptions(&site).map(Some),
        };
        let place = match probe {
            Ok(probe) => Some(Place { site, probe }),
            Err(error) => {
                let file = interpreter.file.display();
                tracing::warn!("no exceptions are seen of processes that run `{file}`: {error:#}");
                None
            }
        };
        self.places.insert(file, place);
    }

    /// Whether it is time for [`Self::watch`].
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.seen.is_none_or(|(_, then_ns)| now_ns.saturating_sub(then_ns) >= LOOK_NS)
    }

    /// Looks at what the probes cost, takes them away when that is too much, and puts them back. `hits` is how many
    /// frames exceptions have reached since the start.
    pub(super) fn watch(&mut self, probes: &mut Probes, tables: &mut Tables, hits: u64, now_ns: u64) {
        if let Some(pause) = self.pause {
            if now_ns >= pause.until_ns {
                self.paused_ns += now_ns.saturating_sub(pause.since_ns);
                self.pause = None;
                self.seen = None;
                tables.forget_exceptions();
                self.put_back(probes);
            }
            return;
        }
        let before = self.seen.replace((hits, now_ns));
        let Some((hits_before, then_ns)) = before else { return };
        let elapsed_ns = now_ns.saturating_sub(then_ns);
        let paid = elapsed_ns.saturating_mul(MOST_HITS) / SECOND_NS;
        let new = hits.saturating_sub(hits_before);
        self.owed = self.owed.saturating_sub(paid).saturating_add(new);
        if self.owed <= MOST_HITS {
            self.pause_ns = self.pause_ns.saturating_sub(elapsed_ns).max(FIRST_PAUSE_NS);
            return;
        }
        self.owed = 0;
        let pause_ns = self.pause_ns.max(FIRST_PAUSE_NS);
        tracing::warn!(
            "exceptions reached {new} frames in {} ms: none are looked at for {} s",
            elapsed_ns / 1_000_000,
            pause_ns / SECOND_NS
        );
        for place in self.places.values_mut().flatten() {
            if let Some(Err(error)) = place.probe.take().map(|probe| probes.detach_exceptions(probe)) {
                tracing::warn!("a probe of exceptions stays attached: {error}");
            }
        }
        self.pause = Some(Pause { since_ns: now_ns, until_ns: now_ns.saturating_add(pause_ns) });
        self.pause_ns = (pause_ns * 2).min(LONGEST_PAUSE_NS);
    }

    fn put_back(&mut self, probes: &mut Probes) {
        let mut places = std::mem::take(&mut self.places);
        for place in places.values_mut().flatten() {
            match probes.attach_exceptions(&place.site) {
                Ok(probe) => place.probe = Some(probe),
                Err(error) => {
                    let path = place.site.path.display();
                    tracing::warn!("the probe of exceptions is not put back into `{path}`: {error:#}");
                }
            }
        }
        self.places = places;
    }

    /// For how long none were looked at, until now.
    pub(super) fn paused_ns(&self, now_ns: u64) -> u64 {
        self.paused_ns + self.pause.map_or(0, |pause| now_ns.saturating_sub(pause.since_ns))
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
