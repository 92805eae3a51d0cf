//! A snapshot as plain text, for people, where standard output is not a terminal: the same figures as the
//! live view in the same words, without colour and without a limit on lines that matter. Not a format for
//! programs to read: that is [`json`](super::json).

use pyapm_model::line::WarningKind;
use pyapm_model::snapshot::{Doing, Losses, Snapshot};
use pyapm_tui::format;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Rows in each section; the number left out is said.
const ROWS: usize = 20;

/// Narrower than this, texts would be cut beyond use; wider lines are then broken by whoever shows them.
const MIN_WIDTH: usize = 60;

/// Writes the report, in lines of at most `width` columns (at least 60).
///
/// # Errors
/// Those of `out`, a closed pipe among them.
pub fn report(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    let width = width.max(MIN_WIDTH);
    header(snapshot, out, width)?;
    routes(snapshot, out, width)?;
    active(snapshot, out, width)?;
    functions(snapshot, out, width)?;
    statements(snapshot, out, width)?;
    warnings(snapshot, out, width)?;
    errors(snapshot, out, width)?;
    workers(snapshot, out, width)?;
    loops(snapshot, out, width)?;
    losses(&snapshot.losses, out)
}

fn header(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    let totals = &snapshot.totals;
    let about = format!(
        "{}  {}  Python {}  {} workers  watched for {}",
        format::clean(&snapshot.application),
        format::known(snapshot.server.as_deref(), format::clean),
        format::known(snapshot.python.as_deref(), format::clean),
        snapshot.serving(),
        format::whole_seconds(snapshot.elapsed_ns),
    );
    writeln!(out, "{}", format::fit(&about, width))?;
    if !snapshot.agents.is_empty() {
        let names: Vec<_> = snapshot.agents.iter().map(|name| format::clean(name).to_string()).collect();
        writeln!(out, "{}", format::fit(&format!("also inside: {}", names.join(", ")), width))?;
    }
    let percentile = |value| format::known(value, format::duration);
    let vitals = [
        format!("last {}: {}/s", format::whole_seconds(snapshot.window_ns), format::rate(totals.per_second)),
        format!("{} transactions", format::grouped(totals.transactions)),
        format!(
            "{} errors ({})",
            format::grouped(totals.errors),
            format::percent_of(totals.errors, totals.transactions)
        ),
        format!("p50 {}", percentile(totals.p50_ns)),
        format!("p95 {}", percentile(totals.p95_ns)),
        format!("p99 {}", percentile(totals.p99_ns)),
        format!("CPU {} cores", format::known(totals.cpu_cores, format::cores)),
    ];
    writeln!(out, "{}", joined(&vitals, width))?;
    writeln!(
        out,
        "since the start: {} transactions, {} errors ({})",
        format::grouped(totals.all_transactions),
        format::grouped(totals.all_errors),
        format::percent_of(totals.all_errors, totals.all_transactions),
    )
}

/// The parts with commas between them, on lines of at most `width` columns; a part is never broken.
fn joined(parts: &[String], width: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for (index, part) in parts.iter().enumerate() {
        // The comma that may follow counts, too.
        let wide = format::width(part) + 1;
        if index > 0 {
            let breaks = used + 1 + wide > width;
            text.push_str(if breaks { ",\n  " } else { ", " });
            used = if breaks { 2 } else { used + 1 };
        }
        text.push_str(part);
        used += wide;
    }
    text
}

fn routes(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    let table = Table {
        title: "Transactions by route",
        texts: &["route"],
        figures: &[
            ("count", 6),
            ("/s", 5),
            ("err", 5),
            ("p50", 7),
            ("p95", 7),
            ("p99", 7),
            ("db", 7),
            ("calls", 5),
        ],
        // The figures that fewest decisions hang on.
        narrow_without: &["/s", "p50", "calls"],
        text: 20,
    };
    table.write(snapshot.routes.len(), out, width, |index| {
        let route = &snapshot.routes[index];
        let figures = vec![
            format::count(route.count),
            format::rate(route.per_second),
            format::count(route.errors),
            format::duration(route.p50_ns),
            format::duration(route.p95_ns),
            format::duration(route.p99_ns),
            format::duration(route.db_mean_ns),
            format::rate(route.db_calls),
        ];
        (vec![format::clean(&route.name)], figures)
    })
}

fn active(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    let table = Table {
        title: "Active, longest first",
        texts: &["name", "doing now"],
        figures: &[("elapsed", 7), ("pid", 7)],
        narrow_without: &[],
        text: 20,
    };
    table.write(snapshot.active.len(), out, width, |index| {
        let active = &snapshot.active[index];
        let doing = match &active.doing {
            Doing::Statement { text, elapsed_ns } => {
                format!("SQL {}: {}", format::duration(*elapsed_ns), format::clean(text))
            }
            Doing::Function(frame) => format::frame(frame),
            Doing::Unknown => format::UNKNOWN.to_owned(),
        };
        let figures = vec![format::duration(active.elapsed_ns), active.pid.to_string()];
        (vec![format::clean(&active.name), doing], figures)
    })
}

fn functions(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    let table = Table {
        title: "Functions by CPU samples",
        texts: &["function", "file"],
        figures: &[("self %", 6), ("total %", 7), ("samples", 7)],
        narrow_without: &["samples"],
        text: 20,
    };
    table.write(snapshot.functions.len(), out, width, |index| {
        let function = &snapshot.functions[index];
        let figures = vec![
            format::percent(function.self_share),
            format::percent(function.total_share),
            format::count(function.samples),
        ];
        let file = format::clean(format::short_file(&function.file));
        (vec![format::clean(&function.function), file], figures)
    })
}

fn statements(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    let table = Table {
        title: "Statements by total time",
        texts: &["statement", "called from"],
        figures: &[("count", 6), ("err", 5), ("mean", 7), ("max", 7), ("total", 7)],
        narrow_without: &["max", "err"],
        text: 26,
    };
    table.write(snapshot.statements.len(), out, width, |index| {
        let statement = &snapshot.statements[index];
        let figures = vec![
            format::count(statement.count),
            format::count(statement.errors),
            format::duration(statement.mean_ns),
            format::duration(statement.max_ns),
            format::duration(statement.total_ns),
        ];
        let call_site = format::known(statement.call_site.as_ref(), format::call_site);
        (vec![format::clean(&statement.text), call_site], figures)
    })
}

/// Nothing at all where nothing was raised.
fn errors(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    if snapshot.errors.is_empty() {
        return Ok(());
    }
    let table = Table {
        title: "Exceptions, latest first",
        texts: &["exception", "raised below"],
        figures: &[("count", 6), ("unhandled", 9), ("ago", 7)],
        narrow_without: &["ago"],
        text: 26,
    };
    table.write(snapshot.errors.len(), out, width, |index| {
        let group = &snapshot.errors[index];
        let figures = vec![
            format::count(group.count),
            format::count(group.unhandled),
            format::whole_seconds(snapshot.taken_ns.saturating_sub(group.last_seen_ns)),
        ];
        let message = group.latest.message.as_deref().unwrap_or("-");
        let exception = match message {
            "" => group.kind.clone(),
            message => format!("{}: {message}", group.kind),
        };
        (vec![format::clean(&exception), format::known(group.frame.as_ref(), format::call_site)], figures)
    })
}

/// Nothing at all where there is nothing to warn of.
fn warnings(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    if snapshot.warnings.is_empty() {
        return Ok(());
    }
    let table = Table {
        title: "Warnings, most time first",
        texts: &["what", "route", "called from"],
        figures: &[("requests", 8), ("calls", 6), ("most", 5), ("total", 7)],
        narrow_without: &["calls", "requests"],
        text: 20,
    };
    table.write(snapshot.warnings.len(), out, width, |index| {
        let warning = &snapshot.warnings[index];
        let what = match warning.kind {
            WarningKind::RepeatedCalls => "repeated",
            WarningKind::SlowCall => "slow",
            WarningKind::ConnectionOpened => "connection for",
            WarningKind::HeldConnection => "connection held before",
        };
        let figures = vec![
            format::count(warning.transactions),
            format::count(warning.calls),
            format::count(warning.most_calls),
            format::duration(warning.total_ns),
        ];
        let call_site = format::known(warning.call_site.as_ref(), format::call_site);
        let text = format!("{what}: {}", format::clean(&warning.text));
        (vec![text, format::clean(&warning.route), call_site], figures)
    })
}

fn workers(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    // The master is in the list, but does not count: it serves nothing.
    let count = snapshot.serving();
    let table = Table {
        title: "Workers",
        texts: &["role"],
        figures: &[("pid", 7), ("count", 7), ("active", 6), ("CPU", 5), ("memory", 7), ("threads", 7)],
        narrow_without: &[],
        text: 6,
    };
    table.write_counted(count, snapshot.workers.len(), out, width.min(MIN_WIDTH), |index| {
        let worker = &snapshot.workers[index];
        let figures = vec![
            worker.pid.to_string(),
            format::count(worker.transactions),
            format::count(worker.active),
            format::known(worker.cpu_cores, format::cores),
            format::known(worker.rss_bytes, format::bytes),
            format::known(worker.threads, format::count),
        ];
        (vec![if snapshot.is_master(worker) { "master" } else { "worker" }.to_owned()], figures)
    })
}

fn loops(snapshot: &Snapshot, out: &mut impl Write, width: usize) -> io::Result<()> {
    if snapshot.loops.is_empty() {
        return Ok(());
    }
    let table = Table {
        title: "Event loops",
        texts: &["longest blocked by"],
        figures: &[("pid", 7), ("busy", 5), ("blocked", 7), ("longest", 7)],
        narrow_without: &[],
        text: 20,
    };
    table.write(snapshot.loops.len(), out, width, |index| {
        let one = &snapshot.loops[index];
        let percent = |share: f64| format!("{:.0}%", share * 100.0);
        let figures = vec![
            one.pid.to_string(),
            format::known(one.busy_share, percent),
            format::count(one.blocked),
            if one.blocked == 0 { "-".to_owned() } else { format::duration(one.longest_ns) },
        ];
        let place = one.stack.first().map_or_else(|| "-".to_owned(), format::place);
        (vec![place], figures)
    })
}

fn losses(losses: &Losses, out: &mut impl Write) -> io::Result<()> {
    let lost: u64 = losses.dropped.values().fold(0, |sum, count| sum.saturating_add(*count));
    writeln!(
        out,
        "\nLosses: {} of {} events seen, {} delivered",
        format::grouped(lost),
        format::grouped(losses.seen),
        format::grouped(losses.delivered)
    )?;
    reasons("dropped", &losses.dropped, out)?;
    reasons("incomplete", &losses.incomplete, out)
}

fn reasons(what: &str, counts: &BTreeMap<String, u64>, out: &mut impl Write) -> io::Result<()> {
    for (reason, count) in counts.iter().filter(|(_, count)| **count > 0) {
        let name = format::left(&format!("{what} {}", format::clean(reason)), 36);
        writeln!(out, "  {name} {}", format::right(&format::grouped(*count), 13))?;
    }
    Ok(())
}

/// One section: a heading, figures at fixed widths, and texts that share what is left.
struct Table {
    title: &'static str,
    texts: &'static [&'static str],
    figures: &'static [(&'static str, usize)],
    /// Figures that give way when the texts would otherwise get too little, in this order.
    narrow_without: &'static [&'static str],
    /// Columns that each text should have before figures give way.
    text: usize,
}

impl Table {
    fn write(
        &self,
        rows: usize,
        out: &mut impl Write,
        width: usize,
        row: impl Fn(usize) -> (Vec<String>, Vec<String>),
    ) -> io::Result<()> {
        self.write_counted(rows, rows, out, width, row)
    }

    /// As [`Table::write`], where the heading's count is not the number of rows.
    fn write_counted(
        &self,
        count: usize,
        rows: usize,
        out: &mut impl Write,
        width: usize,
        row: impl Fn(usize) -> (Vec<String>, Vec<String>),
    ) -> io::Result<()> {
        writeln!(out, "\n{} ({count})", self.title)?;
        if rows == 0 {
            return writeln!(out, "  none");
        }
        let shown = self.figures_for(width);
        let taken: usize = shown.iter().map(|&index| self.figures[index].1 + 1).sum();
        let texts = self.text_widths(width.saturating_sub(taken + 2));
        let heading = self.texts.iter().map(|&text| text.to_owned()).collect();
        let names = self.figures.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.line(out, &texts, &shown, &(heading, names))?;
        for index in 0..rows.min(ROWS) {
            self.line(out, &texts, &shown, &row(index))?;
        }
        if rows > ROWS {
            writeln!(out, "  and {} more", rows - ROWS)?;
        }
        Ok(())
    }

    /// The first text, the figures, then the other texts: figures stay aligned under one another.
    fn line(
        &self,
        out: &mut impl Write,
        widths: &[usize],
        shown: &[usize],
        (texts, figures): &(Vec<String>, Vec<String>),
    ) -> io::Result<()> {
        let mut line = String::from("  ");
        let mut texts = texts.iter().zip(widths);
        if let Some((text, width)) = texts.next() {
            line.push_str(&format::left(text, *width));
        }
        for &index in shown {
            line.push(' ');
            line.push_str(&format::right(&figures[index], self.figures[index].1));
        }
        for (text, width) in texts {
            line.push_str("  ");
            line.push_str(&format::left(text, *width));
        }
        writeln!(out, "{}", line.trim_end())
    }

    fn figures_for(&self, width: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.figures.len()).collect();
        for name in self.narrow_without {
            let taken: usize = shown.iter().map(|&index| self.figures[index].1 + 1).sum();
            if taken + 2 + self.texts.len() * self.text + 2 * (self.texts.len() - 1) <= width {
                break;
            }
            shown.retain(|&index| self.figures[index].0 != *name);
        }
        shown
    }

    /// `room` shared out evenly, the gaps between texts taken off.
    fn text_widths(&self, room: usize) -> Vec<usize> {
        let count = self.texts.len().max(1);
        let room = room.saturating_sub(2 * (count - 1));
        (0..count).map(|index| room * (index + 1) / count - room * index / count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Snapshot {
        serde_json::from_str(include_str!("../../../tui/fixtures/shop.json")).unwrap()
    }

    fn text(snapshot: &Snapshot, width: usize) -> String {
        let mut out = Vec::new();
        report(snapshot, &mut out, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn report_of_a_shop() {
        let mut shop = shop();
        shop.losses.dropped.insert("ring_full".to_owned(), 12);
        shop.losses.delivered -= 12;
        insta::assert_snapshot!("shop_80", text(&shop, 80));
        insta::assert_snapshot!("shop_132", text(&shop, 132));
    }

    #[test]
    fn report_of_nothing_says_unknown_not_zero() {
        let text = text(&Snapshot { application: "shop".to_owned(), ..Snapshot::default() }, 80);
        insta::assert_snapshot!("nothing", text);
        assert!(text.contains("p50 -, p95 -, p99 -"));
    }

    #[test]
    fn no_line_is_wider_than_asked_and_none_ends_in_blanks() {
        for width in [0, 60, 79, 80, 100, 132, 250] {
            for line in text(&shop(), width).lines() {
                assert!(format::width(line) <= width.max(MIN_WIDTH), "{width}: {line}");
                assert_eq!(line, line.trim_end());
            }
        }
    }

    #[test]
    fn long_lists_are_cut_and_the_rest_is_counted() {
        let mut shop = shop();
        shop.routes = vec![shop.routes[0].clone(); 1_000];
        let text = text(&shop, 80);
        assert!(text.contains("Transactions by route (1000)") && text.contains("  and 980 more"));
        assert_eq!(text.matches("POST /checkout").count(), ROWS + 1, "twenty routes and one active");
    }

    #[test]
    fn hostile_names_print_nothing_but_text() {
        let mut shop = shop();
        shop.routes[0].name = "GET /\x1b[2J\r\n\u{202e}gnp".to_owned();
        shop.application = "订单服务".repeat(100);
        let text = text(&shop, 80);
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'));
        assert!(text.lines().all(|line| format::width(line) <= 80));
    }

    #[test]
    fn a_closed_pipe_is_reported_as_such() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = report(&shop(), &mut Closed, 80).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
