//! What each probe costs where it fires: hits for each request, and nanoseconds in the program for each hit, as
//! the kernel itself counts them (`kernel.bpf_stats_enabled`). The trap or tracepoint around it is not in it.

use anyhow::{Context, Result};
use harness::bpf::Held;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The programs of the kernel half, and what each is for. Those of other families (TLS, SQLite, sessions of gevent and so on) stand
/// by their names alone.
const PROGRAMS: [(&str, &str); 18] = [
    ("syscall_exit", "a read, write or close of any process on the host"),
    ("syscall_exit_second", "the same, second copy"),
    ("syscall_exit_third", "the same, third copy"),
    ("mysql_query", "a statement, with its Python stack"),
    ("exception_passes", "a frame that an exception reaches, in processes that are watched"),
    ("code_given_up", "the end of a code object"),
    ("sched_switch_times", "a switch from one thread to another on the host"),
    ("cpu_sample", "a sample, with its Python stack"),
    ("loop_waits", "the start of an `epoll_wait` of any process on the host"),
    ("loop_turns", "its end"),
    ("connect_begins", "the start of a `connect` of any process on the host"),
    ("connect_goes_on", "its end, and each `getsockopt`"),
    (
        "lookup_begins",
        "the start of a lookup of a host's name (`getaddrinfo`) in processes that map this C library",
    ),
    ("lookup_ends", "its end"),
    ("context_copied", "a new context"),
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
    /// Nanoseconds in these runs: those of `self` are since `before`.
    #[must_use]
    pub fn ns_since(self, before: Self) -> u64 {
        self.run_time_ns.saturating_sub(before.run_time_ns)
    }

    /// Part of one core that was spent in these runs: those of `self` are since `before`, `seconds` apart.
    #[must_use]
    pub fn cores_since(self, before: Self, seconds: f64) -> f64 {
        self.ns_since(before) as f64 / 1e9 / seconds
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

/// All programs that one process holds, by name: another pyapm may run beside it.
///
/// # Errors
/// When the process is gone, or `bpftool` is not there or says what is not understood.
pub fn read(pid: u32) -> Result<BTreeMap<String, Runs>> {
    let held = Held::by(pid)?;
    let ours = loaded()?.into_iter().filter(|one| held.programs.contains(&one.id));
    Ok(ours.map(|one| (full_name(&one.name).to_owned(), one.runs)).collect())
}

fn loaded() -> Result<Vec<Loaded>> {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show"])
        .output()
        .context("could not start `bpftool`; `cargo xtask setup` installs it")?;
    serde_json::from_slice(&output.stdout).context("`bpftool` printed no JSON")
}

/// The kernel keeps 15 bytes of a name; `bpftool` completes some.
fn full_name(name: &str) -> &str {
    let cut = |full: &str| full.get(..KEPT_OF_NAMES).is_some_and(|start| start == name);
    PROGRAMS.iter().map(|(full, _)| *full).find(|full| cut(full)).unwrap_or(name)
}

/// `BPF_OBJ_NAME_LEN` of the kernel's `include/uapi/linux/bpf.h`, without the zero at the end.
const KEPT_OF_NAMES: usize = 15;

/// The table between two readings: of every program that ran, and of all of them together.
#[must_use]
pub fn table(before: &BTreeMap<String, Runs>, after: &BTreeMap<String, Runs>, requests: f64) -> String {
    let mut text = String::from(
        "| probe | fires at | hits per request | ns per hit | us per request |\n|---|---|---|---|---|\n",
    );
    let known = PROGRAMS.iter().map(|(name, _)| *name);
    let others =
        after.keys().map(String::as_str).filter(|name| PROGRAMS.iter().all(|(known, _)| known != name));
    let mut sum = 0;
    for name in known.chain(others) {
        let Some(now) = after.get(name) else { continue };
        let then = before.get(name).copied().unwrap_or_default();
        let hits = now.run_cnt.saturating_sub(then.run_cnt);
        let time = now.run_time_ns.saturating_sub(then.run_time_ns);
        let Some(each) = time.checked_div(hits) else { continue };
        sum += time;
        let what = PROGRAMS.iter().find(|(known, _)| *known == name).map_or("", |(_, what)| what);
        let (hits, took) = (hits as f64 / requests, time as f64 / 1000.0 / requests);
        let _infallible = writeln!(text, "| `{name}` | {what} | {hits:.2} | {each} | {took:.2} |");
    }
    let _infallible = writeln!(text, "| all | | | | {:.2} |", sum as f64 / 1000.0 / requests);
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
            BTreeMap::from([
                ("mysql_query".to_owned(), Runs { run_cnt, run_time_ns }),
                ("tls_read".to_owned(), Runs { run_cnt: 7, run_time_ns }),
            ])
        };
        let text = table(&reading(10, 1000), &reading(30, 5000), 10.0);
        // What did not run is left out.
        assert!(
            text.ends_with(
                "| `mysql_query` | a statement, with its Python stack | 2.00 | 200 | 0.40 |\n| all | | | | 0.40 |\n"
            ),
            "{text}"
        );
        let from_start = table(&BTreeMap::new(), &reading(10, 7000), 10.0);
        assert!(from_start.contains("| `tls_read` |  | 0.70 | 1000 | 0.70 |"), "{from_start}");
    }

    #[test]
    fn names_that_the_kernel_cut() {
        assert_eq!(full_name("exception_passe"), "exception_passes");
        assert_eq!(full_name("syscall_exit_se"), "syscall_exit_second");
        assert_eq!(full_name("syscall_exit"), "syscall_exit");
        assert_eq!(full_name("tls_read"), "tls_read");
    }
}
