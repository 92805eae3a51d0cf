//! Snapshots for tests: the canned one of a shop under gunicorn, and those that are hard on a view.

use pyapm_model::dump;
use pyapm_model::error::{Chained, Error, ErrorGroup, Relation};
use pyapm_model::line::{
    Frame, Outcome, SampleState, Samples, Span, SpanKind, Transaction, Waits, Warning, WarningKind,
};
use pyapm_model::recent::{Point, Recent, Whole};
use pyapm_model::service::{ApplicationInfo, ApplicationState, Figures};
use pyapm_model::snapshot::{
    Active, Alert, CallNode, CallTree, Doing, EventLoop, Route, Snapshot, Statement,
};
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A shop with four workers: one route that waits on a lock and fails, one slow report, N+1 queries.
pub(crate) fn shop() -> Snapshot {
    let mut shop: Snapshot = serde_json::from_str(include_str!("../fixtures/shop.json")).unwrap();
    let stack = vec![
        frame("_query", "/usr/lib/python3/dist-packages/MySQLdb/cursors.py", 330),
        frame("items", "/srv/shop/cart.py", 88),
        frame("checkout", "/srv/shop/views.py", 140),
        frame("run_wsgi", "/usr/lib/python3/dist-packages/gunicorn/workers/sync.py", 178),
    ];
    for active in &mut shop.active {
        active.calls = 14;
        active.state = Some(dump::State::Io {
            call: "recvfrom".to_owned(),
            fd: Some(12),
            file: Some("tcp 127.0.0.1:40112 -> 127.0.0.1:3306".to_owned()),
        });
        active.place = Some(stack[1].clone());
        active.stack = stack.clone().into();
    }
    shop.errors = vec![
        group(shop.taken_ns),
        ErrorGroup {
            kind: "KeyError".to_owned(),
            module: Some("builtins".to_owned()),
            frame: Some(frame("price", "/srv/shop/cart.py", 17)),
            count: 9,
            first_seen_ns: shop.taken_ns - 400 * SECOND,
            last_seen_ns: shop.taken_ns - 70 * SECOND,
            latest: Error {
                kind: "KeyError".to_owned(),
                message: Some("'vat'".to_owned()),
                ..Error::default()
            },
            ..ErrorGroup::default()
        },
    ];
    for (index, worker) in shop.workers.iter_mut().enumerate() {
        worker.gil_held = Some(0.125 * index as f64);
        worker.gil_waiting = Some(0.04 * index as f64);
        worker.collections = (index > 0).then_some(1.5 * index as f64);
    }
    shop.tree = tree();
    shop.recent = recent(shop.taken_ns);
    shop
}

/// The shop under event loops, one of which is held up; an alert fires and others did; other agents are inside.
pub(crate) fn looping() -> Snapshot {
    let mut shop = shop();
    shop.server = Some("uvicorn".to_owned());
    let event_loop = |pid: u32, busy: f64, blocked: u64| EventLoop {
        pid,
        tid: pid,
        busy_share: Some(busy),
        blocked,
        blocked_ns: blocked * 180 * MS,
        longest_ns: blocked.min(1) * 1_250 * MS,
        stack: if blocked == 0 {
            Vec::new()
        } else {
            vec![frame("read_all", "/srv/shop/export.py", 41), frame("export", "/srv/shop/views.py", 77)]
        },
    };
    let workers = shop.workers.iter().filter(|worker| !worker.is_master).map(|worker| worker.pid);
    shop.loops = workers
        .zip([(0.97, 14), (0.31, 0), (0.05, 0)])
        .map(|(pid, (busy, blocked))| event_loop(pid, busy, blocked))
        .collect();
    shop.agents = vec!["New Relic (newrelic)".to_owned(), "OpenTelemetry (opentelemetry)".to_owned()];
    let alert = |name: &str, is: &str, since: u64, until: Option<u64>| Alert {
        name: name.to_owned(),
        summary: format!("{name}: {is}"),
        since_ns: shop.taken_ns - since * SECOND,
        until_ns: until.map(|until| shop.taken_ns - until * SECOND),
    };
    shop.alerts = vec![
        alert("slow", "p95 of `POST /checkout` of `shop` is 1840 ms (alert above 500 ms)", 84, None),
        alert("errors", "error_rate of `shop` is 0.08 (alert above 0.05)", 900, Some(310)),
    ];
    shop
}

fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: file.into(), line: Some(line) }
}

fn error() -> Error {
    Error {
        kind: "PaymentError".to_owned(),
        module: Some("shop.payment".to_owned()),
        message: Some("the bank does not answer".to_owned()),
        handled: Some(false),
        stack: vec![frame("pay", "/srv/shop/payment.py", 31), frame("checkout", "/srv/shop/views.py", 152)]
            .into(),
        chain: vec![Chained {
            relation: Relation::Cause,
            kind: "TimeoutError".to_owned(),
            module: Some("builtins".to_owned()),
            message: Some("timed out".to_owned()),
            stack: vec![frame("connect", "/usr/lib/python3.11/socket.py", 851)].into(),
        }],
        cut: false,
        tid: 4243,
    }
}

fn group(taken_ns: u64) -> ErrorGroup {
    ErrorGroup {
        application: "shop".to_owned(),
        kind: "PaymentError".to_owned(),
        module: Some("shop.payment".to_owned()),
        frame: Some(frame("pay", "/srv/shop/payment.py", 31)),
        count: 1_234,
        suppressed: 0,
        unhandled: 1_200,
        first_seen_ns: taken_ns - 700 * SECOND,
        last_seen_ns: taken_ns - 3 * SECOND,
        transaction: Some("POST /checkout".to_owned()),
        latest: error(),
    }
}

fn tree() -> CallTree {
    let node = |depth: u32, function: &str, file: &str, samples: u64, own: u64| CallNode {
        function: function.to_owned(),
        file: file.to_owned(),
        is_application: file.starts_with("/srv"),
        depth,
        samples,
        own,
    };
    const SYNC: &str = "/usr/lib/python3/dist-packages/gunicorn/workers/sync.py";
    let nodes = vec![
        node(0, "run", "/usr/lib/python3/dist-packages/gunicorn/app/base.py", 1_400, 0),
        node(1, "handle", SYNC, 1_380, 20),
        node(2, "wsgi_app", "/usr/lib/python3/dist-packages/flask/app.py", 1_300, 4),
        node(3, "report", "/srv/shop/reports.py", 700, 60),
        node(4, "aggregate", "/srv/shop/reports.py", 500, 480),
        node(5, "median", "/usr/lib/python3.11/statistics.py", 20, 20),
        node(4, "render", "/usr/lib/python3/dist-packages/jinja2/environment.py", 140, 140),
        node(3, "checkout", "/srv/shop/views.py", 420, 120),
        node(4, "items", "/srv/shop/cart.py", 300, 300),
        node(3, "nplus1", "/srv/shop/views.py", 176, 176),
        node(2, "parse", "/usr/lib/python3/dist-packages/gunicorn/http/message.py", 60, 60),
        node(0, "_bootstrap", "/usr/lib/python3.11/threading.py", 60, 60),
    ];
    CallTree { samples: 1_460, left_out: 0, nodes }
}

/// Number of the transaction that is whole.
pub(crate) const WHOLE: u64 = 1_500;

/// Two minutes with a wave, slow ones and failed ones; the last is whole.
fn recent(taken_ns: u64) -> Recent {
    let point = |number: u64| {
        let is_error = number.is_multiple_of(61);
        let wave = (number % 300).abs_diff(150);
        let duration_ns = match number {
            WHOLE => 212 * MS,
            _ if number.is_multiple_of(97) => 900 * MS + number % 7 * 20 * MS,
            _ if is_error => 300 * MS,
            _ => 10 * MS + wave * MS + number % 11 * 9 * MS,
        };
        Point {
            number,
            ended_ns: taken_ns - 120 * SECOND + number * 120 * SECOND / WHOLE,
            duration_ns,
            name: if number.is_multiple_of(3) { "POST /checkout" } else { "GET /nplus1" }.into(),
            status: Some(if is_error { 500 } else { 200 }),
            is_error,
            pid: 4243,
            is_whole: number == WHOLE,
        }
    };
    let seconds = (0..120_u64).map(|second| {
        let numbers = second * WHOLE / 120 + 1..=(second + 1) * WHOLE / 120;
        Arc::new(numbers.map(point).collect())
    });
    let transaction = Arc::new(checkout(taken_ns - 212 * MS));
    let whole = [Whole { number: WHOLE, transaction }].into();
    Recent { seconds: seconds.collect(), whole, left_out: 40_127 }
}

/// A transaction with everything that one can have.
pub(crate) fn checkout(start_ns: u64) -> Transaction {
    let call = |name: &str, query: &str, since_ms: u64, ms: u64, line: u32| Span {
        kind: SpanKind::Db,
        name: name.into(),
        db_system: Some("mysql".into()),
        db_query: Some(query.into()),
        start_ns: start_ns + since_ms * MS,
        duration_ns: ms * MS,
        stack: vec![frame("items", "/srv/shop/cart.py", line), frame("checkout", "/srv/shop/views.py", 140)]
            .into(),
        server_address: Some("127.0.0.1".into()),
        server_port: Some(3306),
        reply_seen: true,
        returned_rows: Some(1),
        first_byte_ns: Some(ms * MS / 2),
        ..Span::default()
    };
    let mut spans = vec![call("SELECT users", "SELECT id, name, credit FROM users WHERE id = ?", 2, 4, 70)];
    let item = "SELECT * FROM items WHERE cart = ? AND position = ?";
    spans.extend((0..6).map(|index| call("SELECT items", item, 10 + index * 8, 6, 88)));
    spans.push(Span {
        error_type: Some("1205".to_owned()),
        ..call("UPDATE stock", "UPDATE stock SET count = count - ? WHERE item = ?", 60, 120, 95)
    });
    spans.push(Span {
        kind: SpanKind::Http,
        name: "POST".into(),
        method: Some("POST".to_owned()),
        path: Some("/pay".to_owned()),
        status: Some(503),
        db_query: None,
        db_system: None,
        ..call("POST", "", 184, 25, 31)
    });
    let stack = |function: &str, line| {
        vec![
            frame(function, "/srv/shop/cart.py", line),
            frame("checkout", "/srv/shop/views.py", 140),
            frame("run_wsgi", "/usr/lib/python3/dist-packages/gunicorn/workers/sync.py", 178),
        ]
        .into()
    };
    Transaction {
        application: "shop".to_owned(),
        name: "POST /checkout".to_owned(),
        method: Some("POST".to_owned()),
        path: Some("/checkout".to_owned()),
        route: Some("/checkout".to_owned()),
        status: Some(500),
        start_ns,
        duration_ns: 212 * MS,
        pid: 4243,
        tid: 4243,
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        span_id: "b7ad6b7169203331".to_owned(),
        spans,
        error: Some(error()),
        samples: vec![
            Samples { count: 5, state: SampleState::Cpu, stack: stack("items", 91) },
            Samples { count: 2, state: SampleState::Cpu, stack: stack("total", 120) },
        ],
        outcome: Outcome::Complete,
        request_bytes: Some(2_000),
        response_bytes: Some(18_000),
        client_address: Some("127.0.0.1".to_owned()),
        waits: Some(Waits {
            on_cpu_ns: 24 * MS,
            gil_ns: 3 * MS,
            database_ns: 150 * MS,
            network_ns: 25 * MS,
            runnable_ns: 2 * MS,
            unknown_ns: 8 * MS,
            ..Waits::default()
        }),
        handler: Some(frame("checkout", "/srv/shop/views.py", 130)),
        warnings: vec![Warning {
            kind: WarningKind::RepeatedCalls,
            name: "SELECT items".to_owned(),
            db_system: Some("mysql".to_owned()),
            db_query: Some(item.to_owned()),
            count: 6,
            duration_ns: 36 * MS,
            call_site: Some(frame("items", "/srv/shop/cart.py", 88)),
        }],
        ..Transaction::default()
    }
}

/// The shop among others.
pub(crate) fn applications() -> Vec<Figures> {
    let other = |id: u32, name: &str, errors: u64, state: ApplicationState| {
        let info = ApplicationInfo {
            id,
            name: name.to_owned(),
            server: Some("uvicorn".to_owned()),
            python: Some("3.13.1".to_owned()),
            pid: 700 + id,
            processes: 3,
            state,
            ..ApplicationInfo::default()
        };
        let transactions = 60_000;
        Figures { info: Arc::new(info), per_second: 1_000.0, transactions, errors, ..Figures::default() }
    };
    let shop = shop();
    let info = ApplicationInfo {
        name: shop.application.clone(),
        server: shop.server.clone(),
        python: shop.python.clone(),
        pid: 4242,
        processes: 5,
        ..ApplicationInfo::default()
    };
    vec![
        Figures::of(&Arc::new(info), &shop),
        other(1, "search", 2_000, ApplicationState::Running),
        other(2, "nightly", 0, ApplicationState::Ended),
    ]
}

/// Twelve seconds after the attach, before the first request.
pub(crate) fn idle() -> Snapshot {
    let shop = shop();
    Snapshot {
        application: shop.application,
        server: shop.server,
        python: None,
        taken_ns: shop.taken_ns,
        elapsed_ns: 12_300_000_000,
        window_ns: 12_300_000_000,
        workers: shop.workers,
        ..Snapshot::default()
    }
}

/// The shop, watched through a ring that was too small.
pub(crate) fn lossy() -> Snapshot {
    let mut shop = shop();
    shop.losses.delivered -= 10_412;
    shop.losses.dropped.insert("ring_full".to_owned(), 10_400);
    shop.losses.dropped.insert("decode".to_owned(), 12);
    shop
}

/// Names as long and as wide as they come, and some that try to drive the terminal.
pub(crate) fn hostile() -> Snapshot {
    let mut shop = shop();
    shop.application = "订单服务".repeat(40);
    shop.routes.insert(
        0,
        Route {
            name: format!("GET /{}", "very-long-segment/".repeat(60)),
            count: u64::MAX,
            per_second: f64::NAN,
            errors: u64::MAX,
            p50_ns: u64::MAX,
            p95_ns: u64::MAX,
            p99_ns: u64::MAX,
            max_ns: u64::MAX,
            total_ns: u64::MAX,
            db_mean_ns: u64::MAX,
            db_calls: f64::INFINITY,
            status_classes: [u64::MAX; 5],
        },
    );
    shop.routes.insert(
        1,
        Route { name: "GET /订单/查询/用户/详细信息/页面/列表".to_owned(), ..Route::default() },
    );
    shop.routes
        .insert(2, Route { name: "GET /\x1b[2J\x1b]0;owned\x07\u{202e}gnp".to_owned(), ..Route::default() });
    shop.routes.insert(
        3,
        Route {
            name: "GET /👩‍👩‍👧‍👦/e\u{301}\u{301}\u{301}".to_owned(), ..Route::default()
        },
    );
    shop.active.insert(
        0,
        Active {
            name: "GET /订单/查询/用户/详细信息/页面/列表".to_owned(),
            path: None,
            pid: u32::MAX,
            tid: u32::MAX,
            elapsed_ns: u64::MAX,
            trace_id: None,
            doing: Doing::Function(Frame {
                function: "查询".repeat(80).into(),
                file: "/".repeat(300).into(),
                line: None,
            }),
            calls: u64::MAX,
            state: Some(dump::State::Io {
                call: "\x1b[2J".to_owned(),
                fd: None,
                file: Some("unix \x1b]0;owned\x07".repeat(40)),
            }),
            stack: vec![frame("\x1b[2J", "\u{202e}", 1); 2_000].into(),
            place: None,
        },
    );
    for node in &mut shop.tree.nodes {
        node.function = format!("\x1b[31m查询{}", "f".repeat(200));
        node.samples = u64::MAX;
    }
    let hostile = "\x1b[2J\u{202e}查询".repeat(50);
    shop.errors.push(ErrorGroup {
        kind: hostile.clone(),
        count: u64::MAX,
        first_seen_ns: u64::MAX,
        latest: Error { message: Some(hostile.clone()), chain: error().chain, ..error() },
        ..ErrorGroup::default()
    });
    shop.alerts.push(Alert {
        name: hostile.clone(),
        summary: hostile.clone(),
        since_ns: u64::MAX,
        until_ns: None,
    });
    shop.alerts.extend(vec![Alert { until_ns: Some(0), ..shop.alerts[0].clone() }; 300]);
    shop.agents = vec![hostile.clone(); 40];
    for worker in &mut shop.workers {
        (worker.gil_held, worker.gil_waiting) = (Some(f64::NAN), Some(f64::INFINITY));
        worker.collections = Some(f64::MAX);
        shop.loops.push(EventLoop {
            pid: worker.pid,
            tid: u32::MAX,
            busy_share: Some(-f64::INFINITY),
            blocked: u64::MAX,
            blocked_ns: u64::MAX,
            longest_ns: u64::MAX,
            stack: vec![frame(&hostile, &hostile, u32::MAX); 5_000],
        });
    }
    let mut transaction = checkout(shop.taken_ns);
    transaction.name.clone_from(&hostile);
    for span in &mut transaction.spans {
        (span.start_ns, span.duration_ns) = (u64::MAX, u64::MAX);
        span.db_query = Some(hostile.as_str().into());
    }
    transaction.waits = Some(Waits { on_cpu_ns: u64::MAX, gil_ns: u64::MAX, ..Waits::default() });
    transaction.path = Some(hostile.clone());
    let deep: Vec<Frame> = (0..5_000).map(|line| frame(&hostile, "a.py", line)).collect();
    transaction.samples.push(Samples { count: u64::MAX / 4, state: SampleState::Cpu, stack: deep.into() });
    shop.recent.whole = [Whole { number: WHOLE, transaction: Arc::new(transaction) }].into();
    let points = shop.recent.seconds.iter_mut().flat_map(|second| Arc::make_mut(second).iter_mut());
    for (index, point) in points.enumerate() {
        point.name = hostile.as_str().into();
        if index % 5 == 0 {
            (point.duration_ns, point.ended_ns) = (u64::MAX, u64::MAX);
        }
    }
    shop.statements.insert(
        0,
        Statement { text: format!("SELECT {}", "a_column, ".repeat(500)), count: 1, ..Statement::default() },
    );
    shop
}

/// Thousands of routes.
pub(crate) fn crowded() -> Snapshot {
    let mut shop = shop();
    shop.routes = (0..5_000_u32)
        .map(|number| Route {
            name: format!("GET /tenant/{number:04}"),
            count: u64::from(number % 97),
            total_ns: u64::from(5_000 - number),
            ..Route::default()
        })
        .collect();
    shop
}
