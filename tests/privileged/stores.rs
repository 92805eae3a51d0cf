//! As `drivers.rs`, for servers that come as packages of Python.

use crate::drivers::{Page, assert_page, call, fails};
use harness::pyapm::Pyapm;
use harness::stores::Stores;
use pyapm_model::line::SpanKind;

const MONGODB: Page = (
    "mongodb",
    SpanKind::Db,
    Some("mongodb"),
    &[
        call("mongodb find", "find people"),
        call("mongodb update", "update people"),
        fails("mongodb error", "insert people", "11000"),
    ],
);

/// pymongo asks a server of MongoDB's protocol, on a connection that is older than the attach.
#[test]
fn documents() {
    let stores = Stores::start().unwrap();
    let attach = Pyapm::attach(stores.master(), &[]).unwrap();
    stores.get("/mongodb").unwrap();
    let report = attach.stop().unwrap();
    assert_page(&report, MONGODB.0, &MONGODB, |_| false);
    assert!(!report.stdout.contains("secret"), "a value was told");
}
