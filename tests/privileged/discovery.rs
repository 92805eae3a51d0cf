//! The rules of discovery on a real application: each key by itself keeps one out that it does not fit, all of them
//! together let it in, and an `exclude` goes before.

use harness::load::Address;
use harness::place::Python;
use harness::service::Service;
use harness::wait;
use harness::wsgi::Site;
use nix::sys::signal::Signal;
use pyapm_model::service::ApplicationState;
use std::path::{Path, PathBuf};

/// `nobody`
const USER: u32 = 65_534;

/// As Docker names the group of a container, below the root of the hierarchy that pyapm goes by.
const CONTAINER: &str = "3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d3f2a9c0d";

/// A control group of that name. It is removed when nobody is in it any more.
struct Group(PathBuf);

impl Group {
    fn make() -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let kind = |line: &&str, kind: &str, option: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields[2] == kind && fields[3].contains(option)
        };
        // Version 2, unless the host has systemd's own hierarchy of version 1.
        let line = mounts.lines().find(|line| kind(line, "cgroup", "name=systemd"));
        let line = line.or_else(|| mounts.lines().find(|line| kind(line, "cgroup2", ""))).unwrap();
        let root = Path::new(line.split(' ').nth(1).unwrap());
        let folder = root.join(format!("docker-{CONTAINER}.scope"));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Who was killed is in it for a moment longer.
        let _left_behind = wait::until("the group to be empty", || Ok(std::fs::remove_dir(&self.0).ok()));
    }
}

#[test]
fn every_key_of_a_rule_decides_about_a_real_application() {
    let python = Python::named("venv-debian-3.11").unwrap();
    let site = Site::private("ruled", python, USER).unwrap().through(&["env", "STAGE=production-3"]);
    let group = Group::make();
    let served = site.serve(&[]).unwrap();
    group.take(served.master());
    let Address::Tcp(address) = &served.address else { panic!() };
    let executable = std::fs::read_link(format!("/proc/{}/exe", served.master())).unwrap();
    let keys = [
        ("executable", format!("'{}'", executable.display()), "'/nowhere/python'"),
        ("command", format!("'{}'", site.pattern()), "'*nothing-like-this*'"),
        ("user", "['nobody', 'x']".to_owned(), "'root'"),
        ("port", format!("[1, {}]", address.port()), "[1]"),
        ("environment", "{ STAGE = 'production-*' }".to_owned(), "{ STAGE = 'test' }"),
        ("cgroup", format!("'*/docker-{CONTAINER}.scope'"), "'/nowhere/*'"),
        ("container", "'3f2a9c0d3f2a*'".to_owned(), "'3f2a9c0e*'"),
        ("unit", format!("['x.service', 'docker-{CONTAINER}.scope']"), "'*.service'"),
    ];
    let table = |name: &str, wrong: Option<&str>| {
        let value = |(key, right, no): &(&str, String, &str)| {
            format!("{key} = {}\n", if wrong == Some(*key) { *no } else { right.as_str() })
        };
        format!("[[discovery.include]]\nname = '{name}'\n{}", keys.iter().map(value).collect::<String>())
    };
    // The first that fits gives the name: if any of these did, it would be its.
    let mut rules: String = keys.iter().map(|(key, ..)| table(&format!("not by {key}"), Some(key))).collect();
    rules += &table("right", None);
    // As under systemd: its stderr is the journal, by a variable that says which file that is.
    let journal = "JOURNAL_STREAM=$(stat --dereference --format=%d:%i /proc/self/fd/2) exec \"$@\"";
    let mut service = Service::start_as(&rules, &["sh", "-c", journal, "sh"]).unwrap();
    service
        .wait_for("the application", |all| all.iter().any(|one| one.state == ApplicationState::Running))
        .unwrap();
    let applications = service.applications().unwrap();
    let [one] = &applications[..] else { panic!("{applications:?}") };
    assert_eq!((one.name.as_str(), one.pid), ("right", served.master()));
    assert_eq!(one.container.as_deref(), Some(CONTAINER));

    let excluding = "[[discovery.exclude]]\nuser = '65534'\nenvironment = { STAGE = '*' }\n";
    service.configure(&format!("{rules}{excluding}")).unwrap();
    service.signal(Signal::SIGHUP).unwrap();
    service.wait_for("it to be let go", <[_]>::is_empty).unwrap();
    let log = service.log();
    assert!(log.contains("the rules do not name it"), "{log}");
    // Each line with its priority, without time and colours, which the journal has itself.
    assert!(log.lines().all(|line| line.starts_with('<') && line[2..].starts_with('>')), "{log}");
    assert!(log.contains("<6>") && !log.contains('\u{1b}'), "{log}");
}
