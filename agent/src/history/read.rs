//! What a window of time was like, read from the file in one view of it, whatever is written meanwhile.

use super::commit::number;
use super::compare::compare;
use super::error::HistoryError;
use super::figures::Gathered;
use super::functions::functions;
use super::minutes::{ErrorKind, MINUTE_NS, WarningKey};
use super::packed::unpack;
use super::schema::{BY_MINUTE, open_to_read};
use pyapm_model::line::Transaction;
use pyapm_model::report::{
    Application, ErrorGroup, FORMAT, Minute, Report, Route, Statement, Warning, Window,
};
use rusqlite::{Connection, Row, params};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Names of transactions that are told of one group of exceptions.
const NAMES: usize = 5;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Wall clock; minutes that are partly in it are all in it.
    pub since_ns: u64,
    pub until_ns: u64,
    /// `None`: all of them.
    pub application: Option<String>,
    /// The other window, since and until.
    pub compare: Option<(u64, u64)>,
    /// Transactions that are told whole: so many of the slowest, and as many of those that failed.
    pub transactions: usize,
}

/// A file, open for reading.
#[derive(Debug)]
pub struct History {
    connection: Connection,
}

/// Minutes, from the first to before the last.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    end: u64,
}

impl Span {
    fn of(since_ns: u64, until_ns: u64) -> Self {
        Self { first: since_ns / MINUTE_NS, end: until_ns.div_ceil(MINUTE_NS) }
    }

    fn bounds(self) -> (i64, i64) {
        (number(self.first), number(self.end))
    }
}

impl History {
    /// # Errors
    /// When there is none, or it is not one that this program can read.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        Ok(Self { connection: open_to_read(path)? })
    }

    /// The window, application by application.
    ///
    /// # Errors
    /// When nothing was recorded in it, no such application is known, or the file cannot be read.
    pub fn report(&mut self, query: &Query) -> Result<Report, HistoryError> {
        // All of it is read from one view.
        let view = self.connection.transaction()?;
        let known = applications(&view)?;
        if let Some(name) = &query.application
            && !known.iter().any(|one| one.name == *name)
        {
            let applications = known.into_iter().map(|one| one.name).collect();
            return Err(HistoryError::Application { name: name.clone(), applications });
        }
        let span = Span::of(query.since_ns, query.until_ns);
        let window = window(&view, span)?;
        let other = match query.compare {
            Some((since_ns, until_ns)) => {
                let span = Span::of(since_ns, until_ns);
                Some((span, window_of(&view, span)?))
            }
            None => None,
        };
        let mut report = Report {
            format: FORMAT,
            pyapm: env!("CARGO_PKG_VERSION").to_owned(),
            window,
            compared: other.map(|(_, window)| window),
            applications: Vec::new(),
        };
        for known in known {
            if query.application.as_ref().is_some_and(|name| *name != known.name) {
                continue;
            }
            let reader = Reader { view: &view, application: known.id };
            let mut application = reader.application(span, window.recorded_ns)?;
            let before = match other {
                Some((span, window)) => Some(reader.application(span, window.recorded_ns)?),
                None => None,
            };
            let is_idle = application.totals.count == 0 && application.samples == 0;
            if is_idle && before.as_ref().is_none_or(|before| before.totals.count == 0) {
                continue;
            }
            application.application.clone_from(&known.name);
            application.server = known.server;
            application.python = known.python;
            application.slowest = reader.whole(span, "1", "duration_ns DESC", query.transactions)?;
            application.failed = reader.whole(span, "failed", "end_ns DESC", query.transactions)?;
            application.comparison = before.map(|before| Box::new(compare(&application, &before)));
            report.applications.push(application);
        }
        match (&query.application, report.applications.is_empty()) {
            (Some(name), true) => Err(HistoryError::Idle { name: name.clone() }),
            (None, true) => Err(nothing(&view)?),
            (_, false) => Ok(report),
        }
    }
}

struct Known {
    id: i64,
    name: String,
    server: Option<String>,
    python: Option<String>,
}

fn applications(view: &Connection) -> rusqlite::Result<Vec<Known>> {
    let mut statement = view.prepare("SELECT id, name, server, python FROM applications ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(Known { id: row.get(0)?, name: row.get(1)?, server: row.get(2)?, python: row.get(3)? })
    })?;
    rows.collect()
}

/// The same as [`window_of`], where it must have been recorded in.
fn window(view: &Connection, span: Span) -> Result<Window, HistoryError> {
    let window = window_of(view, span)?;
    if window.recorded_ns == 0 { Err(nothing(view)?) } else { Ok(window) }
}

/// How much of it the service was recording.
fn window_of(view: &Connection, span: Span) -> rusqlite::Result<Window> {
    let (since_ns, until_ns) = (span.first.saturating_mul(MINUTE_NS), span.end.saturating_mul(MINUTE_NS));
    let mut statement = view.prepare(
        "SELECT max(started_ns, ?1), min(until_ns, ?2), lost_lines FROM runs \
         WHERE until_ns > ?1 AND started_ns < ?2 ORDER BY started_ns",
    )?;
    let mut rows = statement.query(params![number(since_ns), number(until_ns)])?;
    let mut window = Window { since_ns, until_ns, ..Window::default() };
    // Runs that overlap (two services on one file) count once.
    let mut end = 0;
    while let Some(row) = rows.next()? {
        let (from, to) = (count(row, 0)?.max(end), count(row, 1)?);
        window.recorded_ns += to.saturating_sub(from);
        window.lost_lines += count(row, 2)?;
        end = end.max(to);
    }
    Ok(window)
}

/// Nothing was found: what there is instead.
fn nothing(view: &Connection) -> rusqlite::Result<HistoryError> {
    let (since, until): (Option<i64>, Option<i64>) =
        view.query_row("SELECT min(started_ns), max(until_ns) FROM runs", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // What was let go of is no longer to be had, though the run had begun before.
    let mut oldest = None;
    for table in BY_MINUTE {
        let first: Option<i64> =
            view.query_row(&format!("SELECT min(minute) FROM {table}"), [], |row| row.get(0))?;
        oldest = [oldest, first].into_iter().flatten().min();
    }
    let (Some(since), Some(until), Some(oldest)) = (since, until, oldest) else {
        return Ok(HistoryError::Empty);
    };
    let since_ns = u64::try_from(since).unwrap_or(0).max(unsigned(oldest).saturating_mul(MINUTE_NS));
    Ok(HistoryError::Window { since_ns, until_ns: unsigned(until) })
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number that is never negative in a file that we wrote.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(unsigned)
}

/// Of one application.
struct Reader<'a> {
    view: &'a Connection,
    application: i64,
}

impl Reader<'_> {
    fn application(&self, span: Span, recorded_ns: u64) -> rusqlite::Result<Application> {
        let (routes, minutes, all) = self.routes(span, recorded_ns)?;
        let stacks = self.stacks(span)?;
        let (functions, samples) = functions(&stacks);
        Ok(Application {
            totals: all.figures(recorded_ns),
            routes,
            minutes,
            statements: self.statements(span, recorded_ns)?,
            errors: self.errors(span)?,
            warnings: self.warnings(span)?,
            functions,
            samples,
            stacks,
            ..Application::default()
        })
    }

    fn routes(&self, span: Span, recorded_ns: u64) -> rusqlite::Result<(Vec<Route>, Vec<Minute>, Gathered)> {
        let mut statement = self.view.prepare(
            "SELECT r.minute, coalesce(t.text, '?'), r.count, r.errors, r.total_ns, r.max_ns, r.durations, r.db_calls, \
             r.db_ns, r.status_1xx, r.status_2xx, r.status_3xx, r.status_4xx, r.status_5xx \
             FROM routes r LEFT JOIN texts t ON t.id = r.name \
             WHERE r.minute >= ?1 AND r.minute < ?2 AND r.application = ?3",
        )?;
        let (first, end) = span.bounds();
        let mut rows = statement.query(params![first, end, self.application])?;
        let mut routes: HashMap<String, (Route, Gathered)> = HashMap::new();
        let mut minutes: BTreeMap<u64, Gathered> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let durations: Vec<u8> = row.get(6)?;
            let figures = [count(row, 2)?, count(row, 3)?, count(row, 4)?, count(row, 5)?];
            let [number, errors, total_ns, max_ns] = figures;
            let (route, gathered) = routes.entry(name).or_default();
            gathered.add(number, errors, total_ns, max_ns, &durations);
            minutes.entry(count(row, 0)?).or_default().add(number, errors, total_ns, max_ns, &durations);
            route.db_calls += count(row, 7)?;
            route.db_ns = route.db_ns.saturating_add(count(row, 8)?);
            for (class, column) in route.status_classes.iter_mut().zip(9..) {
                *class += count(row, column)?;
            }
        }
        let mut all = Gathered::default();
        for (_, gathered) in routes.values() {
            all.merge(gathered);
        }
        let mut routes: Vec<Route> = routes
            .into_iter()
            .map(|(name, (route, gathered))| {
                let share = share(gathered.total_ns, all.total_ns);
                Route { name, figures: gathered.figures(recorded_ns), share, ..route }
            })
            .collect();
        routes.sort_by(|a, b| b.figures.total_ns.cmp(&a.figures.total_ns).then_with(|| a.name.cmp(&b.name)));
        let minutes = minutes.into_iter().map(|(minute, gathered)| Minute {
            start_ns: minute.saturating_mul(MINUTE_NS),
            count: gathered.count,
            errors: gathered.errors,
            p50_ns: gathered.quantile(0.5),
            p95_ns: gathered.quantile(0.95),
        });
        Ok((routes, minutes.collect(), all))
    }

    fn statements(&self, span: Span, recorded_ns: u64) -> rusqlite::Result<Vec<Statement>> {
        let mut statement = self.view.prepare(
            "SELECT coalesce(t.text, '?'), s.system, s.count, s.errors, s.total_ns, s.max_ns, s.durations, s.call_site \
             FROM statements s LEFT JOIN texts t ON t.id = s.text \
             WHERE s.minute >= ?1 AND s.minute < ?2 AND s.application = ?3",
        )?;
        let (first, end) = span.bounds();
        let mut rows = statement.query(params![first, end, self.application])?;
        let mut sums: HashMap<String, (Statement, Gathered)> = HashMap::new();
        while let Some(row) = rows.next()? {
            let durations: Vec<u8> = row.get(6)?;
            let (found, gathered) = sums.entry(row.get(0)?).or_default();
            gathered.add(count(row, 2)?, count(row, 3)?, count(row, 4)?, count(row, 5)?, &durations);
            if found.system.is_none() {
                found.system = row.get(1)?;
            }
            let site: Option<String> = row.get(7)?;
            if found.call_site.is_none() {
                found.call_site = site.and_then(|site| serde_json::from_str(&site).ok());
            }
        }
        let total: u64 = sums.values().map(|(_, gathered)| gathered.total_ns).sum();
        let mut statements: Vec<Statement> = sums
            .into_iter()
            .map(|(text, (found, gathered))| {
                let share = share(gathered.total_ns, total);
                Statement { text, figures: gathered.figures(recorded_ns), share, ..found }
            })
            .collect();
        statements
            .sort_by(|a, b| b.figures.total_ns.cmp(&a.figures.total_ns).then_with(|| a.text.cmp(&b.text)));
        Ok(statements)
    }

    fn errors(&self, span: Span) -> rusqlite::Result<Vec<ErrorGroup>> {
        let mut statement = self.view.prepare(
            "SELECT k.text, coalesce(r.text, '?'), e.count, e.unhandled, e.first_ns, e.last_ns, e.latest \
             FROM errors e LEFT JOIN texts k ON k.id = e.kind LEFT JOIN texts r ON r.id = e.route \
             WHERE e.minute >= ?1 AND e.minute < ?2 AND e.application = ?3",
        )?;
        let (first, end) = span.bounds();
        let mut rows = statement.query(params![first, end, self.application])?;
        let mut groups: HashMap<ErrorKind, (ErrorGroup, BTreeMap<String, u64>)> = HashMap::new();
        while let Some(row) = rows.next()? {
            let kind: Option<String> = row.get(0)?;
            let Some(kind) = kind.and_then(|kind| serde_json::from_str::<ErrorKind>(&kind).ok()) else {
                continue;
            };
            let (group, names) = groups.entry(kind).or_default();
            let number = count(row, 2)?;
            let (first_ns, last_ns) = (count(row, 4)?, count(row, 5)?);
            group.first_seen_ns = if group.count == 0 { first_ns } else { group.first_seen_ns.min(first_ns) };
            group.count += number;
            group.unhandled += count(row, 3)?;
            *names.entry(row.get(1)?).or_default() += number;
            if last_ns >= group.last_seen_ns {
                group.last_seen_ns = last_ns;
                let latest: Vec<u8> = row.get(6)?;
                group.latest = unpack(&latest).unwrap_or_default();
            }
        }
        let mut groups: Vec<ErrorGroup> = groups
            .into_iter()
            .map(|(kind, (group, names))| {
                let mut names: Vec<(String, u64)> = names.into_iter().collect();
                names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
                let transactions = names.into_iter().take(NAMES).map(|(name, _)| name).collect();
                ErrorGroup { kind: kind.kind, module: kind.module, frame: kind.frame, transactions, ..group }
            })
            .collect();
        groups.sort_by(|a, b| {
            b.count.cmp(&a.count).then_with(|| (&a.kind, &a.frame).cmp(&(&b.kind, &b.frame)))
        });
        Ok(groups)
    }

    fn warnings(&self, span: Span) -> rusqlite::Result<Vec<Warning>> {
        let mut statement = self.view.prepare(
            "SELECT k.text, sum(w.transactions), max(w.most_calls), sum(w.calls), sum(w.total_ns) \
             FROM warnings w JOIN texts k ON k.id = w.key \
             WHERE w.minute >= ?1 AND w.minute < ?2 AND w.application = ?3 GROUP BY w.key",
        )?;
        let (first, end) = span.bounds();
        let mut rows = statement.query(params![first, end, self.application])?;
        let mut warnings = Vec::new();
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let Ok(key) = serde_json::from_str::<WarningKey>(&key) else { continue };
            warnings.push(Warning {
                kind: key.kind,
                route: key.route,
                text: key.text,
                call_site: key.call_site,
                transactions: count(row, 1)?,
                most_calls: count(row, 2)?,
                calls: count(row, 3)?,
                total_ns: count(row, 4)?,
            });
        }
        warnings.sort_by(|a, b| {
            b.total_ns.cmp(&a.total_ns).then_with(|| (&a.route, &a.text).cmp(&(&b.route, &b.text)))
        });
        Ok(warnings)
    }

    fn stacks(&self, span: Span) -> rusqlite::Result<Vec<(String, u64)>> {
        let mut statement = self.view.prepare(
            "SELECT t.text, sum(s.samples) FROM stacks s JOIN texts t ON t.id = s.stack \
             WHERE s.minute >= ?1 AND s.minute < ?2 AND s.application = ?3 \
             GROUP BY s.stack ORDER BY 2 DESC, 1",
        )?;
        let (first, end) = span.bounds();
        let rows = statement
            .query_map(params![first, end, self.application], |row| Ok((row.get(0)?, count(row, 1)?)))?;
        rows.collect()
    }

    /// Those that were kept whole; `which` and `order` are our own words.
    fn whole(&self, span: Span, which: &str, order: &str, most: usize) -> rusqlite::Result<Vec<Transaction>> {
        let mut statement = self.view.prepare(&format!(
            "SELECT detail FROM transactions \
             WHERE minute >= ?1 AND minute < ?2 AND application = ?3 AND {which} ORDER BY {order} LIMIT ?4"
        ))?;
        let (first, end) = span.bounds();
        let mut rows = statement.query(params![first, end, self.application, number(most as u64)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let detail: Vec<u8> = row.get(0)?;
            found.extend(unpack::<Transaction>(&detail));
        }
        Ok(found)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
