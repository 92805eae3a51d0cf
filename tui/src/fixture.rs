//! Snapshots for tests: the canned one of a shop under gunicorn, and those that are hard on a view.

use pyapm_model::line::Frame;
use pyapm_model::snapshot::{Active, Doing, Route, Snapshot, Statement};

/// A shop with four workers: one route that waits on a lock and fails, one slow report, N+1 queries.
pub(crate) fn shop() -> Snapshot {
    serde_json::from_str(include_str!("../fixtures/shop.json")).unwrap()
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
                function: "查询".repeat(80), file: "/".repeat(300), line: None
            }),
        },
    );
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
