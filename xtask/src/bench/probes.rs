//! What each probe costs where it fires: hits for each request, and nanoseconds in the program for each hit, as
//! the kernel itself counts them (`kernel.bpf_stats_enabled`). The trap or tracepoint around it is not in it.

use anyhow::{Context, Result};
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

#[derive(Debug, Deserialize)]
struct Loaded {
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    runs: Runs,
}

/// All programs of ours that are loaded now, by name.
///
/// # Errors
/// When `bpftool` is not there or says what is not understood.
pub fn read() -> Result<BTreeMap<String, Runs>> {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("could not start `bpftool`; `cargo xtask setup` installs it")?;
    let loaded: Vec<Loaded> = serde_json::from_slice(&output.stdout).context("`bpftool` printed no JSON")?;
    let ours = loaded.into_iter().filter(|one| PROGRAMS.iter().any(|(name, _)| *name == one.name));
    Ok(ours.map(|one| (one.name, one.runs)).collect())
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
