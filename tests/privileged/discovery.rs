//! The rules of discovery on a real application: each key by itself keeps one out that it does not fit, all of them
//! together let it in, and an `exclude` goes before.

use harness::load::Address;
use harness::place::Python;
use harness::service::Service;
use harness::wsgi::Site;
use nix::sys::signal::Signal;
use pyapm_model::service::ApplicationState;

/// `nobody`
const USER: u32 = 65_534;

#[test]
fn every_key_of_a_rule_decides_about_a_real_application() {
    let python = Python::named("venv-debian-3.11").unwrap();
    let site = Site::private("ruled", python, USER).unwrap().through(&["env", "STAGE=production-3"]);
    let served = site.serve(&[]).unwrap();
    let Address::Tcp(address) = &served.address else { panic!() };
    let proc = format!("/proc/{}", served.master());
    let executable = std::fs::read_link(format!("{proc}/exe")).unwrap();
    let cgroups = std::fs::read_to_string(format!("{proc}/cgroup")).unwrap();
    // Where the host has nothing but the root, that is its name.
    let cgroup = cgroups.lines().next().unwrap().splitn(3, ':').nth(2).unwrap();
    let keys = [
        ("executable", format!("'{}'", executable.display()), "'/nowhere/python'"),
        ("command", format!("'{}'", site.pattern()), "'*nothing-like-this*'"),
        ("user", "['nobody', 'x']".to_owned(), "'root'"),
        ("port", format!("[1, {}]", address.port()), "[1]"),
        ("environment", "{ STAGE = 'production-*' }".to_owned(), "{ STAGE = 'test' }"),
        ("cgroup", format!("'*{}'", cgroup.trim_end_matches('/')), "'/nowhere/*'"),
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
    let mut service = Service::start(&rules).unwrap();
    service
        .wait_for("the application", |all| all.iter().any(|one| one.state == ApplicationState::Running))
        .unwrap();
    let applications = service.applications().unwrap();
    let [one] = &applications[..] else { panic!("{applications:?}") };
    assert_eq!((one.name.as_str(), one.pid), ("right", served.master()));

    let excluding = "[[discovery.exclude]]\nuser = '65534'\nenvironment = { STAGE = '*' }\n";
    service.configure(&format!("{rules}{excluding}")).unwrap();
    service.signal(Signal::SIGHUP).unwrap();
    service.wait_for("it to be let go", <[_]>::is_empty).unwrap();
    assert!(service.log().contains("the rules do not name it"), "{}", service.log());
}
