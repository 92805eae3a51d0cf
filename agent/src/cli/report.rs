//! `pyapm report`: a past window, from the history.

use super::failure::Advice;
use super::options::{ReportFormat, ReportOptions};
use crate::config::{self, Config};
use crate::history::{History, HistoryError, Query};
use crate::outputs::report;
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;

/// Columns of the text.
const COLUMNS: usize = 110;
/// Transactions that are told whole in JSON, if no more are asked for.
const WHOLE: usize = 100;

pub(super) fn run(options: &ReportOptions, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = path(options)?;
    let mut history = History::open(&path).map_err(advised)?;
    let is_json = options.format == ReportFormat::Json;
    let query = Query {
        since_ns: options.since_ns,
        until_ns: options.until_ns,
        application: options.application.clone(),
        compare: options.compare,
        transactions: if is_json { options.rows.max(WHOLE) } else { options.rows },
    };
    let found = history.report(&query).map_err(advised)?;
    let mut text = Vec::new();
    match options.format {
        ReportFormat::Text => report::text(&found, options.rows, COLUMNS, &mut text)?,
        ReportFormat::Html => report::html(&found, options.rows, &mut text)?,
        ReportFormat::Json => {
            serde_json::to_writer(&mut text, &found)?;
            text.push(b'\n');
        }
    }
    match &options.output {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
        }
        None => Ok(out.write_all(&text).and_then(|()| out.flush())?),
    }
}

fn path(options: &ReportOptions) -> anyhow::Result<PathBuf> {
    if let Some(path) = &options.history {
        return Ok(path.clone());
    }
    Ok(match &options.config {
        Some(path) => config::load(path)?.history.file,
        None => Config::default().history.file,
    })
}

/// Times as people read them, and what to try.
fn advised(error: HistoryError) -> anyhow::Error {
    let Some(hint) = error.hint() else {
        return match error {
            HistoryError::Window { since_ns, until_ns } => Advice {
                what: "the history has nothing between these times".to_owned(),
                hint: format!("it reaches from {} to {}", report::local(since_ns), report::local(until_ns)),
            }
            .into(),
            error => error.into(),
        };
    };
    if let HistoryError::Open { .. } = &error {
        return error.into();
    }
    Advice { what: error.to_string(), hint }.into()
}
