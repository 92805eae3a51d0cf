//! Tables of the page, and the picture of its minutes.

use super::pieces::{escaped, kind, ratio, warning};
use super::times;
use pyapm_model::report::{Application, Change, ErrorGroup, Figures, Minute};
use pyapm_tui::format::{call_site, duration, grouped, known, percent, percent_of, place, rate};

/// One table: what its first column is called, then the others, then rows of cells. The first cell of a row is HTML, the
/// others are text.
fn table(title: &str, columns: &[&str], rows: &[Vec<String>], most: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut html = format!("<h3>{title}</h3><table><thead><tr>");
    for column in columns {
        html.push_str(&format!("<th>{column}</th>"));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows.iter().take(most) {
        html.push_str("<tr>");
        for (index, (cell, column)) in row.iter().zip(columns).enumerate() {
            match index {
                0 => html.push_str(&format!("<td>{cell}</td>")),
                _ => html.push_str(&format!("<td data-l=\"{column}\">{}</td>", escaped(cell))),
            }
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>\n");
    if rows.len() > most {
        html.push_str(&format!(
            "<p class=\"dim\">and {} more (--rows)</p>\n",
            grouped((rows.len() - most) as u64)
        ));
    }
    html
}

pub(super) fn tiles(totals: &Figures) -> String {
    let tile = |value: String, what: &str| format!("<div><b>{value}</b><span>{what}</span></div>");
    [
        "<div class=\"tiles\">".to_owned(),
        tile(grouped(totals.count), "transactions"),
        tile(format!("{}/s", rate(totals.per_second)), "throughput"),
        tile(percent_of(totals.errors, totals.count), &format!("errors ({})", grouped(totals.errors))),
        tile(duration(totals.p50_ns), "median"),
        tile(duration(totals.p95_ns), "95th percentile"),
        tile(duration(totals.p99_ns), "99th percentile"),
        "</div>\n".to_owned(),
    ]
    .concat()
}

pub(super) fn routes(application: &Application, most: usize) -> String {
    let row = |route: &pyapm_model::report::Route| {
        let figures = &route.figures;
        let calls = route.db_calls as f64 / figures.count.max(1) as f64;
        vec![
            escaped(&route.name),
            grouped(figures.count),
            rate(figures.per_second),
            grouped(figures.errors),
            percent(route.share),
            duration(figures.p50_ns),
            duration(figures.p95_ns),
            duration(figures.p99_ns),
            format!("{calls:.1}"),
        ]
    };
    let columns = ["route", "count", "/s", "errors", "time %", "p50", "p95", "p99", "SQL each"];
    let rows: Vec<_> = application.routes.iter().map(row).collect();
    table("Routes", &columns, &rows, most)
}

pub(super) fn statements(application: &Application, most: usize) -> String {
    let row = |statement: &pyapm_model::report::Statement| {
        let figures = &statement.figures;
        let system = statement.system.iter().map(|system| escaped(system));
        let site = statement.call_site.iter().map(|frame| escaped(&call_site(frame)));
        let under: Vec<String> = system.chain(site).collect();
        vec![
            format!("<code>{}</code><small>{}</small>", escaped(&statement.text), under.join(", ")),
            grouped(figures.count),
            grouped(figures.errors),
            percent(statement.share),
            duration(figures.p50_ns),
            duration(figures.p95_ns),
            duration(figures.max_ns),
        ]
    };
    let columns = ["statement", "count", "errors", "time %", "p50", "p95", "max"];
    let rows: Vec<_> = application.statements.iter().map(row).collect();
    table("SQL", &columns, &rows, most)
}

pub(super) fn errors(title: &str, groups: &[ErrorGroup], most: usize) -> String {
    let row = |group: &ErrorGroup| {
        let mut name = format!("<b class=\"bad\">{}</b>", escaped(&kind(group)));
        if let Some(message) = &group.latest.message {
            name.push_str(&format!(" {}", escaped(message)));
        }
        if let Some(frame) = &group.frame {
            name.push_str(&format!("<small>{}</small>", escaped(&call_site(frame))));
        }
        name.push_str(&format!("<small>{}</small>", escaped(&group.transactions.join(", "))));
        if !group.latest.stack.is_empty() {
            name.push_str(&format!(
                "<details><summary>the latest</summary>{}</details>",
                traceback(&group.latest)
            ));
        }
        vec![name, grouped(group.count), grouped(group.unhandled), times::minute(group.last_seen_ns)]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    table(title, &["exception", "count", "unhandled", "last seen"], &rows, most)
}

/// As Python writes it: the innermost frame last.
pub(super) fn traceback(error: &pyapm_model::error::Error) -> String {
    let frames = |stack: &[pyapm_model::line::Frame]| {
        let lines = stack.iter().rev().map(|frame| format!("  {}, in {}\n", place(frame), frame.function));
        lines.collect::<String>()
    };
    let line = |kind: &str, message: Option<&str>| match message {
        Some(message) => format!("{kind}: {message}\n"),
        None => format!("{kind}\n"),
    };
    let mut text = String::new();
    for chained in error.chain.iter().rev() {
        text.push_str(&frames(&chained.stack));
        text.push_str(&line(&chained.kind, chained.message.as_deref()));
        text.push_str(match chained.relation {
            pyapm_model::error::Relation::Cause => "\nwhich was the cause of\n\n",
            pyapm_model::error::Relation::Context => "\nand while that was handled\n\n",
        });
    }
    text.push_str(&frames(&error.stack));
    text.push_str(&line(&error.kind, error.message.as_deref()));
    format!("<pre>{}</pre>", escaped(&text))
}

pub(super) fn warnings(application: &Application, most: usize) -> String {
    let row = |one: &pyapm_model::report::Warning| {
        let site = one.call_site.as_ref().map(call_site).unwrap_or_default();
        vec![
            format!(
                "<b>{}</b> in {}<br><code>{}</code><small>{}</small>",
                warning(one.kind),
                escaped(&one.route),
                escaped(&one.text),
                escaped(&site)
            ),
            grouped(one.transactions),
            grouped(one.calls),
            grouped(one.most_calls),
            duration(one.total_ns),
        ]
    };
    let columns = ["what", "requests", "calls", "most in one", "time"];
    let rows: Vec<_> = application.warnings.iter().map(row).collect();
    table("N+1 and other warnings", &columns, &rows, most)
}

pub(super) fn functions(application: &Application, most: usize) -> String {
    let row = |one: &pyapm_model::report::Function| {
        vec![
            format!("<code>{}</code><small>{}</small>", escaped(&one.function), escaped(&one.file)),
            grouped(one.self_samples),
            percent(one.self_share),
            percent(one.total_share),
        ]
    };
    let rows: Vec<_> = application.functions.iter().map(row).collect();
    table("Functions by CPU", &["function", "samples", "self %", "total %"], &rows, most)
}

pub(super) fn changes(title: &str, changes: &[Change], most: usize) -> String {
    let row = |change: &Change| {
        let was = |of: fn(&Figures) -> u64| known(change.before.as_ref().map(of), duration);
        let is = |of: fn(&Figures) -> u64| known(change.now.as_ref().map(of), duration);
        vec![
            format!("<code>{}</code>", escaped(&change.name)),
            known(change.before.map(|figures| figures.count), grouped),
            known(change.now.map(|figures| figures.count), grouped),
            was(|figures| figures.p50_ns),
            is(|figures| figures.p50_ns),
            was(|figures| figures.p95_ns),
            is(|figures| figures.p95_ns),
            ratio(change),
        ]
    };
    let columns = ["", "count was", "count", "p50 was", "p50", "p95 was", "p95", "mean"];
    let rows: Vec<_> = changes.iter().map(row).collect();
    table(title, &columns, &rows, most)
}

pub(super) fn function_changes(application: &Application, most: usize) -> String {
    let Some(comparison) = &application.comparison else { return String::new() };
    let row = |one: &pyapm_model::report::FunctionChange| {
        let name = format!("<code>{}</code><small>{}</small>", escaped(&one.function), escaped(&one.file));
        vec![name, percent(one.before_share), percent(one.now_share)]
    };
    let rows: Vec<_> = comparison.functions.iter().map(row).collect();
    table("Functions whose part of the CPU changed", &["function", "before %", "now %"], &rows, most)
}

/// Transactions of each minute as bars, failed ones in red, the 95th percentile as a line.
pub(super) fn chart(minutes: &[Minute]) -> String {
    const WIDTH: f64 = 1000.0;
    const HEIGHT: f64 = 120.0;
    /// Bars, at most: minutes are put together beyond that.
    const BARS: u64 = 200;
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else { return String::new() };
    const MINUTE_NS: u64 = 60_000_000_000;
    let span = (last.start_ns - first.start_ns) / MINUTE_NS + 1;
    let step = span.div_ceil(BARS).max(1);
    let bars = span.div_ceil(step);
    let mut sums = vec![(0_u64, 0_u64, 0_u64); usize::try_from(bars).unwrap_or(0)];
    for minute in minutes {
        let place = (minute.start_ns - first.start_ns) / MINUTE_NS / step;
        if let Some(sum) = usize::try_from(place).ok().and_then(|place| sums.get_mut(place)) {
            *sum = (sum.0 + minute.count, sum.1 + minute.errors, sum.2.max(minute.p95_ns));
        }
    }
    let most = sums.iter().map(|sum| sum.0).max().unwrap_or(0).max(1) as f64;
    let slowest = sums.iter().map(|sum| sum.2).max().unwrap_or(0).max(1);
    let wide = WIDTH / bars as f64;
    let mut html = format!(
        "<h3>Minute by minute</h3><p class=\"dim\">bars: transactions, at most {} in {}; red: failed; line: 95th \
         percentile, at most {}</p><svg class=\"chart\" viewBox=\"0 0 {WIDTH} 140\" preserveAspectRatio=\"none\">",
        grouped(most as u64),
        if step == 1 { "a minute".to_owned() } else { format!("{step} minutes") },
        duration(slowest)
    );
    let mut line = String::new();
    for (index, (count, errors, p95)) in sums.iter().enumerate() {
        let x = index as f64 * wide;
        let high = *count as f64 / most * HEIGHT;
        let bad = *errors as f64 / most * HEIGHT;
        html.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{high:.1}\" fill=\"#9db9e3\"/>",
            HEIGHT - high,
            (wide * 0.9).min(60.0)
        ));
        if *errors > 0 {
            html.push_str(&format!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{bad:.1}\" fill=\"#d4483b\"/>",
                HEIGHT - bad,
                (wide * 0.9).min(60.0)
            ));
        }
        if *count > 0 {
            let y = HEIGHT - *p95 as f64 / slowest as f64 * (HEIGHT - 4.0);
            line.push_str(&format!("{:.1},{y:.1} ", x + (wide * 0.45).min(30.0)));
        }
    }
    html.push_str(&format!(
        "<polyline points=\"{line}\" fill=\"none\" stroke=\"#c7791a\" stroke-width=\"2\" \
         vector-effect=\"non-scaling-stroke\"/></svg><p class=\"dim\">{} to {}</p>\n",
        times::minute(first.start_ns),
        times::minute(last.start_ns.saturating_add(MINUTE_NS))
    ));
    html
}
