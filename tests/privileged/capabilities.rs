//! The capabilities of the packaged unit: together they suffice, and without any one of them something that they are there
//! for does not work. The applications belong to another user, in a folder that is closed to everybody else.

use harness::load::{Connection, Request};
use harness::place::{self, Python};
use harness::service::Service;
use harness::wait;
use harness::wsgi::Site;
use pyapm_model::service::ApplicationState;
use std::process::Command;

fn unit() -> String {
    std::fs::read_to_string(place::root().join("packaging/pyapm.service")).unwrap()
}

/// As `setpriv` calls them.
fn bounding_set() -> Vec<String> {
    let unit = unit();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    line.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

/// What a service with these capabilities, and no other, can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Able {
    /// It comes up, with a socket that belongs to a group.
    starts: bool,
    /// Sees requests of an application of another user.
    requests: bool,
    /// And what it does: functions by samples.
    stacks: bool,
    /// And has probes on libraries in a folder that only their owner may enter.
    libraries: bool,
}

fn able(site: &Site, served: &harness::wsgi::Wsgi, capabilities: &[String]) -> Able {
    let set: Vec<String> = capabilities.iter().map(|name| format!("+{name}")).collect();
    let bounding = format!("--bounding-set=-all,{}", set.join(","));
    let config = format!(
        "socket_group = 'daemon'\n[collection]\nsampling_hz = 999\n[[discovery.include]]\ncommand = '{}'\n",
        site.pattern()
    );
    let mut able = Able::default();
    let Ok(mut service) = Service::start_as(&config, &["setpriv", &bounding, "--no-new-privs"]) else {
        return able;
    };
    able.starts = true;
    let is_there = |all: &[pyapm_model::service::ApplicationInfo]| {
        all.iter().any(|one| one.state == ApplicationState::Running)
    };
    // Whoever runs already is watched before it says that it is ready.
    if !is_there(&service.applications().unwrap()) {
        return able;
    }
    service.wait_for("the application", is_there).unwrap();
    for _ in 0..40 {
        Connection::open(&served.address).unwrap().ask(&Request::get("/spin").close()).unwrap();
    }
    let seen = wait::until("its requests, or none", || {
        let state = service.state(&site.name)?;
        let total = state.snapshot.totals.all_transactions;
        Ok((total >= 40).then_some(state))
    });
    if let Ok(state) = seen {
        able.requests = true;
        able.stacks = state.snapshot.functions.iter().any(|one| one.function == "app");
    }
    able.libraries = service.log().contains("`SSL_read_ex` probed") && !service.log().contains("not probed");
    able
}

#[test]
fn each_capability_of_the_unit_is_needed_and_all_of_them_suffice() {
    let all = bounding_set();
    // Somebody else's, and open to nobody but its owner and whoever may read everything.
    // The distribution's interpreter: others may lie in a home that this user may not enter.
    let site = Site::private("owned", Python::named("venv-debian-3.11").unwrap(), 65_534).unwrap();
    let served = site.serve(&[]).unwrap();
    let complete = Able { starts: true, requests: true, stacks: true, libraries: true };
    assert_eq!(able(&site, &served, &all), complete, "with all of {all:?}");
    for without in &all {
        let rest: Vec<String> = all.iter().filter(|name| *name != without).cloned().collect();
        assert_ne!(able(&site, &served, &rest), complete, "`{without}` is not needed");
    }
}

#[test]
fn the_unit_is_as_closed_as_it_was() {
    /// Of 100, as `systemd-analyze security` weighs it; 41 with systemd 252. CAP_SYS_ADMIN alone costs a good part.
    const EXPOSURE: &str = "--threshold=45";
    let unit = place::root().join("packaging/pyapm.service");
    let output = Command::new(place::system_program("systemd-analyze").unwrap())
        .args(["security", "--offline=true", "--no-pager", EXPOSURE])
        .arg(&unit)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
