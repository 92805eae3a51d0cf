//! `pyapm ps`: the Python applications of this host, and what can be seen in each.

use super::failure::tame;
use super::inspect::{Inspection, Instruments, libraries_of};
use super::options::PsOptions;
use crate::targets::{Application, Discovery, Libraries, LibraryKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// One application as `ps` shows it; the shape of `--json`, names append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    server: Option<&'static str>,
    python: Option<String>,
    master: u32,
    /// The master's first.
    pids: Vec<u32>,
    sees: Sees,
}

/// What an attach would see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Sees {
    stacks: Sight,
    mysql: Sight,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Sight {
    yes: bool,
    /// Why not.
    reason: Option<String>,
}

impl Sight {
    fn yes() -> Self {
        Self { yes: true, reason: None }
    }

    fn no(reason: String) -> Self {
        Self { yes: false, reason: Some(reason) }
    }
}

/// # Errors
/// When processes cannot be listed, or `out` cannot be written.
pub(super) fn run(
    options: PsOptions,
    instruments: &Instruments<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> anyhow::Result<()> {
    let survey = Discovery::new().all()?;
    let mut libraries = Libraries::new();
    let rows: Vec<Row> =
        survey.applications.iter().map(|application| row(application, instruments, &mut libraries)).collect();
    if options.json {
        serde_json::to_writer(&mut *out, &rows)?;
        writeln!(out)?;
    } else {
        write_table(&rows, out)?;
    }
    out.flush()?;
    if rows.is_empty() {
        writeln!(notes, "no Python application was found")?;
    }
    if survey.unreadable > 0 {
        writeln!(
            notes,
            "note: {} processes could not be looked into for want of privilege; root sees more",
            survey.unreadable
        )?;
    }
    Ok(())
}

fn row(application: &Application, instruments: &Instruments<'_>, libraries: &mut Libraries) -> Row {
    let pids = application.pids();
    let inspections: Vec<Inspection> = pids.iter().map(|pid| (instruments.inspect)(*pid)).collect();
    Row {
        name: application.name.clone(),
        server: application.server.map(crate::targets::Server::as_str),
        python: inspections.iter().find_map(|inspection| inspection.version.clone()),
        master: application.master.pid,
        sees: Sees { stacks: stacks(&inspections), mysql: mysql(&pids, libraries) },
        pids,
    }
}

/// Yes where at least one process can be read; a helper that cannot does not blind the application.
fn stacks(inspections: &[Inspection]) -> Sight {
    let mut reason = None;
    for inspection in inspections {
        match &inspection.thread_state {
            Ok(_) => return Sight::yes(),
            Err(why) => {
                reason.get_or_insert_with(|| why.clone());
            }
        }
    }
    Sight::no(reason.unwrap_or_else(|| "the application has ended".to_owned()))
}

fn mysql(pids: &[u32], libraries: &mut Libraries) -> Sight {
    let mut reason = None;
    for pid in pids {
        match libraries_of(libraries, *pid) {
            Ok(found) if found.iter().any(|library| library.kind == LibraryKind::Mysql) => {
                return Sight::yes();
            }
            Ok(_) => {}
            Err(error) => reason = Some(error.to_string()),
        }
    }
    Sight::no(reason.unwrap_or_else(|| "no MySQL client library is mapped".to_owned()))
}

fn write_table(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut lines = vec![["NAME", "SERVER", "PYTHON", "MASTER", "SEES", "WORKERS"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let workers: Vec<String> = row.pids.iter().skip(1).map(ToString::to_string).collect();
        [
            row.name.clone(),
            row.server.unwrap_or("-").to_owned(),
            row.python.clone().unwrap_or_else(|| "?".to_owned()),
            row.master.to_string(),
            sees(&row.sees),
            if workers.is_empty() { "-".to_owned() } else { workers.join(" ") },
        ]
    }));
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    // What is not seen, and why: below the table, where there is room for a sentence.
    let mut blind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.sees.stacks.yes) {
        let reason = row.sees.stacks.reason.as_deref().unwrap_or_default();
        blind.entry(reason).or_default().push(row.master.to_string());
    }
    for (reason, masters) in blind {
        writeln!(out, "no stacks of {}: {}", masters.join(", "), tame(reason))?;
    }
    Ok(())
}

fn sees(sees: &Sees) -> String {
    let seen: Vec<&str> = [("stacks", &sees.stacks), ("mysql", &sees.mysql)]
        .into_iter()
        .filter(|(_, sight)| sight.yes)
        .map(|(name, _)| name)
        .collect();
    if seen.is_empty() { "-".to_owned() } else { seen.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let no = || Sight::no("the version is not supported".to_owned());
        vec![
            Row {
                name: "shop".to_owned(),
                server: Some("gunicorn"),
                python: Some("3.11.7".to_owned()),
                master: 42,
                pids: vec![42, 43, 44],
                sees: Sees { stacks: Sight::yes(), mysql: Sight::yes() },
            },
            Row {
                name: "tool".to_owned(),
                server: None,
                python: None,
                master: 4711,
                pids: vec![4711],
                sees: Sees { stacks: no(), mysql: no() },
            },
        ]
    }

    #[test]
    fn table() {
        let mut out = Vec::new();
        write_table(&rows(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
NAME  SERVER    PYTHON  MASTER  SEES          WORKERS
shop  gunicorn  3.11.7  42      stacks,mysql  43 44
tool  -         ?       4711    -             -
no stacks of 4711: the version is not supported
"
        );
    }

    #[test]
    fn json_names() {
        let value = serde_json::to_value(rows()).unwrap();
        assert_eq!(value[0]["pids"], serde_json::json!([42, 43, 44]));
        assert_eq!(value[0]["sees"]["mysql"], serde_json::json!({"yes": true, "reason": null}));
        assert_eq!(value[1]["server"], serde_json::Value::Null);
        assert_eq!(value[1]["python"], serde_json::Value::Null);
    }

    #[test]
    fn one_readable_process_is_enough() {
        let good = Inspection {
            version: None,
            thread_state: Ok("route".to_owned()),
            notes: Vec::new(),
            loops: None,
            agents: Vec::new(),
        };
        let bad = Inspection {
            version: None,
            thread_state: Err("why".to_owned()),
            notes: Vec::new(),
            loops: None,
            agents: Vec::new(),
        };
        assert_eq!(stacks(&[bad.clone(), good]), Sight::yes());
        assert_eq!(stacks(&[bad]), Sight::no("why".to_owned()));
        assert!(!stacks(&[]).yes);
    }

    #[test]
    fn of_this_host() {
        let inspect = |_| Inspection {
            version: None,
            thread_state: Err("not looked at".to_owned()),
            notes: Vec::new(),
            loops: None,
            agents: Vec::new(),
        };
        let instruments = Instruments { inspect: &inspect, load_programs: None };
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        run(PsOptions { json: true }, &instruments, &mut out, &mut notes).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap().is_array());
        run(PsOptions { json: false }, &instruments, &mut out, &mut notes).unwrap();
    }
}
