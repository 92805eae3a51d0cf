//! The service over several applications at once: found, followed through recycling, ends and starts, and through
//! changes of the configuration, with every request counted once.

use super::exports_prometheus::{scrape, sum};
use harness::bpf::Held;
use harness::load::{Connection, Plan, Request, Stream, drive};
use harness::place::Python;
use harness::prometheus::free_port;
use harness::service::Service;
use harness::wait;
use harness::wsgi::{Site, Wsgi};
use nix::sys::signal::Signal;
use pyapm_model::service::{ApplicationInfo, ApplicationState};

fn site(name: &str) -> Site {
    Site::new(name, Python::first().unwrap()).unwrap()
}

/// Only the test's own: other Python servers of this machine are none of its business.
fn naming(sites: &[&Site]) -> String {
    let patterns: Vec<String> = sites.iter().map(|site| format!("'{}'", site.pattern())).collect();
    format!("[[discovery.include]]\ncommand = [{}]\n", patterns.join(", "))
}

fn running(applications: &[ApplicationInfo], name: &str) -> bool {
    applications.iter().any(|one| one.name == name && one.state == ApplicationState::Running)
}

fn ask(wsgi: &Wsgi, total: u64) {
    let requests = vec![Request::get("/a"), Request::get("/b").close()];
    let counts = drive(&wsgi.address, &Plan { requests, total, clients: 4 });
    assert_eq!(counts.without_failures().unwrap().answers.len() as u64, total);
}

fn total(service: &Service, site: &Site) -> u64 {
    service.state(&site.name).unwrap().snapshot.totals.all_transactions
}

/// Waits for the last transactions to come through, then holds the exact number.
fn expect(service: &Service, site: &Site, expected: u64) {
    wait::until("the last transaction", || Ok((total(service, site) >= expected).then_some(()))).unwrap();
    assert_eq!(total(service, site), expected, "{}", site.name);
}

#[test]
fn two_applications_with_recycled_workers_and_a_bystander() {
    let (blue, green, bystander) = (site("blue"), site("green"), site("bystander"));
    // One runs before the service, the other starts after it.
    let first = blue.serve(&["--max-requests=25", "--max-requests-jitter=10"]).unwrap();
    let rules = "[[discovery.exclude]]\ncommand = '*bystander*'\n";
    let mut service = Service::start(&format!("{}{rules}", naming(&[&blue, &green, &bystander]))).unwrap();
    let second = green.serve(&[]).unwrap();
    let _nobody = bystander.bystander().unwrap();
    service
        .wait_for("both applications", |all| running(all, &blue.name) && running(all, &green.name))
        .unwrap();
    let before = (total(&service, &blue), total(&service, &green));
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| ask(&first, 1_000));
        let other = scope.spawn(|| ask(&second, 500));
        (one.join(), other.join())
    });
    one.unwrap();
    other.unwrap();
    expect(&service, &blue, before.0 + 1_000);
    expect(&service, &green, before.1 + 500);

    let applications = service.applications().unwrap();
    let names: Vec<&str> = applications.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), 2, "the bystander is watched: {names:?}");
    let states = (service.state(&blue.name).unwrap(), service.state(&green.name).unwrap());
    assert_eq!((states.0.info.pid, states.1.info.pid), (first.master(), second.master()));
    assert_eq!(states.0.info.server.as_deref(), Some("gunicorn"));
    for state in [&states.0, &states.1] {
        let losses = &state.snapshot.losses;
        // Some are under way at this moment.
        assert!(losses.seen >= losses.delivered && losses.dropped.values().all(|count| *count == 0));
        assert!(state.snapshot.workers.iter().all(|worker| worker.is_master || worker.rss_bytes.is_some()));
    }
    let (status, log) = service.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    let last = log.lines().last().unwrap();
    let number = |name: &str| -> u64 {
        let rest = last.split(&format!(" {name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in: {last}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert_eq!(number("seen"), number("delivered"), "{last}");
    assert!(number("transactions") >= before.0 + before.1 + 1_500, "{last}");
}

#[test]
fn an_application_that_stops_and_starts_again_is_the_same_one() {
    let site = site("phoenix");
    let mut service = Service::start(&naming(&[&site])).unwrap();
    let wsgi = site.serve(&[]).unwrap();
    service.wait_for("the application", |all| running(all, &site.name)).unwrap();
    let before = total(&service, &site);
    ask(&wsgi, 100);
    expect(&service, &site, before + 100);
    let number = service.state(&site.name).unwrap().info.id;
    wsgi.stop().unwrap();
    service.wait_for("its end", |all| !running(all, &site.name)).unwrap();
    assert_eq!(total(&service, &site), before + 100, "what has ended keeps its figures");

    let again = site.launch(&[]).unwrap();
    let mut answered = 0;
    wait::until("twenty answers", || {
        let ask = || Connection::open(&again.address)?.ask(&Request::get("/again").close());
        answered += u64::from(ask().is_ok());
        Ok((answered >= 20).then_some(()))
    })
    .unwrap();
    service.wait_for("it to run again", |all| running(all, &site.name)).unwrap();
    let state = service.state(&site.name).unwrap();
    assert_eq!((state.info.id, state.info.pid), (number, again.master()));
    // From its first requests on: at most one may have come before it was watched.
    let least = before + 100 + answered - 1;
    wait::until("its transactions", || Ok((total(&service, &site) >= least).then_some(()))).unwrap();
    assert!(total(&service, &site) <= least + 1);
}

#[test]
fn reloading_under_load_loses_no_transaction() {
    let (blue, green) = (site("kept"), site("dropped"));
    let mut service = Service::start(&naming(&[&blue, &green])).unwrap();
    let (first, second) = (blue.serve(&["--max-requests=50"]).unwrap(), green.serve(&[]).unwrap());
    service
        .wait_for("both applications", |all| running(all, &blue.name) && running(all, &green.name))
        .unwrap();
    let before = total(&service, &blue);
    let requests = vec![Request::get("/a"), Request::get("/b").close()];
    let load = Stream::start(&first.address, &Plan { requests, total: 2_000, clients: 4 }, Some(2_000));
    for round in 1..=8_u64 {
        wait::until("the load to go on", || Ok((load.sent() >= round * 200).then_some(()))).unwrap();
        let rate = 40 + round;
        // The other application is let go by the fourth.
        let sites: &[&Site] = if round < 4 { &[&blue, &green] } else { &[&blue] };
        service.configure(&format!("[collection]\nsampling_hz = {rate}\n{}", naming(sites))).unwrap();
        service.signal(Signal::SIGHUP).unwrap();
    }
    let counts = load.finish().without_failures().unwrap();
    assert_eq!(counts.answers.len(), 2_000);
    expect(&service, &blue, before + 2_000);
    service.wait_for("the other to be let go", |all| all.iter().all(|one| one.name != green.name)).unwrap();
    wait::until("the new rate", || Ok((service.health()?.sampling_hz == 48).then_some(()))).unwrap();
    assert!(service.told().contains("RELOADING=1"));
    ask(&second, 10);
    drop(second);
}

#[test]
fn a_bad_configuration_is_kept_out() {
    let site = site("steady");
    let good = naming(&[&site]);
    let mut service = Service::start(&good).unwrap();
    let wsgi = site.serve(&[]).unwrap();
    service.wait_for("the application", |all| running(all, &site.name)).unwrap();
    let before = total(&service, &site);
    service.configure(&format!("[collection]\nsampling_herz = 7\n{good}")).unwrap();
    service.signal(Signal::SIGHUP).unwrap();
    service.wait_for_log("the old one stays in force").unwrap();
    let log = service.log();
    assert!(
        log.contains("pyapm.toml:5:1: unknown key `sampling_herz`; did you mean `sampling_hz`?"),
        "{log}"
    );
    ask(&wsgi, 50);
    expect(&service, &site, before + 50);
    let health = service.health().unwrap();
    assert_eq!((health.sampling_hz, health.reloads_failed), (99, 1));
    // It goes on from there.
    service.configure(&format!("[collection]\nsampling_hz = 7\n{good}")).unwrap();
    service.signal(Signal::SIGHUP).unwrap();
    wait::until("the new rate", || Ok((service.health()?.sampling_hz == 7).then_some(()))).unwrap();

    let refused = harness::pyapm::run(&["run", "--config", "/nonexistent/pyapm.toml"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn the_kill_switch_lets_go_of_everything_and_comes_back() {
    let site = site("switched");
    let port = free_port().unwrap();
    let config = format!("[prometheus]\nlisten = '127.0.0.1:{port}'\n[collection]\nprobe_costs = true\n");
    let mut service = Service::start(&format!("{config}{}", naming(&[&site]))).unwrap();
    let wsgi = site.serve(&[]).unwrap();
    service.wait_for("the application", |all| running(all, &site.name)).unwrap();
    ask(&wsgi, 20);
    let is_told = |watching: f64| {
        wait::until("the page to say it", || {
            Ok((sum(&scrape(port), "pyapm_watching") == watching).then_some(()))
        })
        .unwrap();
    };
    is_told(1.0);
    wait::until("hits of probes", || Ok((!service.health()?.probes.is_empty()).then_some(()))).unwrap();
    assert!(!Held::by(service.pid()).unwrap().programs.is_empty());
    for by_file in [true, false] {
        let switch = service.folder().join("off");
        if by_file {
            std::fs::write(&switch, "").unwrap();
        } else {
            service.signal(Signal::SIGUSR1).unwrap();
        }
        wait::until("everything to be let go", || {
            Ok(Held::by(service.pid())?.programs.is_empty().then_some(()))
        })
        .unwrap();
        service.wait_for("no application", <[ApplicationInfo]>::is_empty).unwrap();
        is_told(0.0);
        ask(&wsgi, 20);
        if by_file {
            std::fs::remove_file(&switch).unwrap();
        } else {
            service.signal(Signal::SIGHUP).unwrap();
        }
        service.wait_for("the application again", |all| running(all, &site.name)).unwrap();
        let before = total(&service, &site);
        ask(&wsgi, 20);
        expect(&service, &site, before + 20);
    }
    wait::until("the service manager to be told", || {
        let told = service.told();
        Ok((told.contains("STATUS=off: SIGUSR1") && told.contains("WATCHDOG=1")).then_some(()))
    })
    .unwrap();
}
