//! `pyapm doctor`: what works on this host and, given a pid, in each process of its application.

use super::checks::{self, Check, Status};
use super::failure::tame;
use super::inspect::{Instruments, libraries_of, tls_users_of};
use super::options::DoctorOptions;
use super::tls;
use crate::host::Facts;
use crate::targets::{Application, Discovery, Libraries, Server};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The shape of `--json`, names append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Report {
    /// Whether an attach would work.
    ready: bool,
    host: Vec<Check>,
    application: Option<ApplicationReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ApplicationReport {
    name: String,
    server: Option<&'static str>,
    master: u32,
    processes: Vec<Group>,
}

/// Processes of which the same is true: forked workers mostly are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Group {
    pids: Vec<u32>,
    checks: Vec<Check>,
}

/// Whether an attach would work.
///
/// # Errors
/// When the pid is no target, or `out` cannot be written.
pub(super) fn run(
    options: DoctorOptions,
    instruments: &Instruments<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let host = checks::host(&Facts::read(), instruments);
    // The host's part is told even where the process's cannot be.
    let application = options.pid.map(|pid| Discovery::new().application(pid)).transpose();
    let (application, failure) = match application {
        Ok(application) => (application.map(|found| examine(&found, instruments)), None),
        Err(error) => (None, Some(error)),
    };
    let ready = failure.is_none() && is_ready(&host, application.as_ref());
    let report = Report { ready, host, application };
    if options.json {
        if let Some(error) = failure {
            return Err(error.into());
        }
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write_text(&report, out)?;
    }
    out.flush()?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(report.ready),
    }
}

fn is_ready(host: &[Check], application: Option<&ApplicationReport>) -> bool {
    let sound = |checks: &[Check]| checks.iter().all(|check| check.status != Status::Problem);
    // One process that can be read is enough to attach to.
    let readable = application.is_none_or(|found| found.processes.iter().any(|group| sound(&group.checks)));
    sound(host) && readable
}

fn examine(application: &Application, instruments: &Instruments<'_>) -> ApplicationReport {
    let mut libraries = Libraries::new();
    let mut groups: BTreeMap<Vec<Check>, Vec<u32>> = BTreeMap::new();
    for pid in application.pids() {
        let inspection = (instruments.inspect)(pid);
        // One that has ended meanwhile has nothing to tell.
        let Ok(found) = libraries_of(&mut libraries, pid) else { continue };
        let mut checks = checks::process(pid, &inspection, &found);
        checks.extend(tls::checks(&tls_users_of(&libraries, pid)));
        groups.entry(checks).or_default().push(pid);
    }
    let mut processes: Vec<Group> = groups.into_iter().map(|(checks, pids)| Group { pids, checks }).collect();
    let master = application.master.pid;
    processes.sort_by_key(|group| (group.pids.first() != Some(&master), group.pids.first().copied()));
    ApplicationReport {
        name: application.name.clone(),
        server: application.server.map(Server::as_str),
        master,
        processes,
    }
}

fn write_text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "host")?;
    write_checks(&report.host, out)?;
    if let Some(application) = &report.application {
        let server = application.server.map(|server| format!(" ({server})")).unwrap_or_default();
        writeln!(out, "\napplication {}{server}, master {}", application.name, application.master)?;
        for group in &application.processes {
            let pids: Vec<String> = group.pids.iter().map(ToString::to_string).collect();
            let noun = if pids.len() == 1 { "process" } else { "processes" };
            writeln!(out, "{noun} {}", pids.join(" "))?;
            write_checks(&group.checks, out)?;
        }
    }
    let verdict = if report.ready { "an attach will work" } else { "an attach will not work" };
    writeln!(out, "\n{verdict}")
}

fn write_checks(checks: &[Check], out: &mut dyn Write) -> io::Result<()> {
    for check in checks {
        let detail = tame(&check.detail);
        writeln!(out, "  {:<8} {:<20} {detail}", check.status.as_str(), check.subject)?;
        if let Some(hint) = &check.hint {
            writeln!(out, "  {:<8} {:<20} try: {}", "", "", tame(hint))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::inspect::Inspection;

    fn check(subject: &str, status: Status, hint: Option<&str>) -> Check {
        Check {
            subject: subject.to_owned(),
            status,
            detail: "so it is".to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    fn application(processes: Vec<Group>) -> ApplicationReport {
        ApplicationReport { name: "shop".to_owned(), server: Some("gunicorn"), master: 7, processes }
    }

    #[test]
    fn text() {
        let host = vec![check("kernel", Status::Ok, None), check("probes", Status::Problem, Some("upgrade"))];
        let group = Group { pids: vec![7, 8], checks: vec![check("mysql", Status::Note, None)] };
        let application = Some(application(vec![group]));
        let report = Report { ready: is_ready(&host, application.as_ref()), host, application };
        let mut out = Vec::new();
        write_text(&report, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
host
  ok       kernel               so it is
  problem  probes               so it is
                                try: upgrade

application shop (gunicorn), master 7
processes 7 8
  note     mysql                so it is

an attach will not work
"
        );
    }

    #[test]
    fn one_readable_process_makes_it_ready() {
        let good = Group { pids: vec![1], checks: vec![check("thread state", Status::Ok, None)] };
        let bad = Group { pids: vec![2], checks: vec![check("thread state", Status::Problem, None)] };
        assert!(is_ready(&[], None));
        assert!(is_ready(&[], Some(&application(vec![good, bad.clone()]))));
        assert!(!is_ready(&[], Some(&application(vec![bad]))));
        assert!(!is_ready(&[], Some(&application(vec![]))));
        assert!(!is_ready(&[check("btf", Status::Problem, None)], None));
    }

    #[test]
    fn host_is_told_even_when_the_pid_is_none() {
        let inspect = |_| Inspection {
            version: None,
            thread_state: Err("not looked at".to_owned()),
            notes: Vec::new(),
            loops: None,
            agents: Vec::new(),
        };
        let instruments = Instruments { inspect: &inspect, load_programs: None };
        let mut out = Vec::new();
        let options = DoctorOptions { pid: Some(u32::MAX), json: false };
        let error = run(options, &instruments, &mut out).unwrap_err();
        assert!(error.to_string().contains("no process has the pid"));
        assert!(String::from_utf8(out).unwrap().starts_with("host\n  ok       kernel"));
        let mut out = Vec::new();
        run(DoctorOptions { pid: None, json: true }, &instruments, &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["host"][0]["subject"], "kernel");
        assert_eq!(value["application"], serde_json::Value::Null);
    }
}
