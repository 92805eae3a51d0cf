//! The file, and what is said about it: how much was recorded and what is missing, by reason.

use super::recorder::Recorder;
use super::subject;
use crate::cli::{Destination, RecordOptions, Subject};
use crate::outputs::profile::{self, About, Recording};
use crate::python::JIT_NOTE;
use anyhow::Context;
use pyapm_wire::count;
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The opened destination: whether it can be written is known before anything is recorded.
pub(super) enum Target {
    Stdout,
    File { file: File, path: PathBuf, is_new: bool },
}

impl Target {
    /// What the file holds stays until the profile is written.
    pub(super) fn open(destination: &Destination) -> anyhow::Result<Self> {
        let Destination::File(path) = destination else { return Ok(Self::Stdout) };
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self::File { file, path: path.clone(), is_new })
    }

    /// Nothing was recorded: an empty file would look like a recording.
    pub(super) fn abandon(&self) {
        if let Self::File { path, is_new: true, .. } = self {
            let _it_stays_empty_then = std::fs::remove_file(path);
        }
    }

    pub(super) fn write(
        self,
        format: profile::Format,
        recording: &Recording<'_>,
        baseline: Option<&[u8]>,
    ) -> anyhow::Result<String> {
        match self {
            Self::Stdout => {
                profile::write(format, recording, baseline, &mut BufWriter::new(io::stdout().lock()))
                    .context("cannot write to stdout")?;
                Ok("stdout".to_owned())
            }
            Self::File { file, path, .. } => {
                write_file(&file, format, recording, baseline)
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
                Ok(path.display().to_string())
            }
        }
    }
}

fn write_file(
    file: &File,
    format: profile::Format,
    recording: &Recording<'_>,
    baseline: Option<&[u8]>,
) -> io::Result<()> {
    // A pipe or a terminal has no length.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    profile::write(format, recording, baseline, &mut BufWriter::new(file))
}

/// An earlier recording, read before the new one may replace it.
pub(super) fn baseline(path: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    path.map(|path| std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display())))
        .transpose()
}

/// What was recorded, in words.
pub(super) fn title(options: &RecordOptions, processes: &[String]) -> String {
    let what = match &options.subject {
        Subject::Application(name) => name.clone(),
        Subject::Program(program) => {
            let words: Vec<String> = program.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            subject::command(&words)
        }
        Subject::Processes(pids) => {
            let named = pids.iter().zip(processes);
            let named: Vec<String> = named.map(|(pid, title)| format!("{title} (process {pid})")).collect();
            named.join(", ")
        }
    };
    format!("{what}: {}", options.mode.time())
}

/// The closing lines.
pub(super) fn say(recorder: &Recorder, about: &About, written: &str, out: &mut dyn Write) -> io::Result<()> {
    let profile = &recorder.profile;
    let used: HashSet<usize> = profile.entries().iter().map(|entry| entry.thread).collect();
    let threads = profile.threads().iter().enumerate().filter(|(number, _)| used.contains(number));
    let processes: HashSet<u32> = threads.map(|(_, thread)| thread.pid).collect();
    writeln!(
        out,
        "wrote {written}: {} samples, {:.2} s of {}, {} in {}, over {:.1} s at {} Hz",
        profile.total().samples,
        profile.total().nanoseconds as f64 / 1e9,
        about.mode.time(),
        counted(used.len(), "thread", "threads"),
        counted(processes.len(), "process", "processes"),
        about.duration_ns as f64 / 1e9,
        about.rate_hz,
    )?;
    let (lost, incomplete) = losses(recorder);
    line(out, "lost", &lost)?;
    if !incomplete.is_empty() {
        line(out, "incomplete", &incomplete)?;
    }
    if recorder.compiled > 0 {
        let processes = counted(recorder.compiled, "process", "processes");
        writeln!(out, "in {processes}: {JIT_NOTE}")?;
    }
    let apart = recorder.apart;
    if apart.left_out > 0 {
        writeln!(out, "left out by --include and --exclude: {} samples", apart.left_out)?;
    }
    if apart.not_python > 0 {
        writeln!(
            out,
            "not in the profile: {} samples of programs that are not Python, or whose interpreter was not up yet",
            apart.not_python
        )?;
    }
    Ok(())
}

type Reasons = BTreeMap<String, u64>;

/// Records that never arrived, and what those that did arrive lack; only what happened.
pub(super) fn losses(recorder: &Recorder) -> (Reasons, Reasons) {
    let (counts, delivered, named) = recorder.counts();
    let mut lost = BTreeMap::from([
        ("ring_full".to_owned(), counts.get(count::RING_FULL)),
        ("undecodable".to_owned(), delivered.undecodable),
        ("profile_full".to_owned(), recorder.profile.overflow().samples),
    ]);
    let mut incomplete: Reasons = (count::RING_FULL + 1..count::SLOTS)
        .filter_map(|slot| {
            let name = count::NAMES.get(slot as usize).filter(|name| !name.is_empty())?;
            Some(((*name).to_owned(), counts.get(slot)))
        })
        .collect();
    incomplete.extend(named.named().map(|(name, value)| (name.to_owned(), value)));
    incomplete.extend(recorder.native_counts().into_iter().map(|(name, value)| (name.to_owned(), value)));
    incomplete.insert("stacks_unknown".to_owned(), recorder.apart.stacks_unknown);
    lost.extend(recorder.skipped().into_iter().map(|(program, times)| (format!("skipped_{program}"), times)));
    lost.retain(|_, value| *value != 0);
    incomplete.retain(|_, value| *value != 0);
    (lost, incomplete)
}

fn line(out: &mut dyn Write, what: &str, reasons: &Reasons) -> io::Result<()> {
    let sum: u64 = reasons.values().sum();
    let reasons: Vec<String> = reasons.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if reasons.is_empty() {
        writeln!(out, "{what}: 0")
    } else {
        writeln!(out, "{what}: {sum} ({})", reasons.join(", "))
    }
}

pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
