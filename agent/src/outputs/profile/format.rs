//! The formats by name, and the way to each.

use super::recording::Recording;
use super::{flamegraph, folded, json, pprof, speedscope};
use std::io::{self, Write};
use std::path::Path;

/// What kind of file a profile becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Flamegraph,
    Speedscope,
    Pprof,
    Folded,
    Json,
}

impl Format {
    /// By the end of a file's name; `None` when it says nothing.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let ends = [
            (".speedscope.json", Self::Speedscope),
            (".speedscope", Self::Speedscope),
            (".svg", Self::Flamegraph),
            (".pb.gz", Self::Pprof),
            (".pprof", Self::Pprof),
            (".folded", Self::Folded),
            (".txt", Self::Folded),
            (".json", Self::Json),
        ];
        ends.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
    }
}

/// Writes the file. `baseline`, folded stacks, is for flame graphs alone.
///
/// # Errors
/// When `out` does not take it, or the baseline is no folded stacks.
pub fn write(
    format: Format,
    recording: &Recording<'_>,
    baseline: Option<&[u8]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Flamegraph => flamegraph::write(recording, baseline, out),
        Format::Speedscope => speedscope::write(recording, out),
        Format::Pprof => pprof::write(recording, out),
        Format::Folded => folded::write(recording, out),
        Format::Json => json::write(recording, out),
    }?;
    out.flush()
}
