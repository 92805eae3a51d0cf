//! Statements of SQLite: it is a library, so the statement's own steps say how it goes, and no bytes do. A statement
//! lasts from its first step until it is over, reset or finalized: what the application does between two rows
//! is part of it.

use super::client::end;
use super::{Asking, Caller, SpanId};
use crate::intake::{Statement, StatementStep, Step};
use crate::transactions::Transactions;
use crate::transactions::clients::{CallResult, Purpose};
use crate::transactions::sql::Dialect;
use foldhash::HashMap;

/// `db.system.name` of the OpenTelemetry conventions.
const SYSTEM: &str = "sqlite";
/// Statements that are followed at once; what is beyond is counted.
const MOST: usize = 65_536;

/// Statements that have begun and are not over, by process and the library's handle.
#[derive(Debug, Default)]
pub struct Embedded {
    running: HashMap<(u32, u64), SpanId>,
}

impl Embedded {
    /// A process has ended.
    pub fn forget(&mut self, pid: u32) {
        self.running.retain(|(owner, _), _| *owner != pid);
    }
}

impl Transactions {
    pub(in crate::transactions) fn embedded_begins(&mut self, caller: &Caller, statement: &Statement<'_>) {
        let key = (caller.thread.pid, statement.handle);
        // That it ended was not told, or is told too late.
        if let Some(span) = self.embedded.running.remove(&key).and_then(|span| self.spans.get_mut(span)) {
            span.closed = true;
        }
        let dialect = Dialect::of(SYSTEM);
        let text = self.statements.key(statement.text, statement.text_len, dialect);
        let (normalised, fresh) = self.statements.get(text, statement.text, statement.text_len, dialect);
        self.counts.sql_scanned += u64::from(fresh && normalised.scanned);
        let asking = Asking::Statement { system: SYSTEM, statement: normalised, purpose: Purpose::Run };
        let Some(span) = self.open_span(caller, asking) else { return };
        if self.embedded.running.len() >= MOST {
            self.counts.calls_overflow += 1;
            return;
        }
        self.embedded.running.insert(key, span);
    }

    pub(in crate::transactions) fn embedded_step(&mut self, time_ns: u64, pid: u32, told: &StatementStep) {
        let key = (pid, told.handle);
        let span = match told.step {
            Step::Row => self.embedded.running.get(&key).copied(),
            _ => self.embedded.running.remove(&key),
        };
        // It was nobody's, or its request has been given out.
        let Some(span) = span.and_then(|span| self.spans.get_mut(span)) else { return };
        let (changes_rows, gives_rows) = match &span.asking {
            Asking::Statement { statement, .. } => {
                (is_one_of(&statement.name, &CHANGING), is_one_of(&statement.name, &GIVING))
            }
            _ => (false, false),
        };
        let rows = (gives_rows || told.rows > 0).then_some(told.rows);
        let result = match told.step {
            Step::Row => return span.some_answer(time_ns),
            Step::Done { changes } => {
                CallResult { rows, affected_rows: changes.filter(|_| changes_rows), ..CallResult::default() }
            }
            // Without an error up to here; the rows are those that were asked for.
            Step::Left => CallResult { rows, ..CallResult::default() },
            Step::Failed { code } => CallResult::error(error_name(code)),
        };
        end(span, time_ns, result);
    }
}

/// Operations that change rows, and those that give rows, though it may be none.
const CHANGING: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "REPLACE"];
const GIVING: [&str; 4] = ["SELECT", "WITH", "VALUES", "PRAGMA"];

/// A summary begins with the operation.
fn is_one_of(name: &str, operations: &[&str]) -> bool {
    operations.contains(&name.split(' ').next().unwrap_or_default())
}

/// A result code by its name, as Python's `sqlite_errorname` gives it; the extended code's where SQLite 3.45's
/// `sqlite3.h` has one, else the primary one's, else the number.
fn error_name(code: u32) -> String {
    let named = |code: u32| NAMES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name);
    match named(code).or_else(|| named(code & 0xff)) {
        Some(name) => format!("SQLITE_{name}"),
        None => code.to_string(),
    }
}

/// Result codes of `sqlite3.h`: primary ones, and of the extended ones those that tell an operator more.
const NAMES: [(u32, &str); 49] = [
    (1, "ERROR"),
    (2, "INTERNAL"),
    (3, "PERM"),
    (4, "ABORT"),
    (5, "BUSY"),
    (6, "LOCKED"),
    (7, "NOMEM"),
    (8, "READONLY"),
    (9, "INTERRUPT"),
    (10, "IOERR"),
    (11, "CORRUPT"),
    (12, "NOTFOUND"),
    (13, "FULL"),
    (14, "CANTOPEN"),
    (15, "PROTOCOL"),
    (16, "EMPTY"),
    (17, "SCHEMA"),
    (18, "TOOBIG"),
    (19, "CONSTRAINT"),
    (20, "MISMATCH"),
    (21, "MISUSE"),
    (22, "NOLFS"),
    (23, "AUTH"),
    (24, "FORMAT"),
    (25, "RANGE"),
    (26, "NOTADB"),
    (261, "BUSY_RECOVERY"),
    (262, "LOCKED_SHAREDCACHE"),
    (264, "READONLY_RECOVERY"),
    (266, "IOERR_READ"),
    (275, "CONSTRAINT_CHECK"),
    (517, "BUSY_SNAPSHOT"),
    (518, "LOCKED_VTAB"),
    (522, "IOERR_SHORT_READ"),
    (531, "CONSTRAINT_COMMITHOOK"),
    (773, "BUSY_TIMEOUT"),
    (778, "IOERR_WRITE"),
    (787, "CONSTRAINT_FOREIGNKEY"),
    (1034, "IOERR_FSYNC"),
    (1043, "CONSTRAINT_FUNCTION"),
    (1299, "CONSTRAINT_NOTNULL"),
    (1555, "CONSTRAINT_PRIMARYKEY"),
    (1811, "CONSTRAINT_TRIGGER"),
    (2067, "CONSTRAINT_UNIQUE"),
    (2323, "CONSTRAINT_VTAB"),
    (2579, "CONSTRAINT_ROWID"),
    (2835, "CONSTRAINT_PINNED"),
    (3082, "IOERR_NOMEM"),
    (3091, "CONSTRAINT_DATATYPE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_codes() {
        assert_eq!(error_name(2067), "SQLITE_CONSTRAINT_UNIQUE");
        // An extended code that has no line here.
        assert_eq!(error_name(10 | 99 << 8), "SQLITE_IOERR");
        assert_eq!(error_name(200), "200");
        assert!(NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn operations() {
        assert!(is_one_of("INSERT people", &CHANGING) && is_one_of("REPLACE", &CHANGING));
        assert!(
            !is_one_of("SELECT people", &CHANGING)
                && !is_one_of("", &GIVING)
                && !is_one_of("INSERTED", &CHANGING)
        );
    }
}
