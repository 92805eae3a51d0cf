//! Libraries that a worker imports while it is watched: they are followed within a second, and of what is asked from then on
//! nothing is missed. What a process does not have costs nothing: the programs for it are not even loaded. And SQLite, which is
//! nothing but such a library: its statements are those that it says itself that it ran.

use crate::drivers::{Call, MYSQLCLIENT, PSYCOPG2, Page, SQLITE, assert_page, is_preparation};
use harness::bpf::Held;
use harness::drivers::{Asks, Drivers};
use harness::interpreter::{Interpreter, Script};
use harness::place::Python;
use harness::pyapm::Pyapm;
use harness::source::site_in;
use pyapm_model::line::{Span, SpanKind, Transaction};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rounds that are asked for once everything is followed.
const MORE: usize = 5;

/// Names of the programs that are loaded for libraries of this family, `_` at the end.
fn loaded(attach: &Pyapm, family: &str) -> BTreeSet<String> {
    let mut names = Held::by(attach.pid()).unwrap().names().unwrap();
    assert!(names.contains("syscall_exit"), "{names:?}");
    names.retain(|name| name.starts_with(family));
    names
}

/// It has imported `threading` and `time`.
#[test]
fn what_a_process_does_not_have_is_not_loaded() {
    let interpreter = Interpreter::of_machine().unwrap();
    let script = Script::start_with("crowd.py", |scratch| {
        let mut command = interpreter.command("crowd.py", scratch);
        command.arg("1");
        Ok(command)
    })
    .unwrap();
    let attach = Pyapm::attach(script.pid(), &[]).unwrap();
    for family in ["mysql_", "sqlite_", "tls_"] {
        assert_eq!(loaded(&attach, family), BTreeSet::new());
    }
    attach.stop().unwrap();
}

#[test]
fn what_is_imported_late_is_followed() {
    let drivers = Drivers::start_as(&Python::chosen().unwrap(), Asks::SyncLate).unwrap();
    let mut attach = Pyapm::attach(drivers.master(), &["-v"]).unwrap();
    for family in ["mysql_", "sqlite_"] {
        assert_eq!(loaded(&attach, family), BTreeSet::new());
    }
    // With psycopg2 come a libpq and a TLS library of its own.
    drivers
        .ask(&["/open/sqlite3", "/open/sqlite3-counted", "/open/mysqlclient", "/open/psycopg2-tls"])
        .unwrap();
    // Asked all the while, and some more.
    let is_followed = AtomicBool::new(false);
    let mut rounds = 0;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut asked, mut more) = (0, MORE);
            while more > 0 {
                more -= usize::from(is_followed.load(Ordering::Relaxed));
                drivers.ask(&["/sqlite3", "/mysqlclient", "/psycopg2-tls"]).unwrap();
                asked += 1;
            }
            asked
        });
        let followed = attach.wait_for_log("the libraries to be probed", |log| {
            let bundled = |function: &str| {
                log.lines()
                    .any(|line| line.contains(&format!("`{function}` probed")) && line.contains("libssl-"))
            };
            let drivers = ["SQLite probed", "MySQL client library probed"];
            drivers.into_iter().all(|line| log.contains(line)) && bundled("SSL_read") && bundled("SSL_write")
        });
        is_followed.store(true, Ordering::Relaxed);
        followed.unwrap();
        rounds = asking.join().unwrap();
    });
    let said = String::from_utf8(drivers.get("/sqlite3-counted").unwrap()).unwrap();
    attach.wait_for_transactions(4 + 3 * rounds + 1).unwrap();
    assert!(["mysql_", "sqlite_"].iter().all(|family| !loaded(&attach, family).is_empty()));
    let report = attach.stop().unwrap();
    let imported = report.transactions.iter().filter(|one| one.name.starts_with("GET /open/"));
    let imported_ns = imported.map(|one| one.start_ns + one.duration_ns).max().unwrap();

    // From the second time on the update finds what it writes, and MySQL counts no row.
    let again = |call: &Call| Call { affected: None, ..call.clone() };
    let mysqlclient: Vec<Call> = MYSQLCLIENT.iter().map(again).collect();
    let pages: [Page; 3] = [
        ("sqlite3", SpanKind::Db, Some("sqlite"), SQLITE),
        ("mysqlclient", SpanKind::Db, Some("mysql"), mysqlclient.leak()),
        ("psycopg2-tls", SpanKind::Db, Some("postgresql"), PSYCOPG2),
    ];
    for page in &pages {
        let path = format!("/{}", page.0);
        let asked = report.transactions.iter().filter(|one| one.path.as_deref() == Some(&path));
        let is_whole = |one: &&Transaction| {
            one.spans.iter().filter(|span| !is_preparation(span)).count() == page.3.len()
        };
        assert_eq!(asked.clone().count(), rounds, "{path}");
        // The first one may have had its first statement under way when the library was followed: that one is told from its
        // next step on, with the line that asked for it.
        let counts: Vec<usize> = asked.clone().map(|one| one.spans.len()).collect();
        let whole = asked.clone().filter(is_whole).nth(1);
        let followed_ns = whole.unwrap_or_else(|| panic!("{path}: {counts:?} {:?}", report.summary)).start_ns;
        let delay_ms = followed_ns.saturating_sub(imported_ns) / 1_000_000;
        // Said, not asserted: it is a second at most on a machine that has time.
        eprintln!("{path}: followed {delay_ms} ms after its import");
        let mut followed = 0;
        for transaction in asked.filter(|one| one.start_ns >= followed_ns) {
            let mut one = report.clone();
            one.transactions = vec![transaction.clone()];
            assert_page(&one, page.0, page, is_preparation);
            followed += 1;
        }
        assert!(followed >= MORE, "{path}");
    }

    let path = Some("/sqlite3-counted");
    let counted = report.transactions.iter().find(|one| one.path.as_deref() == path).unwrap();
    let spans: Vec<&Span> = counted.spans.iter().collect();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(spans.len(), said.len(), "{said:#?} {:#?}", texts(&spans));
    // What SQLite says has the values put in.
    for (span, said) in spans.iter().zip(&said) {
        let (told, said) = (first_word(&span.name), first_word(said));
        assert!(told.eq_ignore_ascii_case(&said), "{told} {said}: {:#?}", texts(&spans));
        assert_eq!(span.db_system.as_deref(), Some("sqlite"));
    }
    let of = |mark: &str| -> Vec<&Span> {
        let site = site_in("drivers.py", &format!("call: counted {mark}")).unwrap();
        let here = |span: &&&Span| span.stack.first().is_some_and(|frame| frame.line == Some(site.line));
        spans.iter().filter(here).copied().collect()
    };
    // `sqlite3` begins transactions by itself.
    assert_eq!(
        of("many").iter().map(|span| (span.name.as_str(), span.affected_rows)).collect::<Vec<_>>(),
        [
            ("BEGIN", None),
            ("INSERT counted", Some(1)),
            ("INSERT counted", Some(1)),
            ("INSERT counted", Some(1))
        ]
    );
    let [part] = of("part")[..] else { panic!("{:#?}", texts(&spans)) };
    assert!(part.error_type.is_none() && part.returned_rows.is_some_and(|rows| rows > 0), "{part:#?}");
    let [begin, refused] = of("constraint")[..] else { panic!("{:#?}", texts(&spans)) };
    assert_eq!((begin.name.as_str(), begin.error_type.as_deref()), ("BEGIN", None));
    assert_eq!(refused.error_type.as_deref(), Some("SQLITE_CONSTRAINT_UNIQUE"));
    assert_eq!(of("rollback").len(), 1);
    assert!(of("delete").iter().any(|span| span.affected_rows == Some(3)), "{:#?}", of("delete"));
    assert_eq!(of("vacuum").len(), 1, "{:#?}", texts(&spans));
    for loss in ["sqlite_unknown", "sqlite_full"] {
        assert!(!report.summary.incomplete.contains_key(loss), "{:?}", report.summary.incomplete);
    }
}

fn first_word(text: &str) -> String {
    text.split(|next: char| !next.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn texts(spans: &[&Span]) -> Vec<(String, Option<String>)> {
    spans
        .iter()
        .map(|span| (span.name.to_string(), span.db_query.as_ref().map(ToString::to_string)))
        .collect()
}
