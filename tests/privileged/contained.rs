//! The service in a container, as `docs/deployment/docker.md` has it: namespaces of its own for mounts, network, host name, IPC
//! and control groups, not for pids; a root of its own with the binary and its libraries, read-only; a `/proc`, a `/sys`
//! without what is mounted below it, and the capabilities that the page names. It watches an application of the host, and
//! one in namespaces of its own whose library lies where nobody else can see it.

use harness::load::{Connection, Request};
use harness::place::{self, Python};
use harness::service::Service;
use harness::wait;
use harness::wsgi::{Site, Wsgi};
use pyapm_model::service::{ApplicationInfo, ApplicationState};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the root from `$1` (which has the binary and its libraries), with the folder of the configuration's file in it
/// for `/run/pyapm` and `/etc/pyapm`, moves into it and becomes the service. The last word is the configuration.
const ENTER: &str = r#"
set -e
root=$1; shift
for word in "$@"; do folder=${word%/*}; done
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/old" "$root$folder"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount --bind "$folder" "$root$folder"
hostname container
cd "$root"
pivot_root . old
/bin/umount -l /old
/bin/mount -o remount,ro,bind /
exec /bin/setpriv --bounding-set="-all,$CAPABILITIES" --no-new-privs "$@"
"#;

/// What `docker.md` has the container be given.
fn capabilities() -> Vec<String> {
    let page = std::fs::read_to_string(place::root().join("docs/deployment/docker.md")).unwrap();
    let added = page.split("--cap-add ").skip(1);
    added.map(|rest| format!("+{}", rest.split_whitespace().next().unwrap().to_lowercase())).collect()
}

/// Programs with what they are linked to, each at its own place below `root`.
fn furnish(root: &Path, programs: &[(PathBuf, PathBuf)]) {
    for (program, place) in programs {
        let linked = Command::new("ldd").arg(program).output().unwrap();
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
        let own = libraries.map(|library| (PathBuf::from(library), PathBuf::from(library)));
        for (from, to) in own.chain([(program.clone(), place.clone())]) {
            let to = root.join(to.strip_prefix("/").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            if !to.exists() {
                std::fs::copy(&from, &to).unwrap();
            }
        }
    }
}

fn ask(served: &Wsgi) {
    for _ in 0..40 {
        Connection::open(&served.address).unwrap().ask(&Request::get("/spin").close()).unwrap();
    }
}

#[test]
fn in_a_container_with_the_documented_mounts_everything_is_seen() {
    let python = Python::first().unwrap();
    let host = Site::new("host", python.clone()).unwrap();
    // Its TLS library is in its mount namespace alone, and its pids are its own.
    let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && cp /usr/lib/x86_64-linux-gnu/libssl.so.3 /mnt \
                  && LD_PRELOAD=/mnt/libssl.so.3 exec \"$@\"";
    let unshare =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup", "--uts"];
    let guest =
        Site::new("guest", python).unwrap().through(&[&unshare[..], &["sh", "-c", script, "sh"]].concat());
    let (on_host, in_guest) = (host.serve(&[]).unwrap(), guest.serve(&[]).unwrap());

    let root = tempfile::Builder::new().prefix("pyapm-root-").tempdir().unwrap();
    let binary = place::binary().unwrap();
    // The binary, and what the way in needs.
    let tools = ["setpriv", "mount", "umount"]
        .map(|name| (place::system_program(name).unwrap(), Path::new("/bin").join(name)));
    furnish(root.path(), &[&tools[..], &[(binary.clone(), binary)]].concat());
    let rules = |site: &Site| {
        format!("[[discovery.include]]\nname = '{}'\ncommand = '{}'\n", site.name, site.pattern())
    };
    let config = format!(
        "[prometheus]\nlisten = ''\n[collection]\nsampling_hz = 999\n{}{}",
        rules(&host),
        rules(&guest)
    );
    let given = format!("CAPABILITIES={}", capabilities().join(","));
    let before =
        ["env", &given, "unshare", "--mount", "--net", "--uts", "--ipc", "--cgroup", "sh", "-c", ENTER, "sh"];
    let mut service =
        Service::start_as(&config, &[&before[..], &[root.path().to_str().unwrap()]].concat()).unwrap();
    let is_there = |all: &[ApplicationInfo], site: &Site| {
        all.iter().any(|one| one.name == site.name && one.state == ApplicationState::Running)
    };
    service.wait_for("both", |all| is_there(all, &host) && is_there(all, &guest)).unwrap();
    for (site, served) in [(&host, &on_host), (&guest, &in_guest)] {
        let before = service.state(&site.name).unwrap().snapshot.totals.all_transactions;
        ask(served);
        let state = wait::until("its requests", || {
            let state = service.state(&site.name)?;
            Ok((state.snapshot.totals.all_transactions >= before + 40).then_some(state))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", service.log()));
        assert_eq!(state.snapshot.totals.all_transactions, before + 40, "{}", site.name);
        // Its functions, by samples, with names read from its memory.
        let functions = &state.snapshot.functions;
        assert!(functions.iter().any(|one| one.function == "app"), "{}: {functions:?}", site.name);
        assert_eq!(state.snapshot.losses.dropped.values().sum::<u64>(), 0);
    }
    // Where the probes are, through `/proc/PID/root`, in a file that this container cannot name.
    let log = service.log();
    let inside =
        log.lines().any(|line| line.contains("`SSL_read_ex` probed") && line.contains("/mnt/libssl.so.3"));
    assert!(inside && !log.contains("not probed"), "{log}");
    // In namespaces of its own it is, and in no other root.
    let of = |pid: u32, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["mnt", "net", "uts", "ipc", "cgroup"] {
        assert_ne!(of(service.pid(), kind), of(std::process::id(), kind), "{kind}");
    }
    assert_eq!(of(service.pid(), "pid"), of(std::process::id(), "pid"));
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", service.pid())).unwrap();
    assert!(
        !mounts.contains("tracefs") && !mounts.contains("debugfs") && !mounts.contains(" bpf "),
        "{mounts}"
    );
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
}
