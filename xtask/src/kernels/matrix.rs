//! Runs the matrix: gets `pyapm`, the image and the kernels, boots one guest per kernel and reports.

use super::commands::shown;
use super::image::{self, Contents};
use super::initramfs;
use super::machine::{LIMIT, Machine};
use super::packages::{Kernel, Wanted, fetch};
use super::sources::{self, Archive, Entry};
use super::verdict::{End, Verdict, judge, notes};
use super::versions::Line;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Oldest supported and newest kernel first: these two run on each change.
const ENDS: &[Wanted] = &[
    Wanted {
        label: "5.10",
        line: Line::Series("5.10"),
        suites: &[(Archive::Main, "bullseye"), (Archive::Security, "bullseye-security")],
    },
    Wanted { label: "newest", line: Line::Newest, suites: &[(Archive::Main, "sid")] },
];

/// Between the ends, with `--all`.
const BETWEEN: &[Wanted] = &[
    Wanted {
        label: "6.1",
        line: Line::Series("6.1"),
        suites: &[(Archive::Main, "bookworm"), (Archive::Security, "bookworm-security")],
    },
    Wanted {
        label: "6.12",
        line: Line::Series("6.12"),
        suites: &[(Archive::Main, "trixie"), (Archive::Security, "trixie-security")],
    },
];

/// A binary to test instead of building one: for a package that is to be released as it is.
const BINARY: &str = "PYAPM_BIN";

/// Lines of a failed guest's log that are shown; the whole log stays in its file.
const SHOWN_LINES: usize = 80;

/// How `tempfile` names its directories (3.x).
const SCRATCH: &str = ".tmp";

/// A guest that proves nothing is started once more.
const ATTEMPTS: usize = 2;

/// Boots every kernel of the matrix and tests the release `pyapm` on it: 5.10 and the newest, with `all` also
/// 6.1 and 6.12. The report goes to stdout.
///
/// # Errors
/// A kernel cannot be had, a guest cannot be built or proves nothing twice, or the test fails in one.
pub fn run(all: bool) -> Result<()> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let wanted: Vec<Wanted> = ENDS.iter().chain(BETWEEN.iter().filter(|_| all)).copied().collect();
    run_matrix(&wanted, workspace, &target, &mut std::io::stdout())
}

fn run_matrix(wanted: &[Wanted], workspace: &Path, target: &Path, out: &mut dyn Write) -> Result<()> {
    let home = target.join("pyapm/kernels");
    fs::create_dir_all(home.join("logs"))
        .with_context(|| format!("failed to create `{}`", home.display()))?;
    // Two runs at once would remove each other's kernels.
    let lock = File::create(home.join("lock")).context("failed to create the lock file")?;
    if lock.try_lock().is_err() {
        writeln!(out, "kernels: waiting for another run")?;
        lock.lock().context("failed to take the lock")?;
    }
    remove_leftovers(&home)?;
    let pyapm = binary(workspace, target)?;
    let entries = sources::read(Path::new("/etc/apt"))?;
    let script = workspace.join("tests/workloads/kernel_guest.py");
    let root = home.join("root.squashfs");
    image::build(&Contents { pyapm: &pyapm, script: &script }, &root)
        .context("failed to build the guest's root")?;

    let bench = Bench { home: &home, entries: &entries, root: &root };
    let mut failed = Vec::new();
    let mut report = Ok(());
    let guests = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
    let queue = Mutex::new(wanted.iter().collect::<VecDeque<_>>());
    std::thread::scope(|scope| {
        let (sender, finished) = mpsc::sync_channel(wanted.len());
        for _ in 0..guests {
            let sender = sender.clone();
            let (queue, bench) = (&queue, &bench);
            scope.spawn(move || {
                while let Some(wanted) = next(queue) {
                    // Fails only when the report cannot be written any more: then nobody listens.
                    let _ = sender.send((wanted.label, bench.test(wanted)));
                }
            });
        }
        drop(sender);
        for (label, outcome) in finished {
            if !outcome.as_ref().is_ok_and(Outcome::passed) {
                failed.push(label);
            }
            if report.is_ok() {
                report = show(label, &outcome, out);
            }
        }
    });
    report.context("failed to write the report")?;
    writeln!(out, "kernels: {} passed, {} failed", wanted.len() - failed.len(), failed.len())?;
    if !failed.is_empty() {
        bail!("kernels: pyapm is not proved on {}", failed.join(", "));
    }
    Ok(())
}

/// Removes the scratch directories of a run that was killed. The lock is held: nobody else's are removed.
fn remove_leftovers(home: &Path) -> Result<()> {
    for directory in [home.to_owned(), home.join("unpacked")] {
        let Ok(items) = fs::read_dir(&directory) else { continue };
        for item in items {
            let item = item?;
            if item.file_name().to_string_lossy().starts_with(SCRATCH) {
                fs::remove_dir_all(item.path())
                    .with_context(|| format!("failed to remove `{}`", item.path().display()))?;
            }
        }
    }
    Ok(())
}

fn next<'a>(queue: &Mutex<VecDeque<&'a Wanted>>) -> Option<&'a Wanted> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// The binary to test: built here, so that it is this tree's.
fn binary(workspace: &Path, target: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY).map(PathBuf::from) {
        if !path.is_file() {
            bail!("`{BINARY}` names `{}`, which is not a file", path.display());
        }
        return Ok(path);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(workspace).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "pyapm",
        "--bin",
        "pyapm",
    ]);
    let status = build.status().with_context(|| format!("failed to start `{}`", shown(&build)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(&build));
    }
    Ok(target.join("release/pyapm"))
}

/// What every guest shares.
struct Bench<'a> {
    home: &'a Path,
    entries: &'a [Entry],
    root: &'a Path,
}

/// One kernel's guests, the last of which counts.
struct Outcome {
    kernel: Kernel,
    attempts: Vec<Attempt>,
}

struct Attempt {
    verdict: Verdict,
    log: PathBuf,
    text: String,
    took: Duration,
}

impl Outcome {
    fn passed(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.verdict == Verdict::Passed)
    }
}

impl Bench<'_> {
    fn test(&self, wanted: &Wanted) -> Result<Outcome> {
        let kernel = fetch(wanted, self.entries, self.home)?;
        let initramfs = self.home.join(format!("initramfs-{}.zst", wanted.label));
        initramfs::build(&kernel, &initramfs)
            .with_context(|| format!("failed to build the initramfs of {}", kernel.release))?;
        let mut attempts = Vec::new();
        for number in 1..=ATTEMPTS {
            let log = self.home.join("logs").join(format!("{}.{number}.log", wanted.label));
            let started = Instant::now();
            let machine = Machine { kernel: &kernel, initramfs: &initramfs, root: self.root, log: &log };
            let end = machine.run(LIMIT)?;
            let attempt = Attempt::of(log, &end, started.elapsed())?;
            let proven = !matches!(attempt.verdict, Verdict::Unproven(_));
            attempts.push(attempt);
            if proven {
                break;
            }
        }
        Ok(Outcome { kernel, attempts })
    }
}

impl Attempt {
    fn of(log: PathBuf, end: &End, took: Duration) -> Result<Self> {
        let bytes = fs::read(&log).with_context(|| format!("failed to read `{}`", log.display()))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { verdict: judge(&text, end), log, text, took })
    }
}

fn show(label: &str, outcome: &Result<Outcome>, out: &mut dyn Write) -> std::io::Result<()> {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return writeln!(out, "kernel {label}: FAILED, no guest ran: {error:#}"),
    };
    for remark in &outcome.kernel.remarks {
        writeln!(out, "kernel {label}: {remark}")?;
    }
    for (index, attempt) in outcome.attempts.iter().enumerate() {
        let said = match &attempt.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed(code) => format!("FAILED, the test ended with {code}"),
            Verdict::Unproven(reason) => {
                let next = if index + 1 < outcome.attempts.len() { "retried" } else { "not retried again" };
                format!("INFRASTRUCTURE FAILURE, {next}: {reason}")
            }
        };
        let (release, seconds) = (&outcome.kernel.release, attempt.took.as_secs_f64());
        writeln!(out, "kernel {label} ({release}): {said}, {seconds:.1} s")?;
        for note in notes(&attempt.text) {
            writeln!(out, "    {note}")?;
        }
        if attempt.verdict != Verdict::Passed {
            writeln!(out, "    end of `{}`:", attempt.log.display())?;
            let lines: Vec<&str> = attempt.text.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                writeln!(out, "    | {}", line.trim_end())?;
            }
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdicts: &[Verdict]) -> Outcome {
        let attempts = verdicts.iter().map(|verdict| Attempt {
            verdict: verdict.clone(),
            log: "/logs/5.10.log".into(),
            text: "@@ note: 20 requests\nlast words\n".to_owned(),
            took: Duration::from_millis(12_340),
        });
        let kernel = Kernel {
            label: "5.10",
            release: "5.10.0-46-cloud-amd64".to_owned(),
            vmlinuz: PathBuf::new(),
            modules_root: PathBuf::new(),
            remarks: vec!["suite `x` was left out".to_owned()],
        };
        Outcome { kernel, attempts: attempts.collect() }
    }

    fn report_of(outcome: &Result<Outcome>) -> String {
        let mut out = Vec::new();
        show("5.10", outcome, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_pass_shows_its_notes_and_remarks_but_not_its_log() {
        let outcome = outcome(&[Verdict::Passed]);
        assert!(outcome.passed());
        let text = report_of(&Ok(outcome));
        assert!(text.contains("(5.10.0-46-cloud-amd64): passed, 12.3 s\n    20 requests\n"), "{text}");
        assert!(text.contains("left out") && !text.contains("last words"), "{text}");
    }

    #[test]
    fn a_retry_is_said_and_the_last_guest_counts() {
        let retried = outcome(&[Verdict::Unproven("the kernel crashed".to_owned()), Verdict::Passed]);
        assert!(retried.passed());
        let text = report_of(&Ok(retried));
        assert!(text.contains("INFRASTRUCTURE FAILURE, retried: the kernel crashed"), "{text}");
        assert!(text.contains("| last words") && text.contains("passed"), "{text}");

        let twice = Verdict::Unproven("hung".to_owned());
        let twice = outcome(&[twice.clone(), twice]);
        assert!(!twice.passed());
        assert!(report_of(&Ok(twice)).contains("not retried again"));
        assert!(!outcome(&[Verdict::Failed(1)]).passed());
    }

    #[test]
    fn only_scratch_directories_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let unpacked = home.path().join("unpacked");
        fs::create_dir_all(unpacked.join("5.10-5.10.223-1")).unwrap();
        let scratch = tempfile::tempdir_in(&unpacked).unwrap().keep();
        let other = tempfile::tempdir_in(home.path()).unwrap().keep();
        remove_leftovers(home.path()).unwrap();
        assert!(!scratch.exists() && !other.exists());
        assert!(unpacked.join("5.10-5.10.223-1").exists());
    }

    #[test]
    fn a_kernel_that_cannot_be_had_is_a_failure() {
        let text = report_of(&Err(anyhow::anyhow!("no such suite")));
        assert!(text.contains("FAILED, no guest ran: no such suite"), "{text}");
    }
}
