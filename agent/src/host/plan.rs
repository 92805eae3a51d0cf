//! What will be attached on this machine, or why nothing can be. Pure: facts in, decision out. The same facts
//! feed `pyapm doctor`.

use super::facts::{Facts, Lockdown};
use pyapm_wire::settings::IO_COPIES;

/// Oldest kernel on which every program loads (the ring buffer needs 5.8, Debian 11 has 5.10).
pub const MINIMUM_KERNEL: (u32, u32) = (5, 10);

/// From here on the kernel may preempt programs on system call tracepoints, and skips a program that is active on
/// the CPU already. Seen on Debian's 7.2: up to 8 calls skipped in a test of 20 requests; none on 5.10 to 6.18.
const PREEMPTED_KERNEL: (u32, u32) = (7, 0);

/// From here on the kernel runs programs on uprobes whatever else runs on the CPU; before, it skipped one while another
/// program, or a map's system call, was under way there (kernel `kernel/trace/trace_uprobe.c`, `__uprobe_perf_func`).
const UPROBES_ALWAYS_RUN: (u32, u32) = (6, 0);

/// A group of programs that are attached together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    /// Where in the kernel, or in the target's files.
    pub hook: &'static str,
    /// What is seen by it.
    pub purpose: &'static str,
}

/// Everything that can be attached here. Families of user-space hooks take effect where a target maps such a
/// library.
pub const FAMILIES: [Family; 6] = [
    Family {
        name: "lifecycle",
        hook: "tracepoints task_newtask, sched_process_exec, sched_process_exit",
        purpose: "workers that come and go",
    },
    Family {
        name: "io",
        hook: "tracepoints sys_exit_read, _write, _recvfrom, _sendto ... and _close",
        purpose: "requests and responses",
    },
    Family { name: "sample", hook: "perf event cpu-clock on every CPU", purpose: "stacks on the CPU" },
    Family {
        name: "offcpu",
        hook: "raw tracepoint sched_switch",
        purpose: "what threads wait for, and how long",
    },
    Family { name: "drivers", hook: "uprobes on database client libraries", purpose: "SQL statements" },
    Family {
        name: "exceptions",
        hook: "uprobe on PyTraceBack_Here",
        purpose: "exceptions with their tracebacks",
    },
];

/// One reason why nothing can be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong, as one clause.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.what, self.why)
    }
}

/// Nothing can be attached, for at least one reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot attach: {}", list(.0))]
pub struct Obstacles(pub Vec<Obstacle>);

fn list(obstacles: &[Obstacle]) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub families: Vec<Family>,
    /// Copies of the socket program: more than one where programs on system calls can be preempted.
    pub io_copies: u32,
    /// No program on a uprobe is ever skipped: what is concluded from one not having run is true.
    pub uprobes_always_run: bool,
}

impl Plan {
    /// What is unknown is no obstacle: the kernel itself will then say.
    ///
    /// # Errors
    /// Every obstacle there is, not only the first.
    pub fn from_facts(facts: &Facts) -> Result<Self, Obstacles> {
        let obstacles: Vec<Obstacle> =
            [machine(facts), kernel(facts), privileges(facts), pids(facts), locked_down(facts), btf(facts)]
                .into_iter()
                .chain([uprobes(facts)])
                .flatten()
                .collect();
        if obstacles.is_empty() {
            // An unknown version is taken for a new one: copies cost time, missing ones cost data.
            let preempted = facts.kernel_version.is_none_or(|version| version >= PREEMPTED_KERNEL);
            let io_copies = if preempted { IO_COPIES } else { 1 };
            let always_run = facts.kernel_version.is_some_and(|version| version >= UPROBES_ALWAYS_RUN);
            Ok(Self { families: FAMILIES.to_vec(), io_copies, uprobes_always_run: always_run })
        } else {
            Err(Obstacles(obstacles))
        }
    }
}

fn machine(facts: &Facts) -> Option<Obstacle> {
    (facts.machine != "x86_64").then(|| Obstacle {
        what: format!("this machine is `{}`", facts.machine),
        why: "only x86_64 is supported",
        remedy: "run it on an x86_64 host",
    })
}

fn kernel(facts: &Facts) -> Option<Obstacle> {
    facts.kernel_version.filter(|version| *version < MINIMUM_KERNEL).map(|_| Obstacle {
        what: format!("this kernel is {}", facts.kernel_release),
        why: "the oldest kernel that can run the probes is 5.10",
        remedy: "boot Linux 5.10 or newer",
    })
}

fn privileges(facts: &Facts) -> Option<Obstacle> {
    let capabilities = facts.capabilities?;
    let enough =
        capabilities.sys_admin || (capabilities.bpf && capabilities.perfmon && capabilities.sys_ptrace);
    if !enough && facts.effective_uid != 0 {
        return Some(Obstacle {
            what: format!("pyapm runs as user {}, not as root", facts.effective_uid),
            why: "loading BPF programs and reading other processes needs privileges",
            remedy: "run it with `sudo`",
        });
    }
    if !enough {
        let missing: Vec<&str> = [
            (capabilities.bpf, "CAP_BPF"),
            (capabilities.perfmon, "CAP_PERFMON"),
            (capabilities.sys_ptrace, "CAP_SYS_PTRACE"),
        ]
        .into_iter()
        .filter_map(|(has, name)| (!has).then_some(name))
        .collect();
        return Some(Obstacle {
            what: format!("pyapm is root without {}", missing.join(", ")),
            why: "loading BPF programs and reading other processes needs them",
            remedy: "grant them, in a container for example with `--privileged`",
        });
    }
    (facts.initial_user_namespace == Some(false)).then(|| Obstacle {
        what: "pyapm is root of a user namespace only".to_owned(),
        why: "the kernel lets only the host's root load BPF programs",
        remedy: "run it as root of the host, outside the rootless container",
    })
}

fn pids(facts: &Facts) -> Option<Obstacle> {
    (facts.initial_pid_namespace == Some(false)).then(|| Obstacle {
        what: "pyapm runs inside a pid namespace".to_owned(),
        why: "the pids that it sees are not those that the kernel's programs see",
        remedy: "run it on the host, or start its container with `--pid=host`",
    })
}

fn locked_down(facts: &Facts) -> Option<Obstacle> {
    // Integrity mode forbids programs only to write to user memory, which these never do.
    (facts.lockdown == Some(Lockdown::Confidentiality)).then(|| Obstacle {
        what: "this kernel is locked down (confidentiality)".to_owned(),
        why: "BPF programs may not read memory then",
        remedy: "boot with `lockdown=integrity`, or without Secure Boot",
    })
}

fn btf(facts: &Facts) -> Option<Obstacle> {
    facts.btf_bytes.is_none().then(|| Obstacle {
        what: "this kernel has no BTF (`/sys/kernel/btf/vmlinux` is missing)".to_owned(),
        why: "the layout of its structs is read from there",
        remedy: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the big distributions' are, and mount /sys",
    })
}

fn uprobes(facts: &Facts) -> Option<Obstacle> {
    facts.uprobe_source.is_none().then(|| Obstacle {
        what: "this kernel has no uprobes (`/sys/bus/event_source/devices/uprobe` is missing)".to_owned(),
        why: "database drivers are watched by them",
        remedy: "use a kernel built with CONFIG_UPROBE_EVENTS=y, and mount /sys",
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::Capabilities;
    use super::*;

    const ALL: Capabilities = Capabilities { sys_ptrace: true, sys_admin: true, perfmon: true, bpf: true };

    fn good() -> Facts {
        Facts {
            kernel_release: "5.10.0-32-amd64".to_owned(),
            kernel_version: Some((5, 10)),
            machine: "x86_64".to_owned(),
            effective_uid: 0,
            capabilities: Some(ALL),
            initial_user_namespace: Some(true),
            initial_pid_namespace: Some(true),
            btf_bytes: Some(1),
            uprobe_source: Some(7),
            perf_event_paranoid: Some(3),
            lockdown: Some(Lockdown::Integrity),
            tracefs: None,
            memlock_bytes: Some(65_536),
            container: None,
            cpus_online: Some(2),
        }
    }

    fn obstacles(facts: &Facts) -> Vec<String> {
        match Plan::from_facts(facts) {
            Ok(_) => Vec::new(),
            Err(Obstacles(obstacles)) => obstacles.into_iter().map(|obstacle| obstacle.what).collect(),
        }
    }

    #[test]
    fn all_is_well() {
        let names = Plan::from_facts(&good()).unwrap().families.iter().map(|f| f.name).collect::<Vec<_>>();
        assert_eq!(names, ["lifecycle", "io", "sample", "offcpu", "drivers", "exceptions"]);
        let few = Capabilities { sys_admin: false, ..ALL };
        assert_eq!(obstacles(&Facts { effective_uid: 999, capabilities: Some(few), ..good() }), [""; 0]);
    }

    #[test]
    fn each_obstacle() {
        let none = Some(Capabilities::default());
        for (facts, expected) in [
            (Facts { machine: "aarch64".to_owned(), ..good() }, "this machine is `aarch64`"),
            (
                Facts { kernel_version: Some((5, 4)), kernel_release: "5.4.0-1".to_owned(), ..good() },
                "this kernel is 5.4.0-1",
            ),
            (
                Facts { effective_uid: 1000, capabilities: none, ..good() },
                "pyapm runs as user 1000, not as root",
            ),
            (
                Facts { capabilities: none, ..good() },
                "pyapm is root without CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE",
            ),
            (
                Facts { initial_user_namespace: Some(false), ..good() },
                "pyapm is root of a user namespace only",
            ),
            (Facts { initial_pid_namespace: Some(false), ..good() }, "pyapm runs inside a pid namespace"),
            (
                Facts { lockdown: Some(Lockdown::Confidentiality), ..good() },
                "this kernel is locked down (confidentiality)",
            ),
            (
                Facts { btf_bytes: None, ..good() },
                "this kernel has no BTF (`/sys/kernel/btf/vmlinux` is missing)",
            ),
            (
                Facts { uprobe_source: None, ..good() },
                "this kernel has no uprobes (`/sys/bus/event_source/devices/uprobe` is missing)",
            ),
        ] {
            assert_eq!(obstacles(&facts), [expected]);
        }
    }

    #[test]
    fn all_are_told_at_once() {
        let facts = Facts {
            effective_uid: 1000,
            capabilities: Some(Capabilities::default()),
            btf_bytes: None,
            ..good()
        };
        let error = Plan::from_facts(&facts).unwrap_err();
        assert_eq!(error.0.len(), 2);
        assert!(error.to_string().starts_with("cannot attach: pyapm runs as user 1000, not as root: "));
    }

    #[test]
    fn unknown_is_no_obstacle() {
        let facts = Facts {
            kernel_version: None,
            capabilities: None,
            initial_user_namespace: None,
            initial_pid_namespace: None,
            lockdown: None,
            ..good()
        };
        assert_eq!(obstacles(&facts), [""; 0]);
    }
}
