//! What each probe costs where it fires: hits for each request, and nanoseconds in the program for each hit, as
//! the kernel itself counts them (`kernel.bpf_stats_enabled`). The trap or tracepoint around it is not in it.

use anyhow::{Context, Result};
use harness::bpf::Held;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The programs of the kernel half, as their functions are called, and what each is for.
const PROGRAMS: [(&str, &str); 9] = [
    ("syscall_exit", "a read, write or close of any process on the host"),
    ("syscall_exit_se", "the same, second copy"),
    ("syscall_exit_th", "the same, third copy"),
    ("mysql_query", "a statement, with its Python stack"),
    ("exception_passe", "a frame that an exception reaches, in processes that are watched"),
    ("cpu_sample", "a sample, with its Python stack"),
    ("process_fork", "a fork or new thread"),
    ("process_exec", "an exec"),
    ("process_exit", "the end of a thread"),
];

/// Counting is on while this lives.
#[derive(Debug)]
pub struct Counting {
    before: String,
}

impl Counting {
    /// # Errors
    /// When the setting cannot be written: root alone may.
    pub fn start() -> Result<Self> {
        let before = std::fs::read_to_string(SWITCH).with_context(|| format!("could not read `{SWITCH}`"))?;
        std::fs::write(SWITCH, "1").with_context(|| format!("could not write `{SWITCH}`"))?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(SWITCH, self.before.trim()) {
            eprintln!("`{SWITCH}` stays on: {error}");
        }
    }
}

/// Hits and nanoseconds of one program.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Runs {
    #[serde(default)]
    run_cnt: u64,
    #[serde(default)]
    run_time_ns: u64,
}

impl Runs {
    /// Part of one core that was spent in these runs: those of `self` are since `before`, `seconds` apart.
    #[must_use]
    pub fn cores_since(self, before: Self, seconds: f64) -> f64 {
        self.run_time_ns.saturating_sub(before.run_time_ns) as f64 / 1e9 / seconds
    }
}

#[derive(Debug, Deserialize)]
struct Loaded {
    id: u32,
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    runs: Runs,
}

/// The programs that one process holds, together.
///
/// # Errors
/// When the process is gone, or as [`read`].
pub fn held_by(pid: u32) -> Result<Runs> {
    let held = Held::by(pid)?;
    let ours = loaded()?.into_iter().filter(|one| held.programs.contains(&one.id));
    Ok(ours.fold(Runs::default(), |sum, one| Runs {
        run_cnt: sum.run_cnt + one.runs.run_cnt,
        run_time_ns: sum.run_time_ns + one.runs.run_time_ns,
    }))
}

/// All programs of ours that are loaded now, by name. Those of several pyapms would be taken for one another.
///
/// # Errors
/// When `bpftool` is not there or says what is not understood.
pub fn read() -> Result<BTreeMap<String, Runs>> {
    let ours = loaded()?.into_iter().filter(|one| PROGRAMS.iter().any(|(name, _)| *name == one.name));
    Ok(ours.map(|one| (one.name, one.runs)).collect())
}

fn loaded() -> Result<Vec<Loaded>> {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("could not start `bpftool`; `cargo xtask setup` installs it")?;
    serde_json::from_slice(&output.stdout).context("`bpftool` printed no JSON")
}

/// The table between two readings.
#[must_use]
pub fn table(before: &BTreeMap<String, Runs>, after: &BTreeMap<String, Runs>, requests: f64) -> String {
    let mut text = String::from("| probe | fires at | hits per request | ns per hit |\n|---|---|---|---|\n");
    for (name, what) in PROGRAMS {
        let Some(now) = after.get(name) else { continue };
        let then = before.get(name).copied().unwrap_or_default();
        let hits = now.run_cnt.saturating_sub(then.run_cnt);
        let time = now.run_time_ns.saturating_sub(then.run_time_ns);
        let each = time.checked_div(hits).map_or_else(|| "-".to_owned(), |each| each.to_string());
        let _infallible = writeln!(text, "| `{name}` | {what} | {:.2} | {each} |", hits as f64 / requests);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_core() {
        let runs = |run_time_ns| Runs { run_cnt: 1, run_time_ns };
        assert!((runs(60_000_000).cores_since(runs(20_000_000), 2.0) - 0.02).abs() < 1e-9);
    }

    #[test]
    fn between_two_readings() {
        let reading = |run_cnt, run_time_ns| {
            BTreeMap::from([("mysql_query".to_owned(), Runs { run_cnt, run_time_ns })])
        };
        let text = table(&reading(10, 1000), &reading(30, 5000), 10.0);
        assert!(
            text.ends_with("| `mysql_query` | a statement, with its Python stack | 2.00 | 200 |\n"),
            "{text}"
        );
        let idle = table(&reading(10, 1000), &reading(10, 1000), 10.0);
        assert!(idle.contains("| 0.00 | - |"), "{idle}");
    }
}
