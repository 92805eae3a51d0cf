//! Counting into seconds, and what is seen of it through the window.

use super::{Limits, RecentLimits, Store};
use pyapm_model::line::{Frame, Outcome, Span, SpanKind, Transaction, TransactionKind};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000 * SECOND;

fn transaction(name: &str, end_ns: u64, duration_ns: u64, status: u16) -> Transaction {
    Transaction {
        application: "shop".into(),
        kind: TransactionKind::Http,
        name: name.into(),
        method: Some("GET".into()),
        path: Some("/".into()),
        route: None,
        status: Some(status),
        start_ns: end_ns - duration_ns,
        duration_ns,
        pid: 7,
        tid: 7,
        trace_id: String::new(),
        span_id: String::new(),
        parent_span_id: None,
        trace_source: None,
        trace_sampled: None,
        trace_state: None,
        spans: Vec::new(),
        error: None,
        samples: Vec::new(),
        outcome: Outcome::Complete,
        request_bytes: Some(0),
        response_bytes: Some(0),
        handler: None,
        client_address: None,
        queue_ns: None,
        accept_queue_ns: None,
        waits: None,
        warnings: Vec::new(),
        task: None,
    }
}

fn span(text: &str, duration_ns: u64, error: Option<&str>) -> Span {
    Span {
        kind: SpanKind::Db,
        name: text.into(),
        db_system: Some("mysql".into()),
        db_query: Some(text.into()),
        error_type: error.map(Into::into),
        start_ns: START,
        duration_ns,
        span_id: Default::default(),
        parent_span_id: Default::default(),
        stack: vec![frame("view", "/srv/a.py")].into(),
        server_address: None,
        server_port: None,
        reply_seen: true,
        ..Span::default()
    }
}

fn frame(function: &str, file: &str) -> Frame {
    Frame { function: function.into(), file: file.into(), line: Some(1) }
}

fn store() -> Store {
    Store::new(Limits::default(), START)
}

#[test]
fn nothing_yet() {
    let snapshot = store().snapshot(START);
    assert_eq!(snapshot.totals.p50_ns, None);
    assert_eq!((snapshot.elapsed_ns, snapshot.window_ns), (0, 0));
    assert_eq!(snapshot.totals.per_second.to_bits(), 0f64.to_bits());
    assert!(snapshot.routes.is_empty() && snapshot.functions.is_empty());
}

#[test]
fn totals_routes_and_percentiles() {
    let mut store = store();
    for index in 1..=100u64 {
        store.record(&transaction("GET /a", START + index * 50_000_000, index * 1_000_000, 200));
    }
    store.record(&transaction("GET /b", START + SECOND, 9 * SECOND / 10, 503));
    let mut gone = transaction("GET /b", START + SECOND, 1_000, 404);
    gone.outcome = Outcome::WorkerExited;
    gone.status = None;
    store.record(&gone);
    let snapshot = store.snapshot(START + 10 * SECOND);
    assert_eq!(snapshot.window_ns, 10 * SECOND);
    assert_eq!(snapshot.totals.transactions, 102);
    assert!((snapshot.totals.per_second - 10.2).abs() < 1e-9);
    assert_eq!((snapshot.totals.errors, snapshot.totals.all_errors), (2, 2));
    let [a, b] = &snapshot.routes[..] else { panic!("{:?}", snapshot.routes) };
    assert_eq!((a.name.as_str(), a.count, a.errors, a.max_ns), ("GET /a", 100, 0, 100_000_000));
    assert_eq!(a.total_ns, 5_050_000_000);
    assert_eq!(a.status_classes, [0, 100, 0, 0, 0]);
    for (got, exact) in [(a.p50_ns, 50_000_000u64), (a.p95_ns, 95_000_000), (a.p99_ns, 99_000_000)] {
        assert!(got.abs_diff(exact) * 50 <= exact, "{got} {exact}");
    }
    assert_eq!((b.count, b.errors, b.status_classes), (2, 2, [0, 0, 0, 0, 1]));
    assert!(snapshot.totals.p99_ns.unwrap() >= 99_000_000);
    assert_eq!((snapshot.workers.len(), snapshot.workers[0].transactions), (1, 102));
    assert_eq!(store.worker_transactions(7), 102);
    store.worker_exited(7);
    assert!(store.snapshot(START + 10 * SECOND).workers.is_empty());
}

#[test]
fn the_window_slides() {
    let mut store = store();
    for second in 1..=200u64 {
        store.record(&transaction("GET /a", START + second * SECOND, 1_000_000, 200));
        let snapshot = store.snapshot(START + second * SECOND);
        assert_eq!(snapshot.totals.transactions, second.min(60));
        assert_eq!(snapshot.totals.all_transactions, second);
        assert_eq!(snapshot.window_ns, (second * SECOND).min(59 * SECOND));
    }
    assert_eq!(store.snapshot(START + 258 * SECOND).totals.transactions, 2);
    assert_eq!(store.snapshot(START + 900 * SECOND).totals.transactions, 0);
    // Older than the slot that holds its second now: counted since the attach, not in the window.
    store.record(&transaction("GET /a", START + SECOND, 1_000_000, 200));
    let snapshot = store.snapshot(START + 200 * SECOND);
    assert_eq!((snapshot.totals.transactions, snapshot.totals.all_transactions), (60, 201));
}

#[test]
fn statements_and_database_time() {
    let mut store = store();
    let mut with = transaction("GET /a", START + SECOND, 10_000, 200);
    with.spans = vec![span("SELECT ?", 1_000, None), span("SELECT ?", 3_000, Some("1146"))];
    store.record(&with);
    with.spans = vec![span("COMMIT", 10_000, None)];
    store.record(&with);
    let snapshot = store.snapshot(START + 2 * SECOND);
    let [commit, select] = &snapshot.statements[..] else { panic!() };
    assert_eq!((commit.text.as_str(), commit.total_ns), ("COMMIT", 10_000));
    assert_eq!((select.count, select.errors, select.mean_ns, select.max_ns), (2, 1, 2_000, 3_000));
    assert_eq!(select.call_site, Some(frame("view", "/srv/a.py")));
    assert_eq!(snapshot.routes[0].db_mean_ns, 7_000);
    assert!((snapshot.routes[0].db_calls - 1.5).abs() < 1e-9);
}

#[test]
fn functions_by_share_recursion_once() {
    let mut store = store();
    let (work, view, other) =
        (frame("work", "/srv/a.py"), frame("view", "/srv/a.py"), frame("view", "/srv/b.py"));
    for _ in 0..3 {
        store.sample(START, &[work.clone(), work.clone(), work.clone(), view.clone()]);
    }
    store.sample(START + SECOND, &[other.clone(), view.clone()]);
    store.sample(START + SECOND, &[]);
    let functions = store.snapshot(START + 2 * SECOND).functions;
    let shares: Vec<_> = functions
        .iter()
        .map(|f| (f.function.as_str(), f.file.as_str(), f.self_share, f.total_share, f.samples))
        .collect();
    assert_eq!(
        shares,
        [
            ("work", "/srv/a.py", 0.6, 0.6, 3),
            ("view", "/srv/b.py", 0.2, 0.2, 1),
            ("view", "/srv/a.py", 0.0, 0.8, 4),
        ]
    );
    assert!(store.snapshot(START + 100 * SECOND).functions.is_empty());
}

#[test]
fn bounds_with_an_entry_for_the_rest() {
    let limits = Limits {
        window_seconds: 5,
        routes: 3,
        statements: 2,
        warnings: 2,
        functions: 2,
        errors: 2,
        workers: 2,
        series: 9,
        recent: RecentLimits::default(),
    };
    let mut store = Store::new(limits, START);
    for index in 0..10u32 {
        let mut one = transaction(&format!("GET /{index}"), START + SECOND, 1_000, 200);
        one.pid = index;
        one.spans = vec![span(&format!("SELECT c{index}"), 1_000, None)];
        store.record(&one);
        store.sample(START + SECOND, &[frame(&format!("f{index}"), "/srv/a.py")]);
    }
    let snapshot = store.snapshot(START + 2 * SECOND);
    assert_eq!(snapshot.totals.transactions, 10);
    let other = |name: &str| name == "{other}";
    assert_eq!(snapshot.routes.len(), 4);
    assert_eq!(snapshot.routes.iter().find(|r| other(&r.name)).unwrap().count, 7);
    let rest = snapshot.statements.iter().find(|s| other(&s.text)).unwrap();
    assert_eq!((rest.count, rest.call_site.as_ref()), (8, None));
    assert_eq!(snapshot.functions.iter().find(|f| other(&f.function)).unwrap().samples, 8);
    assert_eq!(snapshot.workers.len(), 2);
    // Names that the window no longer holds make room for new ones.
    for second in 2..20u64 {
        let name = format!("GET /later{second}");
        store.record(&transaction(&name, START + second * 6 * SECOND, 1_000, 200));
        let routes = store.snapshot(START + second * 6 * SECOND).routes;
        assert_eq!(routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn workers_are_listed_from_their_start() {
    let mut store = store();
    store.worker_started(9);
    store.record(&transaction("GET /a", START + SECOND, 1_000, 200));
    store.worker_started(7);
    let workers = store.snapshot(START + SECOND).workers;
    assert_eq!(workers.iter().map(|w| (w.pid, w.transactions)).collect::<Vec<_>>(), [(7, 1), (9, 0)]);
}

#[test]
fn clock_set_back_by_an_hour() {
    let mut store = store();
    store.record(&transaction("GET /a", START + 7_200 * SECOND, 1_000, 200));
    store.record(&transaction("GET /a", START + 3_600 * SECOND, 1_000, 200));
    assert_eq!(store.snapshot(START + 3_600 * SECOND).totals.transactions, 1);
}

#[test]
fn extreme_times_do_not_panic() {
    let mut store = Store::new(Limits::default(), u64::MAX);
    let mut odd = transaction("GET /a", START, 1, 999);
    odd.start_ns = u64::MAX;
    odd.duration_ns = u64::MAX;
    store.record(&odd);
    odd.status = Some(42);
    odd.start_ns = 0;
    odd.duration_ns = 0;
    store.record(&odd);
    for taken in [0, 1, START, u64::MAX] {
        let snapshot = store.snapshot(taken);
        assert_eq!(snapshot.totals.all_transactions, 2);
    }
}
