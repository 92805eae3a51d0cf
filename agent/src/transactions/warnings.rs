//! What looks like trouble in the calls of one transaction. It counts what is there; whether it is trouble, people
//! decide.

use super::clients::Purpose;
use super::spans::Asking;
use foldhash::HashMap;
use pyapm_model::line::{Frame, Span, SpanKind, Warning, WarningKind};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// From when on a call is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// More calls of one kind from one line than this.
    pub repeated_calls: u64,
    /// A call as long as this.
    pub slow_call_ns: u64,
    /// A connection that was held as long as this before its first statement.
    pub held_connection_ns: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { repeated_calls: 5, slow_call_ns: 1_000_000_000, held_connection_ns: 100_000_000 }
    }
}

/// Statements that are no work of the application's own: what begins, divides and ends transactions, and settings.
pub(super) const BOOKKEEPING: [&str; 8] =
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "SET", "END"];

/// What a call is, values left out: calls with the same answer differ in their values only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sameness(u64);

impl Sameness {
    /// `None` for what is no work of its own, and for calls that come in numbers by their nature: what begins
    /// and ends transactions.
    #[must_use]
    pub fn of(asking: &Asking) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        match asking {
            Asking::Statement { purpose: Purpose::Prepare, .. } => return None,
            Asking::Statement { system, statement, .. } => {
                let operation = statement.name.split(' ').next().unwrap_or_default();
                if BOOKKEEPING.contains(&operation) || operation == "FETCH" {
                    return None;
                }
                (system, statement.digest).hash(&mut hasher);
            }
            Asking::Command { system, name, target, .. } => (system, name, target).hash(&mut hasher),
            Asking::Message { system, name, destination, .. } => {
                (system, name, destination).hash(&mut hasher);
            }
            Asking::Http { method, path, host } => {
                (method, host, path.as_deref().map(super::name::of_path)).hash(&mut hasher);
            }
        }
        Some(Self(hasher.finish()))
    }
}

/// One span of a transaction, with what the model does not have of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub span: &'a Span,
    pub sameness: Option<Sameness>,
    /// It is the first on a connection that was made in this transaction.
    pub opens_connection: bool,
}

/// The warnings of one transaction: repeated calls first, most time first.
#[must_use]
pub fn warnings(spans: &[Seen<'_>], thresholds: Thresholds) -> Vec<Warning> {
    // By call site and what is asked: where the site is not known, nothing says that it was one line.
    let mut groups: HashMap<(Sameness, &Frame), (&Span, u64, u64)> = HashMap::default();
    let mut warnings = Vec::new();
    // Most transactions have too few calls for it, and frames take long to compare.
    let may_repeat = spans.len() as u64 > thresholds.repeated_calls;
    for seen in spans {
        let site = seen.span.stack.first().filter(|_| may_repeat);
        if let (Some(sameness), Some(site)) = (seen.sameness, site) {
            let (_, count, total) = groups.entry((sameness, site)).or_insert((seen.span, 0, 0));
            *count += 1;
            *total += seen.span.duration_ns;
        }
        if seen.span.duration_ns >= thresholds.slow_call_ns {
            warnings.push(warning(WarningKind::SlowCall, seen.span, 1, seen.span.duration_ns));
        }
        if let Some(held_ns) =
            seen.span.checkout_ns.filter(|held_ns| *held_ns >= thresholds.held_connection_ns)
        {
            warnings.push(warning(WarningKind::HeldConnection, seen.span, 1, held_ns));
        }
        if seen.opens_connection && matches!(seen.span.kind, SpanKind::Db | SpanKind::Cache) {
            warnings.push(warning(WarningKind::ConnectionOpened, seen.span, 1, seen.span.duration_ns));
        }
    }
    let repeated = groups.into_values().filter(|(_, count, _)| *count > thresholds.repeated_calls);
    warnings
        .extend(repeated.map(|(span, count, total)| warning(WarningKind::RepeatedCalls, span, count, total)));
    let rank = |kind| match kind {
        WarningKind::RepeatedCalls => 0,
        WarningKind::SlowCall => 1,
        WarningKind::HeldConnection => 2,
        WarningKind::ConnectionOpened => 3,
    };
    warnings.sort_by(|a, b| {
        let by_time = rank(a.kind).cmp(&rank(b.kind)).then(b.duration_ns.cmp(&a.duration_ns));
        by_time.then_with(|| a.name.cmp(&b.name))
    });
    warnings
}

fn warning(kind: WarningKind, span: &Span, count: u64, duration_ns: u64) -> Warning {
    Warning {
        kind,
        name: span.name.to_string(),
        db_system: span.db_system.as_ref().map(ToString::to_string),
        db_query: span.db_query.as_ref().map(ToString::to_string),
        count,
        duration_ns,
        call_site: span.stack.first().cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, line: u32, duration_ns: u64) -> Span {
        let frame = Frame { function: "view".into(), file: "/srv/shop/views.py".into(), line: Some(line) };
        Span {
            name: name.into(),
            kind: SpanKind::Db,
            stack: vec![frame].into(),
            duration_ns,
            ..Span::default()
        }
    }

    fn found(spans: &[(Span, Option<u64>)]) -> Vec<(WarningKind, u64, u64)> {
        let seen: Vec<Seen<'_>> = spans
            .iter()
            .map(|(span, same)| Seen {
                span,
                sameness: same.map(Sameness),
                opens_connection: span.name == "open",
            })
            .collect();
        let warnings = warnings(&seen, Thresholds::default());
        warnings.iter().map(|warning| (warning.kind, warning.count, warning.duration_ns)).collect()
    }

    #[test]
    fn the_same_from_the_same_line() {
        let same: Vec<_> = (0..6).map(|_| (span("SELECT a", 7, 10), Some(1))).collect();
        assert_eq!(found(&same), [(WarningKind::RepeatedCalls, 6, 60)]);
        assert_eq!(found(&same[..5]), []);
        let lines: Vec<_> = (0..6).map(|line| (span("SELECT a", line, 10), Some(1))).collect();
        assert_eq!(found(&lines), []);
        let different: Vec<_> = (0..6).map(|digest| (span("SELECT a", 7, 10), Some(digest))).collect();
        assert_eq!(found(&different), []);
        let bookkeeping: Vec<_> = (0..6).map(|_| (span("COMMIT", 7, 10), None)).collect();
        assert_eq!(found(&bookkeeping), []);
    }

    #[test]
    fn without_a_call_site_nothing_is_repeated() {
        let spans: Vec<_> =
            (0..9).map(|_| (Span { stack: Vec::new().into(), ..span("SELECT a", 7, 10) }, Some(1))).collect();
        assert_eq!(found(&spans), []);
    }

    #[test]
    fn slow_and_opened() {
        let spans = [(span("open", 7, 3), Some(1)), (span("SELECT b", 7, 1_000_000_000), Some(2))];
        let expected = [(WarningKind::SlowCall, 1, 1_000_000_000), (WarningKind::ConnectionOpened, 1, 3)];
        assert_eq!(found(&spans), expected);
    }

    #[test]
    fn held_too_long() {
        let held = |ns| (Span { checkout_ns: Some(ns), ..span("SELECT a", 7, 3) }, Some(1));
        assert_eq!(found(&[held(100_000_000)]), [(WarningKind::HeldConnection, 1, 100_000_000)]);
        assert_eq!(found(&[held(99_999_999)]), []);
    }
}
