//! Where a process lives: its control group, and what that says of systemd units and containers; and as whom it runs.

use super::procfs::ProcFs;
use nix::unistd::{Uid, User};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    /// From the root of the hierarchy, as the host sees it.
    pub cgroup: Option<String>,
    /// The innermost unit that is a service, else the innermost scope.
    pub unit: Option<String>,
    /// 64 hexadecimal digits.
    pub container: Option<String>,
    /// The pod's number in Kubernetes, a UUID.
    pub pod: Option<String>,
    /// Its number, and its name where the host has one.
    pub users: Vec<String>,
}

impl Residence {
    /// What cannot be read is not known.
    #[must_use]
    pub fn of(procfs: &ProcFs, pid: u32) -> Self {
        let text = |name: &str| std::fs::read_to_string(procfs.root().join(pid.to_string()).join(name)).ok();
        let cgroup = text("cgroup").and_then(|text| cgroup(&text));
        let users = text("status").and_then(|text| uid(&text)).map(names).unwrap_or_default();
        Self {
            unit: cgroup.as_deref().and_then(unit),
            container: cgroup.as_deref().and_then(container),
            pod: cgroup.as_deref().and_then(pod),
            cgroup,
            users,
        }
    }
}

/// Version 2's line `0::PATH`, else that of systemd's own hierarchy, else the first (`cgroups(7)`).
fn cgroup(text: &str) -> Option<String> {
    let paths = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let unified = paths().find(|(controllers, path)| controllers.is_empty() && *path != "/");
    let named = || paths().find(|(controllers, _)| *controllers == "name=systemd");
    unified.or_else(named).or_else(|| paths().next()).map(|(_, path)| path.to_owned())
}

fn unit(cgroup: &str) -> Option<String> {
    let last = |ending: &str| cgroup.rsplit('/').find(|part| part.ends_with(ending)).map(str::to_owned);
    last(".service").or_else(|| last(".scope"))
}

/// Docker, containerd and CRI-O name the group after the container: `docker-ID.scope`, `/docker/ID`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`.
fn container(cgroup: &str) -> Option<String> {
    const DIGITS: usize = 64;
    cgroup.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit(['-', ':']).next()?;
        let is_id = id.len() == DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| id.to_owned())
    })
}

/// The kubelet names a pod's group `kubepods-burstable-podUID.slice`, with `_` for `-` in the number, or `podUID` where systemd
/// does not manage groups (`pkg/kubelet/cm/cgroup_manager_linux.go`). Pods of files on the node have 32 digits.
fn pod(cgroup: &str) -> Option<String> {
    if !cgroup.contains("kubepods") {
        return None;
    }
    cgroup.rsplit('/').find_map(|part| {
        let (_, id) = part.strip_suffix(".slice").unwrap_or(part).rsplit_once("pod")?;
        let id = id.replace('_', "-");
        let is_dash = |at: usize| id.len() == 36 && [8, 13, 18, 23].contains(&at);
        let fits =
            |(at, byte): (usize, u8)| if is_dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
        ([32, 36].contains(&id.len()) && id.bytes().enumerate().all(fits)).then_some(id)
    })
}

/// The effective one: second of `Uid:` (`proc(5)`).
fn uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn names(uid: u32) -> Vec<String> {
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    std::iter::once(uid.to_string()).chain(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d";

    #[test]
    fn groups_of_both_versions() {
        assert_eq!(cgroup("0::/system.slice/shop.service\n").unwrap(), "/system.slice/shop.service");
        let mixed = "12:cpu,cpuacct:/a\n1:name=systemd:/system.slice/b.service\n0::/\n";
        assert_eq!(cgroup(mixed).unwrap(), "/system.slice/b.service");
        assert_eq!(cgroup("3:memory:/c\n").unwrap(), "/c");
        assert_eq!(cgroup(""), None);
    }

    #[test]
    fn units_and_containers() {
        assert_eq!(unit("/system.slice/shop@1.service/x").unwrap(), "shop@1.service");
        assert_eq!(
            unit("/user.slice/user-1.slice/user@1.service/app.slice/run-4.scope").unwrap(),
            "user@1.service"
        );
        assert_eq!(unit("/user.slice/session-4.scope").unwrap(), "session-4.scope");
        assert_eq!(unit("/kubepods/x"), None);
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/kubepods.slice/kubepods-pod7.slice/cri-containerd-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-x.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(container(&path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container("/system.slice/shop.service"), None);
    }

    #[test]
    fn pods() {
        const UID: &str = "0b5a4bd1-64d3-4e0a-9d47-1d8e5b1b6f60";
        let flat = UID.replace('-', "_");
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods/besteffort/pod{UID}/{ID}"),
            // From within a control group namespace of one's own.
            format!("/../../kubepods-pod{flat}.slice/cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(pod(&path).as_deref(), Some(UID), "{path}");
            assert_eq!(container(&path).as_deref(), Some(ID), "{path}");
        }
        let of_a_file = "/kubepods/pod0123456789abcdef0123456789abcdef/x";
        assert_eq!(pod(of_a_file).as_deref(), Some("0123456789abcdef0123456789abcdef"));
        for path in
            ["/kubepods.slice/kubepods-burstable.slice", "/system.slice/podman.service", "/kubepods/podx"]
        {
            assert_eq!(pod(path), None, "{path}");
        }
    }

    #[test]
    fn of_this_process() {
        let residence = Residence::of(&ProcFs::new(), std::process::id());
        let own = Uid::effective().to_string();
        assert_eq!(residence.users.first(), Some(&own));
        assert_eq!(Residence::of(&ProcFs::new(), u32::MAX), Residence::default());
    }
}
