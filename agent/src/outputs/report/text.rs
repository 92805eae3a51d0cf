//! The report as plain text. Not a format for programs to read: that is the JSON.

use super::pieces::{kind, ratio};
use super::times;
use pyapm_model::line::Transaction;
use pyapm_model::report::{Application, Change, Changes, Comparison, ErrorGroup, Figures, Report, Window};
use pyapm_tui::format::{
    call_site, clean, duration, fit, grouped, known, left, percent, percent_of, place, rate, right,
    whole_seconds, wrap,
};
use std::io::{self, Write};

/// Narrower than this, texts would be cut beyond use.
const MIN_WIDTH: usize = 60;
/// Columns of a figure.
const FIGURE: usize = 10;

/// Writes the report in lines of at most `width` columns (at least 60), with at most `rows` in each table.
///
/// # Errors
/// Those of `out`, a closed pipe among them.
pub fn text(report: &Report, rows: usize, width: usize, out: &mut impl Write) -> io::Result<()> {
    let mut page = Page { out, rows, width: width.max(MIN_WIDTH) };
    page.window("", &report.window)?;
    if let Some(window) = &report.compared {
        page.window("compared with ", window)?;
    }
    for application in &report.applications {
        page.application(application)?;
    }
    Ok(())
}

struct Page<'a, W> {
    out: &'a mut W,
    rows: usize,
    width: usize,
}

impl<W: Write> Page<'_, W> {
    fn window(&mut self, what: &str, window: &Window) -> io::Result<()> {
        writeln!(
            self.out,
            "{what}{} to {}, {} of it recorded",
            times::minute(window.since_ns),
            times::local(window.until_ns),
            whole_seconds(window.recorded_ns)
        )?;
        if window.lost_lines > 0 {
            writeln!(
                self.out,
                "  {} lines never came to the history: it was too slow for them",
                grouped(window.lost_lines)
            )?;
        }
        Ok(())
    }

    fn application(&mut self, application: &Application) -> io::Result<()> {
        writeln!(
            self.out,
            "\n{}  {}  Python {}",
            clean(&application.application),
            known(application.server.as_deref(), clean),
            known(application.python.as_deref(), clean)
        )?;
        let totals = &application.totals;
        writeln!(
            self.out,
            "{} transactions  {}/s  {} errors ({})  p50 {}  p95 {}  p99 {}",
            grouped(totals.count),
            rate(totals.per_second),
            grouped(totals.errors),
            percent_of(totals.errors, totals.count),
            duration(totals.p50_ns),
            duration(totals.p95_ns),
            duration(totals.p99_ns)
        )?;
        if let Some(comparison) = &application.comparison {
            self.comparison(comparison)?;
        }
        self.routes(application)?;
        self.statements(application)?;
        self.errors("errors", &application.errors)?;
        self.warnings(application)?;
        self.functions(application)?;
        self.transactions("slowest transactions", &application.slowest)?;
        self.transactions("latest that failed", &application.failed)
    }

    fn routes(&mut self, application: &Application) -> io::Result<()> {
        self.head("routes", &["count", "/s", "errors", "time %", "p50", "p95", "p99"])?;
        for route in application.routes.iter().take(self.rows) {
            let figures = &route.figures;
            self.row(
                &route.name,
                &[
                    grouped(figures.count),
                    rate(figures.per_second),
                    grouped(figures.errors),
                    percent(route.share),
                    duration(figures.p50_ns),
                    duration(figures.p95_ns),
                    duration(figures.p99_ns),
                ],
            )?;
        }
        self.rest(application.routes.len())
    }

    fn statements(&mut self, application: &Application) -> io::Result<()> {
        if application.statements.is_empty() {
            return Ok(());
        }
        self.head("SQL", &["count", "errors", "time %", "p50", "p95", "max"])?;
        for statement in application.statements.iter().take(self.rows) {
            let figures = &statement.figures;
            self.row(
                &statement.text,
                &[
                    grouped(figures.count),
                    grouped(figures.errors),
                    percent(statement.share),
                    duration(figures.p50_ns),
                    duration(figures.p95_ns),
                    duration(figures.max_ns),
                ],
            )?;
        }
        self.rest(application.statements.len())
    }

    fn errors(&mut self, title: &str, groups: &[ErrorGroup]) -> io::Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        self.head(title, &["count", "unhandled", "last seen"])?;
        for group in groups.iter().take(self.rows) {
            let mut name = kind(group);
            if let Some(frame) = &group.frame {
                name.push_str(&format!("  {}", call_site(frame)));
            }
            let last = times::minute(group.last_seen_ns);
            let last = last.split_once(' ').map_or(last.as_str(), |(_, time)| time);
            self.row(&name, &[grouped(group.count), grouped(group.unhandled), last.to_owned()])?;
            if let Some(message) = &group.latest.message {
                writeln!(self.out, "    {}", fit(&clean(message), self.width - 4))?;
            }
        }
        self.rest(groups.len())
    }

    fn warnings(&mut self, application: &Application) -> io::Result<()> {
        if application.warnings.is_empty() {
            return Ok(());
        }
        self.head("N+1 and other warnings", &["requests", "calls", "most", "time"])?;
        for warning in application.warnings.iter().take(self.rows) {
            let name = format!("{}: {}", super::pieces::warning(warning.kind), warning.route);
            self.row(
                &name,
                &[
                    grouped(warning.transactions),
                    grouped(warning.calls),
                    grouped(warning.most_calls),
                    duration(warning.total_ns),
                ],
            )?;
            let site = warning.call_site.as_ref().map(|frame| format!("  at {}", place(frame)));
            let what = format!("{}{}", warning.text, site.unwrap_or_default());
            writeln!(self.out, "    {}", fit(&clean(&what), self.width - 4))?;
        }
        self.rest(application.warnings.len())
    }

    fn functions(&mut self, application: &Application) -> io::Result<()> {
        if application.samples == 0 {
            return Ok(());
        }
        self.head("functions by CPU", &["samples", "self %", "total %"])?;
        for function in application.functions.iter().take(self.rows) {
            let name = format!("{}  {}", function.function, function.file);
            let samples = grouped(function.self_samples);
            self.row(&name, &[samples, percent(function.self_share), percent(function.total_share)])?;
        }
        self.rest(application.functions.len())
    }

    fn transactions(&mut self, title: &str, transactions: &[Transaction]) -> io::Result<()> {
        if transactions.is_empty() {
            return Ok(());
        }
        self.head(title, &["time", "calls", "status", "duration"])?;
        for transaction in transactions.iter().take(self.rows) {
            let at = times::local(transaction.start_ns);
            let at = at.split(' ').nth(1).unwrap_or_default().to_owned();
            let status = known(transaction.status, |status| status.to_string());
            self.row(
                &transaction.name,
                &[at, grouped(transaction.spans.len() as u64), status, duration(transaction.duration_ns)],
            )?;
        }
        Ok(())
    }

    fn comparison(&mut self, comparison: &Comparison) -> io::Result<()> {
        self.changes("routes that got slower", &comparison.routes.slower)?;
        self.changes("SQL that got slower", &comparison.statements.slower)?;
        self.errors("new errors", &comparison.new_errors)?;
        self.changes("new SQL", &comparison.statements.new)?;
        self.changes("new routes", &comparison.routes.new)?;
        let Changes { faster, .. } = &comparison.routes;
        self.changes("routes that got faster", faster)?;
        let functions: Vec<_> = comparison.functions.iter().take(self.rows).collect();
        if functions.is_empty() {
            return Ok(());
        }
        self.head("functions whose part of the CPU changed", &["before %", "now %"])?;
        for change in functions {
            let name = format!("{}  {}", change.function, change.file);
            self.row(&name, &[percent(change.before_share), percent(change.now_share)])?;
        }
        self.rest(comparison.functions.len())
    }

    fn changes(&mut self, title: &str, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.head(title, &["count", "p50 was", "p50", "p95 was", "p95", "mean"])?;
        for change in changes.iter().take(self.rows) {
            let was = |of: fn(&Figures) -> u64| known(change.before.as_ref().map(of), duration);
            let is = |of: fn(&Figures) -> u64| known(change.now.as_ref().map(of), duration);
            self.row(
                &change.name,
                &[
                    known(change.now.map(|figures| figures.count), grouped),
                    was(|figures| figures.p50_ns),
                    is(|figures| figures.p50_ns),
                    was(|figures| figures.p95_ns),
                    is(|figures| figures.p95_ns),
                    ratio(change),
                ],
            )?;
        }
        self.rest(changes.len())
    }

    fn head(&mut self, title: &str, columns: &[&str]) -> io::Result<()> {
        writeln!(self.out)?;
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        self.line(title, &columns, false)
    }

    fn row(&mut self, name: &str, figures: &[String]) -> io::Result<()> {
        self.line(&clean(name), figures, true)
    }

    /// The name to the left, in lines of its own when the figures leave too little room for it.
    fn line(&mut self, name: &str, figures: &[String], is_row: bool) -> io::Result<()> {
        let figures: String = figures.iter().map(|figure| format!(" {}", right(figure, FIGURE))).collect();
        let indent = if is_row { 2 } else { 0 };
        let room = self.width.saturating_sub(figures.chars().count() + indent);
        if room >= 24 || (!is_row && room >= name.chars().count()) {
            let name = left(&fit(name, room), room);
            return writeln!(self.out, "{:indent$}{name}{figures}", "");
        }
        for line in wrap(name, self.width - indent).iter().take(2) {
            writeln!(self.out, "{:indent$}{line}", "")?;
        }
        writeln!(self.out, "{}", right(&figures, self.width))
    }

    fn rest(&mut self, all: usize) -> io::Result<()> {
        match all.saturating_sub(self.rows) {
            0 => Ok(()),
            more => writeln!(self.out, "  and {} more (--rows)", grouped(more as u64)),
        }
    }
}
