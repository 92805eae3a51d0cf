//! How long a connection to a database was held before the first statement was asked on it. Nobody tells when a pool hands out
//! a connection; what can be seen is what goes before its use: that it is made, that its client looks whether it is still there
//! (a ping, `SELECT 1`), that settings are made or a transaction begun. The earliest of these in a request is its checkout;
//! where there was none of them, nothing is known. What ends the database's transaction hands the connection back, and what
//! begins one takes it anew.

use super::clients::Purpose;
use super::spans::{Asking, OpenSpan};
use super::warnings::BOOKKEEPING;
use crate::intake::ConnectionId;
use foldhash::HashMap;

/// What a statement says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is being made ready.
    Readies,
    /// A transaction of the database's begins.
    Begins,
    Works,
    /// It may be handed back.
    Ends,
}

impl Step {
    /// `None` for what is no statement.
    fn of(asking: &Asking) -> Option<Self> {
        let Asking::Statement { statement, purpose, .. } = asking else { return None };
        if *purpose == Purpose::Prepare {
            return Some(Self::Works);
        }
        let text = statement.text.as_str();
        let starts =
            |with: &str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
        let operation = statement.name.split(' ').next().unwrap_or_default();
        Some(match operation {
            "COMMIT" | "END" => Self::Ends,
            "ROLLBACK" if !starts("ROLLBACK TO") => Self::Ends,
            "BEGIN" | "START" => Self::Begins,
            _ if BOOKKEEPING.contains(&operation) => Self::Readies,
            // Of the session, or of nothing at all: what drivers and pools ask.
            "SHOW" => Self::Readies,
            "SELECT" if text.eq_ignore_ascii_case("SELECT ?") || starts("SELECT @@") => Self::Readies,
            _ => Self::Works,
        })
    }
}

/// For each call of a transaction that began then, how many nanoseconds before it its connection was checked out, where it
/// is the first statement on it since. `spans` may come in any order.
#[must_use]
pub fn held(spans: &[OpenSpan], since_ns: u64) -> Vec<Option<u64>> {
    let mut held = vec![None; spans.len()];
    let mut order: Vec<(usize, &OpenSpan)> = spans.iter().enumerate().collect();
    order.sort_by_key(|(_, span)| span.started_ns);
    // When those that are checked out were; `None` once they are in use, or when that is not known.
    let mut out: HashMap<ConnectionId, Option<u64>> = HashMap::default();
    for (index, span) in order {
        let (Some(connection), Some(step)) = (span.connection, Step::of(&span.asking)) else { continue };
        if step == Step::Ends {
            out.remove(&connection);
            continue;
        }
        let sign = sign_ns(span, since_ns);
        let readied = (step != Step::Works).then_some(span.started_ns);
        let since = match out.get(&connection) {
            Some(Some(known)) if span.checked_ns.is_none() => Some(*known),
            Some(None) if span.checked_ns.is_none() && step != Step::Begins => None,
            // Of one that is looked at, whatever went before is over.
            _ => sign.or(readied),
        };
        if step == Step::Works {
            held[index] = since.map(|since| span.started_ns.saturating_sub(since));
        }
        out.insert(connection, since.filter(|_| step != Step::Works));
    }
    held
}

/// When the connection was made, or looked at, if that was in the same transaction.
fn sign_ns(span: &OpenSpan, since_ns: u64) -> Option<u64> {
    let made = span.setup.map(|setup| setup.connect_until).or(span.connected_ns);
    made.or(span.checked_ns).filter(|at| *at >= since_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transactions::sql::{Dialect, normalise};
    use std::sync::Arc;

    fn ask(at: u64, connection: u64, text: &str) -> OpenSpan {
        let length = u32::try_from(text.len()).unwrap();
        let asking = Asking::Statement {
            system: "mysql",
            statement: Arc::new(normalise(text.as_bytes(), length, Dialect::Mysql)),
            purpose: Purpose::Run,
        };
        OpenSpan { connection: Some(ConnectionId(connection)), ..OpenSpan::new(asking, at) }
    }

    fn of(spans: &[OpenSpan]) -> Vec<Option<u64>> {
        held(spans, 100)
    }

    #[test]
    fn from_what_makes_it_ready_to_the_first_statement() {
        for first in [
            "BEGIN",
            "start transaction",
            "select 1",
            "SHOW VARIABLES",
            "SET autocommit=0",
            "SELECT @@sql_mode",
        ] {
            let spans = [ask(110, 1, first), ask(150, 1, "SELECT a FROM b"), ask(190, 1, "SELECT a FROM b")];
            assert_eq!(of(&spans), [None, Some(40), None], "{first}");
        }
        // Told in another order.
        let spans = [ask(150, 1, "SELECT a FROM b"), ask(110, 1, "BEGIN"), ask(120, 1, "SAVEPOINT x")];
        assert_eq!(of(&spans), [Some(40), None, None]);
    }

    #[test]
    fn nothing_is_known_of_one_that_is_just_used() {
        let spans =
            [ask(150, 1, "SELECT a FROM b"), ask(160, 1, "SET a = 1"), ask(190, 1, "SELECT a FROM b")];
        assert_eq!(of(&spans), [None, None, None]);
        assert_eq!(of(&[OpenSpan { connection: None, ..ask(150, 1, "SELECT a FROM b") }]), [None]);
    }

    #[test]
    fn each_connection_and_each_checkout_for_itself() {
        let spans = [
            ask(110, 1, "BEGIN"),
            ask(120, 2, "SELECT a FROM b"),
            ask(130, 1, "SELECT a FROM b"),
            ask(140, 1, "ROLLBACK TO x"),
            ask(150, 1, "COMMIT"),
            ask(160, 1, "BEGIN"),
            ask(190, 1, "UPDATE a SET b = 1"),
        ];
        assert_eq!(of(&spans), [None, None, Some(20), None, None, None, Some(30)]);
        let spans = [ask(110, 1, "SELECT a FROM b"), ask(120, 1, "begin"), ask(150, 1, "SELECT a FROM b")];
        assert_eq!(of(&spans), [None, None, Some(30)]);
    }

    #[test]
    fn made_or_looked_at_in_the_same_transaction() {
        let made = |at| OpenSpan { connected_ns: Some(at), ..ask(150, 1, "SELECT a FROM b") };
        assert_eq!(of(&[made(120)]), [Some(30)]);
        assert_eq!(of(&[made(99)]), [None]);
        let readied = OpenSpan { connected_ns: Some(120), ..ask(130, 1, "SET NAMES utf8") };
        assert_eq!(of(&[readied, ask(150, 1, "SELECT a FROM b")]), [None, Some(30)]);
        let looked = |at| OpenSpan { checked_ns: Some(at), ..ask(150, 1, "SELECT a FROM b") };
        assert_eq!(of(&[looked(140)]), [Some(10)]);
        assert_eq!(of(&[looked(90)]), [None]);
        // The pool hands it out a second time.
        assert_eq!(of(&[ask(110, 1, "SELECT a FROM b"), looked(140)]), [None, Some(10)]);
    }
}
