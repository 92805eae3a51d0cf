//! What the doctor looks at, one finding a line: the host from its facts and plan, a process from its
//! interpreter and its libraries. Judges; writes nothing.

use super::inspect::{Inspection, Instruments};
use crate::host::{Btf, Facts, Lockdown, Obstacles, Plan, settings};
use crate::targets::{Library, LibraryKind, ProcFs};
use serde::Serialize;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    /// Works, with something missing that may be wanted.
    Note,
    /// Does not work.
    Problem,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// One finding; the shape of `--json`, names append-only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Check {
    pub(super) subject: String,
    pub(super) status: Status,
    pub(super) detail: String,
    /// What to try.
    pub(super) hint: Option<String>,
}

impl Check {
    pub(super) fn new(subject: &str, status: Status, detail: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), status, detail: detail.into(), hint: None }
    }

    fn ok(subject: &str, detail: impl Into<String>) -> Self {
        Self::new(subject, Status::Ok, detail)
    }

    fn problem(subject: &str, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self { hint, ..Self::new(subject, Status::Problem, detail) }
    }
}

/// Kernel, privileges, BTF, probes.
pub(super) fn host(facts: &Facts, instruments: &Instruments<'_>) -> Vec<Check> {
    let mut checks = described(facts);
    let plan = Plan::from_facts(facts);
    // Found to be there, BTF must also tell what the programs need.
    if facts.btf_bytes.is_some() {
        checks.push(offsets());
    }
    match plan {
        Ok(plan) => {
            let loaded = instruments.load_programs.map(|load| load());
            match loaded {
                Some(Err(error)) => {
                    checks.push(Check::problem("programs", format!("do not load: {error:#}"), None));
                }
                Some(Ok(())) => checks.push(Check::ok("programs", "the kernel's verifier accepts them")),
                None => {}
            }
            for family in plan.families {
                let detail = format!("{}: {}", family.hook, family.purpose);
                checks.push(Check::ok(&format!("probe {}", family.name), detail));
            }
        }
        Err(Obstacles(obstacles)) => checks.extend(obstacles.into_iter().map(|obstacle| {
            Check::problem("probes", obstacle.to_string(), Some(obstacle.remedy.to_owned()))
        })),
    }
    checks
}

/// The facts as they are; whether they suffice, the plan says.
fn described(facts: &Facts) -> Vec<Check> {
    let unknown = || "unknown".to_owned();
    let mut kernel = format!("Linux {} on {}", facts.kernel_release, facts.machine);
    if let Some(count) = facts.cpus_online {
        kernel.push_str(&format!(", {count} CPUs online"));
    }
    let held = facts.capabilities.map_or_else(unknown, |capabilities| {
        let names: Vec<&str> = [
            (capabilities.sys_admin, "CAP_SYS_ADMIN"),
            (capabilities.bpf, "CAP_BPF"),
            (capabilities.perfmon, "CAP_PERFMON"),
            (capabilities.sys_ptrace, "CAP_SYS_PTRACE"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
        if names.is_empty() { "no capability of use".to_owned() } else { names.join(", ") }
    });
    let mut checks = vec![
        Check::ok("kernel", kernel),
        Check::ok("privileges", format!("user {}, {held}", facts.effective_uid)),
    ];
    if let Some(source) = facts.uprobe_source {
        checks.push(Check::ok("uprobes", format!("perf event source {source}")));
    }
    let lockdown = facts.lockdown.map_or("not in force", |lockdown| match lockdown {
        Lockdown::None => "none",
        Lockdown::Integrity => "integrity (does not matter here)",
        Lockdown::Confidentiality => "confidentiality",
    });
    checks.push(Check::ok("lockdown", lockdown));
    let paranoid = facts.perf_event_paranoid.map_or_else(unknown, |level| level.to_string());
    checks.push(Check::ok("perf_event_paranoid", format!("{paranoid} (does not bind the privileged)")));
    if facts.kernel_version.is_some_and(|version| version < (5, 11))
        && let Some(limit) = facts.memlock_bytes
    {
        let detail =
            format!("{limit} bytes may be locked; it is raised at load, as kernels before 5.11 need");
        checks.push(Check::ok("RLIMIT_MEMLOCK", detail));
    }
    if let Some(mark) = &facts.container {
        checks.push(Check::new("container", Status::Note, format!("`{mark}` says that this is one")));
    }
    checks
}

fn offsets() -> Check {
    let found = Btf::running_kernel().and_then(|btf| settings(&btf).map(|_| btf.len()));
    match found {
        Ok(types) => Check::ok("btf", format!("{types} types, every member that is needed among them")),
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Check::problem("btf", format!("{error}{}", source.unwrap_or_default()), None)
        }
    }
}

/// Interpreter and libraries of one process.
pub(super) fn process(pid: u32, inspection: &Inspection, libraries: &[Library]) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.push(match &inspection.version {
        Some(version) => Check::ok("python", version.clone()),
        None => Check::new("python", Status::Note, "the version could not be told"),
    });
    checks.push(match &inspection.thread_state {
        Ok(route) => Check::ok("thread state", route.clone()),
        Err(reason) => Check::problem("thread state", format!("no stacks: {reason}"), None),
    });
    checks.extend(inspection.notes.iter().map(|note| Check::new("interpreter", Status::Note, note.clone())));
    checks.extend(inspection.loops.iter().map(|loops| match loops {
        Ok(works) => Check::ok("event loop", works.clone()),
        Err(partly) => Check::new("event loop", Status::Note, partly.clone()),
    }));
    checks.extend(inspection.agents.iter().map(|agent| {
        let detail =
            format!("{agent} runs inside: what it costs is in all figures, and its headers tell the trace");
        Check::new("agent", Status::Note, detail)
    }));
    // TLS libraries have checks of their own.
    for kind in LibraryKind::ALL.into_iter().filter(|kind| *kind != LibraryKind::Tls) {
        let found: Vec<&Library> = libraries.iter().filter(|library| library.kind == kind).collect();
        if found.is_empty() {
            checks.extend(missing(kind));
        }
        checks.extend(found.into_iter().map(|library| present(kind, library)));
    }
    let inside = ProcFs::new().namespace_pids(pid).unwrap_or_default();
    if let [_, .., innermost] = inside[..] {
        let detail = format!("runs in one; its pid there is {innermost}");
        checks.push(Check::new("pid namespace", Status::Note, detail));
    }
    checks
}

fn present(kind: LibraryKind, library: &Library) -> Check {
    let symbols: BTreeSet<&str> = library.symbols.iter().copied().collect();
    let symbols: Vec<&str> = symbols.into_iter().collect();
    let what = format!("{} exports {}", library.mapping.path.display(), symbols.join(", "));
    if kind.is_watched() {
        Check::ok(kind.as_str(), what)
    } else if kind.is_on_the_wire() {
        Check::ok(kind.as_str(), format!("read on the wire: {what}"))
    } else {
        Check::new(kind.as_str(), Status::Note, format!("not watched by this version: {what}"))
    }
}

/// Only the absence of what would be watched is worth a line.
fn missing(kind: LibraryKind) -> Option<Check> {
    kind.is_watched().then(|| {
        let detail = format!(
            "no mapped file exports `{}`: a client library may be loaded later, and a driver written in Python \
             has none",
            kind.proof()
        );
        Check::new(kind.as_str(), Status::Note, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: fn(u32) -> Inspection = |_| Inspection {
        version: Some("3.11.7".to_owned()),
        thread_state: Ok("by a route".to_owned()),
        notes: Vec::new(),
        loops: None,
        agents: Vec::new(),
    };

    fn problems(checks: &[Check]) -> Vec<&str> {
        checks.iter().filter(|c| c.status == Status::Problem).map(|c| c.subject.as_str()).collect()
    }

    #[test]
    fn this_host_is_described() {
        let instruments = Instruments { inspect: &GOOD, load_programs: None };
        let checks = host(&Facts::read(), &instruments);
        assert!(checks.iter().any(|check| check.subject == "kernel"));
        assert!(checks.iter().any(|check| check.subject.starts_with("probe")));
    }

    #[test]
    fn programs_that_do_not_load() {
        let load = || Err(anyhow::anyhow!("R1 is a scalar").context("program `io`"));
        let instruments = Instruments { inspect: &GOOD, load_programs: Some(&load) };
        let facts = Facts {
            machine: "x86_64".to_owned(),
            kernel_version: Some((6, 1)),
            capabilities: None,
            initial_user_namespace: None,
            initial_pid_namespace: None,
            lockdown: None,
            btf_bytes: Some(1),
            uprobe_source: Some(9),
            ..Facts::read()
        };
        let checks = host(&facts, &instruments);
        let programs = checks.iter().find(|check| check.subject == "programs").unwrap();
        assert_eq!(programs.detail, "do not load: program `io`: R1 is a scalar");
        // Where something else is wrong already, loading is not tried.
        let checks = host(&Facts { machine: "riscv64".to_owned(), ..facts }, &instruments);
        assert_eq!(problems(&checks), ["probes"]);
    }

    #[test]
    fn process_without_stacks_and_without_a_driver() {
        let inspection = Inspection {
            version: None,
            thread_state: Err("no table for 3.6".to_owned()),
            notes: vec!["it is a debug build".to_owned()],
            loops: Some(Err("only partly".to_owned())),
            agents: vec!["Datadog"],
        };
        let checks = process(std::process::id(), &inspection, &[]);
        assert!(checks.iter().any(|c| c.detail == "only partly" && c.status == Status::Note));
        assert!(checks.iter().any(|c| c.detail.starts_with("Datadog") && c.status == Status::Note));
        assert_eq!(problems(&checks), ["thread state"]);
        assert!(checks.iter().any(|c| c.subject == "mysql" && c.status == Status::Note));
        // The history's own, which is linked into this test.
        assert!(checks.iter().any(|c| c.subject == "sqlite"));
        assert!(checks.iter().any(|c| c.detail == "it is a debug build" && c.status == Status::Note));
    }
}
