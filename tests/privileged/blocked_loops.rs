//! Event loops that one callback holds up: how often, how long, and by whom.

use harness::framework::Served;
use harness::load::Address;
use harness::place::Python;
use harness::prometheus::{free_port, page, samples};
use harness::service::Service;
use harness::wait;
use pyapm_model::snapshot::EventLoop;

fn only_loop(service: &Service) -> anyhow::Result<Option<EventLoop>> {
    Ok(service.state("blocking")?.snapshot.loops.first().cloned())
}

/// Innermost function of the longest turn.
fn by(one: &EventLoop) -> Option<&str> {
    one.stack.first().map(|frame| frame.function.as_str())
}

#[test]
fn whoever_holds_up_the_loop_is_named() {
    let served = Served::blocking(&Python::first().unwrap()).unwrap();
    let Address::Tcp(address) = &served.address else { panic!("{:?}", served.address) };
    let page_port = free_port().unwrap();
    let config = format!(
        "[prometheus]\nlisten = '127.0.0.1:{page_port}'\n[[discovery.include]]\nname = 'blocking'\nport = [{}]\n",
        address.port()
    );
    let mut service = Service::start(&config).unwrap();
    service.wait_for("the application", |all| all.iter().any(|one| one.name == "blocking")).unwrap();
    // It does not block: others could go on. Until the loop is followed, nothing of it is known.
    wait::until("the loop to be met", || {
        served.get("/waits")?;
        only_loop(&service)
    })
    .unwrap();
    let before = only_loop(&service).unwrap().unwrap().blocked;

    // Asleep, where no sample meets it; whoever comes meanwhile waits.
    for _ in 0..3 {
        served.get("/sleeps").unwrap();
    }
    let slept = wait::until("three blocked turns", || {
        Ok(only_loop(&service)?.filter(|one| one.blocked >= before + 3))
    })
    .unwrap();
    eprintln!("{slept:?}");
    assert!(slept.longest_ns >= 300_000_000 && slept.blocked_ns >= 900_000_000, "{slept:?}");
    assert_eq!(by(&slept), Some("sleeps"), "{slept:?}");

    // At work, where no reading from outside meets it.
    served.get("/burns").unwrap();
    let burnt = wait::until("the turn that burns", || {
        Ok(only_loop(&service)?.filter(|one| one.longest_ns >= 900_000_000))
    })
    .unwrap();
    eprintln!("{burnt:?}");
    assert_eq!(by(&burnt), Some("burns"), "{burnt:?}");

    // What a worker's row in a view has of it.
    let worker = wait::until("the worker with the lock", || {
        served.get("/burns")?;
        let state = service.state("blocking")?;
        Ok(state.snapshot.workers.iter().find(|one| one.gil_held > Some(0.0)).cloned())
    })
    .unwrap();
    assert!(worker.gil_waiting.is_some() && worker.collections.is_some(), "{worker:?}");

    let (_, text) = page(page_port, "/metrics", "").unwrap();
    let samples = samples(&text).unwrap();
    let of = |start: &str| {
        let found = samples.iter().filter(|(key, _)| key.starts_with(start));
        found.map(|(_, value)| *value).reduce(|sum, value| sum + value)
    };
    let blocked = of("pyapm_event_loop_blocked_total").unwrap();
    assert!(blocked >= 4.0, "{blocked}");
    assert!(of("pyapm_event_loop_blocked_time_seconds_total").unwrap() >= 1.8);
    assert!(of("pyapm_event_loop_time_seconds_total").unwrap() >= 1.8);
    assert!(of("pyapm_gil_wait_time_seconds_total").is_some(), "{text}");
    assert!(of("cpython_gc_collections_total").is_some(), "{text}");
}
