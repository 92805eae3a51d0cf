//! Folded stacks: a line each, outermost frame first, frames between semicolons, then a space and a number.

use super::names;
use super::recording::Recording;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Stacks with their numbers, in samples or microseconds as [`Recording::unit`] says.
pub(super) fn lines(recording: &Recording<'_>) -> BTreeMap<String, u64> {
    let profile = recording.profile;
    let names: Vec<String> =
        profile.frames().iter().map(|frame| names::frame(frame, recording.look)).collect();
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    // Microseconds are rounded once for each line, not for each sample.
    for entry in profile.entries() {
        let mut line = Vec::with_capacity(entry.stack.len() + 3);
        let thread = profile.threads().get(entry.thread).filter(|_| recording.look.threads);
        let (process, own) = (thread.map(names::process), thread.map(names::thread));
        line.extend(process.as_deref());
        line.extend(own.as_deref());
        line.extend(entry.stack.iter().filter_map(|frame| names.get(*frame as usize)).map(String::as_str));
        let mark = entry.state.mark();
        line.extend(mark.as_deref());
        let weight =
            if recording.about.mode.is_counted() { entry.weight.samples } else { entry.weight.nanoseconds };
        *sums.entry(line.join(";")).or_default() += weight;
    }
    if !recording.about.mode.is_counted() {
        for sum in sums.values_mut() {
            *sum = (*sum + 500) / 1000;
        }
    }
    // A line that is nothing but a number would be read as no stack at all.
    sums.retain(|line, sum| !line.is_empty() && *sum > 0);
    sums
}

pub(super) fn write(recording: &Recording<'_>, out: &mut dyn Write) -> io::Result<()> {
    lines(recording).iter().try_for_each(|(line, sum)| writeln!(out, "{line} {sum}"))
}
