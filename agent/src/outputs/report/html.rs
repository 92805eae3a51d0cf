//! The report as a page: one file, with everything that it needs in it, for wide screens and for phones.

use super::flame::flame;
use super::page::{FOOT, head};
use super::pieces::escaped;
use super::waterfall::waterfall;
use super::{tables, times};
use pyapm_model::line::Transaction;
use pyapm_model::report::{Application, Comparison, Report, Window};
use pyapm_tui::format::{grouped, known, whole_seconds};
use std::io::{self, Write};

/// Writes the page, with at most `rows` in each table.
///
/// # Errors
/// Those of `out`, a closed pipe among them.
pub fn html(report: &Report, rows: usize, out: &mut impl Write) -> io::Result<()> {
    let names: Vec<&str> = report.applications.iter().map(|one| one.application.as_str()).collect();
    let title = escaped(&format!("pyapm: {}", names.join(", ")));
    write!(out, "{}<h1>{title}</h1>{}", head(&title), window("", &report.window))?;
    if let Some(compared) = &report.compared {
        write!(out, "{}", window("compared with ", compared))?;
    }
    for one in &report.applications {
        write!(out, "{}", application(one, rows))?;
    }
    let version = escaped(&report.pyapm);
    write!(out, "<p class=\"dim\">written by pyapm {version}; times are of this host's zone</p>{FOOT}")
}

fn window(what: &str, window: &Window) -> String {
    let mut html = format!(
        "<p class=\"dim\">{what}{} to {}, {} of it recorded</p>\n",
        escaped(&times::minute(window.since_ns)),
        escaped(&times::local(window.until_ns)),
        whole_seconds(window.recorded_ns)
    );
    if window.lost_lines > 0 {
        let lost = grouped(window.lost_lines);
        html.push_str(&format!(
            "<p class=\"bad\">{lost} lines never came to the history: it was too slow for them</p>\n"
        ));
    }
    html
}

fn application(application: &Application, rows: usize) -> String {
    let mut html = format!(
        "<section><h2>{}</h2><p class=\"dim\">{}, Python {}</p>",
        escaped(&application.application),
        escaped(&known(application.server.as_deref(), str::to_owned)),
        escaped(&known(application.python.as_deref(), str::to_owned))
    );
    html.push_str(&tables::tiles(&application.totals));
    html.push_str(&tables::chart(&application.minutes));
    if let Some(comparison) = &application.comparison {
        html.push_str(&compared(comparison, rows));
        html.push_str(&tables::function_changes(application, rows));
    }
    html.push_str(&tables::routes(application, rows));
    html.push_str(&transactions("Slowest transactions", &application.slowest, rows));
    html.push_str(&tables::errors("Errors", &application.errors, rows));
    html.push_str(&transactions("Latest that failed", &application.failed, rows));
    html.push_str(&tables::statements(application, rows));
    html.push_str(&tables::warnings(application, rows));
    html.push_str(&tables::functions(application, rows));
    html.push_str(&flame(&application.stacks, application.samples).unwrap_or_default());
    html.push_str("</section>\n");
    html
}

fn compared(comparison: &Comparison, rows: usize) -> String {
    [
        tables::changes("Routes that got slower", &comparison.routes.slower, rows),
        tables::changes("SQL that got slower", &comparison.statements.slower, rows),
        tables::errors("New errors", &comparison.new_errors, rows),
        tables::changes("New SQL", &comparison.statements.new, rows),
        tables::changes("New routes", &comparison.routes.new, rows),
        tables::changes("Routes that got faster", &comparison.routes.faster, rows),
        tables::errors("Errors that are gone", &comparison.gone_errors, rows),
    ]
    .concat()
}

fn transactions(title: &str, transactions: &[Transaction], rows: usize) -> String {
    if transactions.is_empty() {
        return String::new();
    }
    let lines: String = transactions.iter().take(rows).map(waterfall).collect();
    format!("<h3>{title}</h3>{lines}")
}
