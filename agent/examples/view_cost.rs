//! What the live view costs at a steady rate of transactions, step by step and in one process: the store counts them, a
//! snapshot is made, becomes lines of the socket's protocol, is read again, and is drawn on every screen. The transactions
//! are made up; everything else is what the daemon and `pyapm top` run. `cargo xtask bench view` runs it.
//!
//! `view_cost RATE SECONDS` prints one object: name to figure.

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use pyapm::store::{Limits, Store};
use pyapm_model::line::{Frame, Span, SpanKind, Transaction};
use pyapm_model::recent::Points;
use pyapm_model::service::{ApplicationInfo, Response, State as Watched};
use pyapm_model::snapshot::{Active, Doing, Snapshot, Worker};
use pyapm_tui::state::{Screen, State};
use pyapm_tui::update::{Message, update};
use pyapm_tui::{Canvas, Delivery, Palette, keys::Action};
use std::collections::BTreeMap;
use std::sync::Arc;

const SECOND_NS: u64 = 1_000_000_000;
/// When it begins, wall clock.
const START_NS: u64 = 1_700_000_000 * SECOND_NS;
/// As the socket sends at once.
const MOST_POINTS: usize = 8_000;
const ROUTES: u64 = 60;
const WORKERS: u64 = 16;
const IN_FLIGHT: u64 = 40;
/// Two cores that are always busy, at 99 Hz.
const SAMPLES: u64 = 198;
const SIZES: [(u16, u16); 3] = [(80, 24), (200, 50), (300, 80)];

/// CPU time of one step, in seconds.
type Times = BTreeMap<String, Vec<f64>>;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |name: &'static str| -> anyhow::Result<u64> {
        arguments.next().with_context(|| format!("no {name}"))?.parse().context(name)
    };
    let (rate, seconds) = (number("RATE")?, number("SECONDS")?);
    let mut store = Store::new(Limits::default(), START_NS);
    store.watch(true);
    let mut state = State::default();
    let mut canvases = Vec::new();
    for (columns, lines) in SIZES {
        canvases.push((format!("{columns}x{lines}"), Canvas::new(columns, lines, Palette::True)?));
    }
    let mut times = Times::new();
    let mut sent = 0;
    for second in 0..seconds {
        let now_ns = START_NS + (second + 1) * SECOND_NS;
        let transactions: Vec<Transaction> = (0..rate)
            .map(|index| transaction(second * rate + index, now_ns - SECOND_NS, rate, index))
            .collect();
        timed(&mut times, "store", || transactions.iter().for_each(|one| store.record(one)));
        let stack = stack(second);
        timed(&mut times, "samples", || (0..SAMPLES).for_each(|_| store.sample(now_ns - 1, &stack)));
        let snapshot = timed(&mut times, "snapshot", || fill(store.snapshot(now_ns)));
        let points = snapshot.recent.since(sent, MOST_POINTS);
        sent = points.points.last().map_or(sent, |point| point.number);
        let lines = timed(&mut times, "write", || written(snapshot, points))?;
        let bytes: usize = lines.iter().map(Vec::len).sum();
        times.entry("bytes".to_owned()).or_default().push(bytes as f64);
        let responses = timed(&mut times, "read", || read(&lines))?;
        timed(&mut times, "update", || {
            for delivery in responses {
                let _drawn_below = update(&mut state, Message::Delivery(delivery));
            }
        });
        for screen in Screen::TABS {
            let _drawn_below = update(&mut state, Message::Action(Action::Screen(screen)));
            for (size, canvas) in &mut canvases {
                let name = format!("draw {size} {}", screen.label());
                let bytes = timed(&mut times, &name, || canvas.draw(&mut state))?;
                times.entry(format!("bytes {size}")).or_default().push(bytes as f64);
            }
        }
    }
    let figures: BTreeMap<String, [f64; 2]> =
        times.into_iter().map(|(name, times)| (name, [middle(&times), largest(&times)])).collect();
    #[expect(clippy::print_stdout, reason = "what it measures is its output")]
    {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// By the thread's own clock, which stands still while others have the CPU.
fn timed<T>(times: &mut Times, name: &str, step: impl FnOnce() -> T) -> T {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(std::time::Duration::from);
    let begin = now();
    let result = step();
    if let (Ok(begin), Ok(end)) = (begin, now()) {
        times.entry(name.to_owned()).or_default().push(end.saturating_sub(begin).as_secs_f64());
    }
    result
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// As the service sends them each second.
fn written(snapshot: Snapshot, points: Points) -> anyhow::Result<[Vec<u8>; 2]> {
    let info = Arc::new(ApplicationInfo { name: "shop".to_owned(), ..ApplicationInfo::default() });
    let state = Arc::new(Watched { info, snapshot, ..Watched::default() });
    let snapshot = serde_json::to_vec(&Response::Snapshot(state))?;
    Ok([snapshot, serde_json::to_vec(&Response::Points { application: 0, points })?])
}

/// As `pyapm top` reads them.
fn read(lines: &[Vec<u8>; 2]) -> anyhow::Result<Vec<Delivery>> {
    let mut deliveries = Vec::new();
    for line in lines {
        deliveries.push(match serde_json::from_slice(line)? {
            Response::Snapshot(state) => {
                let snapshot = Arc::unwrap_or_clone(state).snapshot;
                Delivery::Snapshot { application: 0, snapshot: Arc::new(snapshot) }
            }
            Response::Points { application, points } => Delivery::Points { application, points },
            other => anyhow::bail!("another line: {other:?}"),
        });
    }
    Ok(deliveries)
}

/// What the engine adds to the store's part.
fn fill(mut snapshot: Snapshot) -> Snapshot {
    let pid = |index: u64| 4_000 + (index % WORKERS) as u32;
    snapshot.application = "shop".to_owned();
    snapshot.workers = (0..WORKERS)
        .map(|index| Worker {
            pid: pid(index),
            cpu_cores: Some(0.1),
            gil_held: Some(0.1),
            ..Worker::default()
        })
        .collect();
    snapshot.active = (0..IN_FLIGHT)
        .map(|index| Active {
            name: route(index),
            path: Some(format!("/tenant/{index}")),
            pid: pid(index),
            tid: pid(index),
            elapsed_ns: index * SECOND_NS / 10,
            trace_id: None,
            doing: Doing::Unknown,
            calls: 3,
            state: None,
            stack: stack(index).into(),
            place: None,
        })
        .collect();
    snapshot
}

fn route(number: u64) -> String {
    format!("GET /tenant/{{id}}/page{}", number % ROUTES)
}

/// One of different shapes: mostly quick, some slow, some failed, three statements each.
fn transaction(number: u64, second_ns: u64, rate: u64, index: u64) -> Transaction {
    // In no order, and the same on every run.
    let random = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33;
    let slow = if random.is_multiple_of(100) { 40 } else { 1 };
    let duration_ns = (2_000_000 + random % 8_000_000) * slow;
    let start_ns = (second_ns + index * SECOND_NS / rate.max(1)).saturating_sub(duration_ns);
    let span = |at: u64| Span {
        kind: SpanKind::Db,
        name: "SELECT items".into(),
        db_system: Some("mysql".into()),
        db_query: Some(format!("SELECT * FROM items{} WHERE id = ?", random % 50).into()),
        start_ns: start_ns + at * duration_ns / 4,
        duration_ns: duration_ns / 5,
        stack: stack(at).into(),
        ..Span::default()
    };
    Transaction {
        application: "shop".to_owned(),
        name: route(random),
        method: Some("GET".to_owned()),
        path: Some(format!("/tenant/{random}/page")),
        status: Some(if random.is_multiple_of(200) { 500 } else { 200 }),
        start_ns,
        duration_ns,
        pid: 4_000 + (random % WORKERS) as u32,
        tid: 4_000 + (random % WORKERS) as u32,
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        spans: (0..3).map(span).collect(),
        ..Transaction::default()
    }
}

fn stack(number: u64) -> Vec<Frame> {
    let frame = |depth: u64| Frame {
        function: format!("function{}", (number + depth * depth) % 300).into(),
        file: format!("/srv/shop/module{}.py", depth % 20).into(),
        line: Some((depth * 7) as u32 + 1),
    };
    (0..30).map(frame).collect()
}
