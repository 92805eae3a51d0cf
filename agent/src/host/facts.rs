//! What is true of this machine and of our rights on it. Reads and reports; what follows from the facts is
//! [`plan`](super::plan)'s matter. Takes the root of the file system, so that tests can hand in a tree.

use nix::sys::resource::{Resource, getrlimit};
use std::path::Path;

/// Capabilities that matter here, from `CapEff` of `/proc/self/status`; bit numbers are those of
/// include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub sys_ptrace: bool,
    pub sys_admin: bool,
    pub perfmon: bool,
    pub bpf: bool,
}

/// `/sys/kernel/security/lockdown`, kernel_lockdown(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    None,
    Integrity,
    /// Reading the kernel's memory is refused, to BPF programs too.
    Confidentiality,
}

/// Facts that could not be told are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `6.1.0-18-amd64`
    pub kernel_release: String,
    /// Major and minor number out of the release.
    pub kernel_version: Option<(u32, u32)>,
    /// `x86_64`
    pub machine: String,
    pub effective_uid: u32,
    pub capabilities: Option<Capabilities>,
    /// Whether the capabilities count for the machine, or for a user namespace of its own only.
    pub initial_user_namespace: Option<bool>,
    /// Whether pids seen here are those that the kernel's programs see.
    pub initial_pid_namespace: Option<bool>,
    /// Size of `/sys/kernel/btf/vmlinux`; `None` when it is not there.
    pub btf_bytes: Option<u64>,
    /// Number of the perf source by which uprobes are attached; `None` without CONFIG_UPROBE_EVENTS.
    pub uprobe_source: Option<u32>,
    pub perf_event_paranoid: Option<i32>,
    pub lockdown: Option<Lockdown>,
    /// Where tracefs is mounted, if it is.
    pub tracefs: Option<String>,
    /// Soft limit in bytes of memory that may be locked; `None` is unlimited. Kernels before 5.11 count BPF maps
    /// against it.
    pub memlock_bytes: Option<u64>,
    /// A mark that a container runtime left in this file system.
    pub container: Option<String>,
    pub cpus_online: Option<u32>,
}

impl Facts {
    /// Of this machine and this process.
    #[must_use]
    pub fn read() -> Self {
        let mut facts = Self::read_under(Path::new("/"));
        // What uname(2) says is what this process is given, and what `uname -r` shows its user.
        if let Ok(names) = nix::sys::utsname::uname() {
            facts.kernel_release = names.release().to_string_lossy().into_owned();
            facts.kernel_version = version(&facts.kernel_release);
        }
        facts
    }

    /// With every file looked for under `root`; what is asked of the kernel directly stays its own.
    #[must_use]
    pub fn read_under(root: &Path) -> Self {
        let text = |path: &str| {
            std::fs::read(root.join(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        let kernel_release = text("proc/sys/kernel/osrelease").unwrap_or_default();
        let machine = nix::sys::utsname::uname()
            .map(|names| names.machine().to_string_lossy().into_owned())
            .unwrap_or_default();
        let namespace = |kind: &str, initial: &str| {
            let link = std::fs::read_link(root.join("proc/self/ns").join(kind)).ok()?;
            Some(link.to_str()? == format!("{kind}:[{initial}]"))
        };
        Self {
            kernel_version: version(&kernel_release),
            kernel_release,
            machine,
            effective_uid: nix::unistd::geteuid().as_raw(),
            capabilities: text("proc/self/status").as_deref().and_then(capabilities),
            // PROC_USER_INIT_INO and PROC_PID_INIT_INO, include/linux/proc_ns.h.
            initial_user_namespace: namespace("user", "4026531837"),
            initial_pid_namespace: namespace("pid", "4026531836"),
            btf_bytes: std::fs::metadata(root.join("sys/kernel/btf/vmlinux")).ok().map(|file| file.len()),
            uprobe_source: text("sys/bus/event_source/devices/uprobe/type")
                .and_then(|number| number.parse().ok()),
            perf_event_paranoid: text("proc/sys/kernel/perf_event_paranoid")
                .and_then(|number| number.parse().ok()),
            lockdown: text("sys/kernel/security/lockdown").as_deref().and_then(lockdown),
            tracefs: text("proc/mounts").as_deref().and_then(tracefs),
            memlock_bytes: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .map(|(soft, _)| soft)
                .filter(|soft| *soft != nix::libc::RLIM_INFINITY),
            container: ["run/.containerenv", ".dockerenv"]
                .into_iter()
                .find(|mark| root.join(mark).exists())
                .map(|mark| format!("/{mark}")),
            cpus_online: text("sys/devices/system/cpu/online").as_deref().and_then(count_list),
        }
    }
}

/// `6.1.0-18-amd64` is 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn capabilities(status: &str) -> Option<Capabilities> {
    let word = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let bits = u64::from_str_radix(word.trim(), 16).ok()?;
    let has = |bit: u32| bits >> bit & 1 == 1;
    Some(Capabilities { sys_ptrace: has(19), sys_admin: has(21), perfmon: has(38), bpf: has(39) })
}

/// The mode in force stands in brackets: `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Option<Lockdown> {
    match text.split_once('[')?.1.split(']').next()? {
        "none" => Some(Lockdown::None),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

fn tracefs(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "tracefs").then(|| place.to_owned())
    })
}

/// `0-3,5` is five.
fn count_list(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count.checked_add(last.checked_sub(first)?)?.checked_add(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_machine() {
        let facts = Facts::read();
        assert!(facts.kernel_version.is_some_and(|version| version >= (3, 0)));
        assert!(!facts.machine.is_empty());
        assert!(facts.cpus_online.is_some_and(|count| count >= 1));
        assert!(facts.capabilities.is_some());
    }

    #[test]
    fn of_a_made_up_tree() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "5.10.0-32-cloud-amd64\n");
        write("proc/sys/kernel/perf_event_paranoid", "-1\n");
        write("proc/self/status", "Name:\tx\nCapEff:\t000000c000080000\n");
        write("proc/mounts", "sysfs /sys sysfs rw 0 0\nnodev /sys/kernel/tracing tracefs rw 0 0\n");
        write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
        write("sys/kernel/btf/vmlinux", "1234");
        write("sys/bus/event_source/devices/uprobe/type", "9\n");
        write("sys/devices/system/cpu/online", "0-3,5\n");
        write("run/.containerenv", "");
        std::fs::create_dir_all(root.path().join("proc/self/ns")).unwrap();
        for (name, target) in [("pid", "pid:[4026531836]"), ("user", "user:[4026532000]")] {
            std::os::unix::fs::symlink(target, root.path().join("proc/self/ns").join(name)).unwrap();
        }
        let facts = Facts::read_under(root.path());
        assert_eq!(facts.kernel_version, Some((5, 10)));
        assert_eq!(facts.perf_event_paranoid, Some(-1));
        let capabilities = Capabilities { sys_ptrace: true, sys_admin: false, perfmon: true, bpf: true };
        assert_eq!(facts.capabilities, Some(capabilities));
        assert_eq!(facts.tracefs.as_deref(), Some("/sys/kernel/tracing"));
        assert_eq!(facts.lockdown, Some(Lockdown::Confidentiality));
        assert_eq!((facts.btf_bytes, facts.uprobe_source), (Some(4), Some(9)));
        assert_eq!(facts.cpus_online, Some(5));
        assert_eq!(facts.container.as_deref(), Some("/run/.containerenv"));
        assert_eq!(facts.initial_pid_namespace, Some(true));
        assert_eq!(facts.initial_user_namespace, Some(false));
    }

    #[test]
    fn of_an_empty_tree() {
        let root = tempfile::tempdir().unwrap();
        let facts = Facts::read_under(root.path());
        assert_eq!((facts.kernel_version, facts.capabilities, facts.btf_bytes), (None, None, None));
        assert_eq!((facts.lockdown, facts.cpus_online, facts.initial_pid_namespace), (None, None, None));
    }

    #[test]
    fn odd_texts() {
        assert_eq!(version("7.2"), Some((7, 2)));
        assert_eq!(version("7"), None);
        assert_eq!(version("x.y"), None);
        assert_eq!(count_list("0"), Some(1));
        assert_eq!(count_list("3-1"), None);
        assert_eq!(count_list("0-4294967295"), None);
        assert_eq!(lockdown("none"), None);
        assert_eq!(lockdown("[none] integrity"), Some(Lockdown::None));
        assert_eq!(capabilities("CapEff:\tzz"), None);
    }
}
