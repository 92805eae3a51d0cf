//! A receiver of OTLP that shares no code with pyapm: `tests/workloads/otlp_receiver.py`. It can be told to refuse, to be slow, and
//! to be away.

use crate::certificate::Certificate;
use crate::guard::Guard;
use crate::place::{self, Python};
use crate::wait;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A receiver, running or away.
#[derive(Debug)]
pub struct Receiver {
    process: Option<Guard>,
    pub grpc: u16,
    pub http: u16,
    /// Its certificate, and the one that its clients' must come from.
    tls: Option<(Certificate, PathBuf)>,
    folder: TempDir,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// `traces`, `metrics`, `logs`, `profiles`
    pub signal: String,
    /// `grpc`, `http`
    pub transport: String,
    pub headers: BTreeMap<String, String>,
    /// As protobuf's mapping to JSON has it: ids in base64, 64-bit numbers as text.
    pub message: Value,
}

impl Receiver {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// One that speaks TLS alone, with this certificate, to clients whose own comes from this CA.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with_tls(own: &Certificate, clients: &Path) -> Result<Self> {
        Self::start_with(Some((own.clone(), clients.to_path_buf())))
    }

    fn start_with(tls: Option<(Certificate, PathBuf)>) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-receiver-").tempdir().context("no temporary folder")?;
        let mut receiver = Self { process: None, grpc: 0, http: 0, tls, folder };
        receiver.come_back()?;
        Ok(receiver)
    }

    /// Ends it; what it has received stays.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same ports.
    ///
    /// # Errors
    /// When it does not start.
    pub fn come_back(&mut self) -> Result<()> {
        let mut command = Command::new(python()?);
        command
            .arg(place::workloads().join("otlp_receiver.py"))
            .arg(self.folder.path())
            .args([self.grpc.to_string(), self.http.to_string()]);
        if let Some((own, clients)) = &self.tls {
            command.args([&own.certificate, &own.key, clients]);
        }
        let mut process = Guard::start(&mut command, &self.folder.path().join("log"), None)?;
        let ports = wait::until("the receiver to listen", || {
            process.check_alive()?;
            let log = process.log();
            let words: Vec<&str> = log.split_whitespace().collect();
            let ["ready", grpc, http, ..] = words[..] else { return Ok(None) };
            Ok(grpc.parse().ok().zip(http.parse().ok()))
        })?;
        (self.grpc, self.http) = ports;
        self.process = Some(process);
        Ok(())
    }

    /// How requests are treated from now on: `ok`, `unavailable`, `exhausted`, `slow`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn behave(&self, mode: &str) -> Result<()> {
        let (new, place) = (self.folder.path().join("mode.new"), self.folder.path().join("mode"));
        std::fs::write(&new, mode).and_then(|()| std::fs::rename(new, place)).context("cannot write the mode")
    }

    /// Everything so far, in order.
    ///
    /// # Errors
    /// When a line is not what it should be.
    pub fn received(&self) -> Result<Vec<Received>> {
        self.lines("received")
            .map(|line| {
                let mut value: Value = serde_json::from_str(&line).context("no JSON")?;
                Ok(Received {
                    signal: serde_json::from_value(value["signal"].take())?,
                    transport: serde_json::from_value(value["transport"].take())?,
                    headers: serde_json::from_value(value["headers"].take())?,
                    message: value["message"].take(),
                })
            })
            .collect()
    }

    /// How many requests it has refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.lines("refused").count()
    }

    /// Whole lines alone.
    fn lines(&self, name: &str) -> impl Iterator<Item = String> + use<> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let end = text.rfind('\n').map_or(0, |last| last + 1);
        text[..end].lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }
}

/// `PYAPM_TEST_RECEIVER`, an interpreter that has the classes, else that of the set-up.
fn python() -> Result<PathBuf> {
    match std::env::var_os("PYAPM_TEST_RECEIVER") {
        Some(file) => Ok(file.into()),
        None => Ok(Python::named("venv-receiver")?.program("python")),
    }
}

/// All spans of all requests, each with its resource's attributes.
#[must_use]
pub fn spans(received: &[Received]) -> Vec<(BTreeMap<String, Value>, Value)> {
    items(received, "traces", ["resourceSpans", "scopeSpans", "spans"])
}

/// All log records, each with its resource's attributes.
#[must_use]
pub fn records(received: &[Received]) -> Vec<(BTreeMap<String, Value>, Value)> {
    items(received, "logs", ["resourceLogs", "scopeLogs", "logRecords"])
}

/// All metrics of the last request of them, each with its resource's attributes.
#[must_use]
pub fn last_metrics(received: &[Received]) -> Vec<(BTreeMap<String, Value>, Value)> {
    let last = received.iter().rev().find(|one| one.signal == "metrics").cloned();
    items(last.as_slice(), "metrics", ["resourceMetrics", "scopeMetrics", "metrics"])
}

fn items(received: &[Received], signal: &str, path: [&str; 3]) -> Vec<(BTreeMap<String, Value>, Value)> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for one in received.iter().filter(|one| one.signal == signal) {
        for resource in list(&one.message, path[0]) {
            let about = attributes(&resource["resource"]);
            for scope in list(&resource, path[1]) {
                all.extend(list(&scope, path[2]).into_iter().map(|item| (about.clone(), item)));
            }
        }
    }
    all
}

/// Attributes by name: text, or a number as its text.
#[must_use]
pub fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let list = of["attributes"].as_array().cloned().unwrap_or_default();
    list.into_iter()
        .filter_map(|pair| {
            let value = pair["value"].as_object()?.values().next()?.clone();
            Some((pair["key"].as_str()?.to_owned(), value))
        })
        .collect()
}
