//! Each statement is one span in its transaction, with the line of Python that asked for it; no value is stored.

use harness::gunicorn::{Gunicorn, Options};
use harness::load::{Connection, Plan, Request, drive};
use harness::place::Python;
use harness::pyapm::Pyapm;
use harness::source::{Site, site};
use pyapm_model::line::{Frame, Span, SpanKind};

const PAGES: &str = "catalogue/pages.py";

/// The innermost frame of the shop's own code.
fn call_site(span: &Span) -> &Frame {
    let own = span.stack.iter().find(|frame| frame.file.contains("workloads/shop/"));
    own.unwrap_or_else(|| panic!("no frame of the shop in {:#?}", span.stack))
}

fn assert_at(span: &Span, function: &str, site: &Site) {
    let frame = call_site(span);
    assert_eq!(frame.function, function, "{:#?}", span.stack);
    assert!(frame.file.ends_with(&site.file), "{frame:?}");
    assert_eq!(frame.line, Some(site.line), "{frame:?}");
}

#[test]
fn nplus1_shows_its_21_spans_each_where_it_was_asked() {
    let (list, category) = (site(PAGES, "span: list").unwrap(), site(PAGES, "span: category").unwrap());
    for python in Python::all().unwrap() {
        eprintln!("on {}", python.name);
        let shop = Gunicorn::start(&Options::new(python)).unwrap();
        let attach = Pyapm::attach(shop.master(), &[]).unwrap();
        let requests = vec![Request::get("/nplus1")];
        drive(&shop.address, &Plan { requests, total: 40, clients: 4 }).without_failures().unwrap();
        let report = attach.stop().unwrap();
        assert_eq!(report.transactions.len(), 40);
        for transaction in &report.transactions {
            let spans = &transaction.spans;
            assert_eq!(spans.len(), 21, "{spans:#?}");
            assert_at(&spans[0], "first_products", &list);
            for span in &spans[1..] {
                assert_at(span, "category_names", &category);
                let text = span.db_query.as_deref().unwrap();
                assert!(text.contains("catalogue_category") && text.contains("= ?"), "{text}");
            }
            let outermost = spans[0].stack.last().unwrap();
            assert_eq!(
                outermost.function, "<module>",
                "the stack does not reach its end: {:#?}",
                spans[0].stack
            );
            for (before, after) in spans.iter().zip(&spans[1..]) {
                assert!(before.start_ns + before.duration_ns <= after.start_ns, "spans overlap");
            }
            for span in spans {
                assert_eq!(span.kind, SpanKind::Db);
                assert!(matches!(span.db_system.as_deref(), Some("mysql" | "mariadb")), "{span:?}");
                assert_eq!(span.error_type, None);
                assert!(span.reply_seen && span.duration_ns > 0);
                assert_eq!(span.parent_span_id, transaction.span_id);
                assert_eq!(span.server_address.as_deref(), Some("127.0.0.1"));
                assert_eq!(span.server_port, Some(shop.database.port()));
                assert!(span.start_ns >= transaction.start_ns, "{span:?}");
                let end = transaction.start_ns + transaction.duration_ns;
                assert!(span.start_ns + span.duration_ns <= end, "{span:?}");
            }
        }
    }
}

#[test]
fn a_statement_that_fails_carries_its_number() {
    let missing = site("catalogue/faults.py", "span: missing").unwrap();
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    for _ in 0..10 {
        let answer =
            Connection::open(&shop.address).unwrap().ask(&Request::get("/sqlerror").close()).unwrap();
        assert_eq!(answer.status, 500);
    }
    let report = attach.stop().unwrap();
    assert_eq!(report.transactions.len(), 10);
    for transaction in &report.transactions {
        assert_eq!(transaction.spans.len(), 1, "{:#?}", transaction.spans);
        let span = &transaction.spans[0];
        assert_eq!(span.error_type.as_deref(), Some("1146"));
        assert_at(span, "sqlerror", &missing);
    }
}

#[test]
fn a_slow_statement_is_as_long_as_it_was() {
    let slow = site(PAGES, "span: sleep").unwrap();
    let shop = Gunicorn::start(&Options::new(Python::first().unwrap())).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    let request = Request::get("/slow-sql/60").close();
    let answer = Connection::open(&shop.address).unwrap().ask_until_closed(&request).unwrap();
    let report = attach.stop().unwrap();
    let span = &report.transactions[0].spans[0];
    assert_eq!(span.db_query.as_deref(), Some("SELECT SLEEP(?)"));
    assert_at(span, "slow_sql", &slow);
    assert!(span.duration_ns >= 60_000_000, "{} ns", span.duration_ns);
    assert!(u128::from(span.duration_ns) <= answer.elapsed.as_nanos());
}

/// The server's own log is the truth: as many statements as it received are reported, on new connections too.
#[test]
fn there_are_as_many_spans_as_the_server_received_statements() {
    let mut options = Options::new(Python::first().unwrap());
    options.arguments = vec!["--max-requests=50".to_owned()];
    let shop = Gunicorn::start(&options).unwrap();
    let attach = Pyapm::attach(shop.master(), &[]).unwrap();
    shop.database.begin_log().unwrap();
    let requests = ["/", "/nplus1", "/products/5", "/search?q=zanzibar", "/status/204", "/sqlerror"];
    let plan = Plan { requests: requests.map(Request::get).to_vec(), total: 600, clients: 4 };
    drive(&shop.address, &plan).without_failures().unwrap();
    let statements = shop.database.end_log().unwrap();
    let report = attach.stop().unwrap();
    let spans: Vec<&Span> = report.transactions.iter().flat_map(|transaction| &transaction.spans).collect();
    assert_eq!(spans.len(), statements.len());
    assert_eq!(report.transactions.len(), 600);
    for word in ["zanzibar", "= 5"] {
        assert!(statements.iter().any(|text| text.contains(word)), "the server did not receive `{word}`");
        assert!(!report.stdout.contains(word), "the value `{word}` was reported");
    }
}
