//! A Prometheus of one's own, scraping each second, on a free port of loopback; a look at one page as any HTTP client
//! has it; and Prometheus' own check of a page.

use crate::guard::Guard;
use crate::load::{Address, Connection, Request};
use crate::{place, wait};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Guard,
    address: Address,
    #[expect(dead_code, reason = "held for its drop: the folder goes with the server")]
    folder: TempDir,
}

/// How a page is reached.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub port: u16,
    /// Certificates of whoever must have signed the page's; with them it is HTTPS.
    pub ca: Option<&'a Path>,
    pub token: Option<&'a Path>,
}

/// A port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener.local_addr().context("no free port on loopback")?.port())
}

impl Prometheus {
    /// Starts it with these features (`native-histograms` has it scrape protobuf) and waits until it answers.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(target: &Target<'_>, features: &[&str]) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("pyapm-prometheus-").tempdir().context("no temporary folder")?;
        let mut config = "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: pyapm\n".to_owned();
        if let Some(ca) = target.ca {
            config += &format!("  scheme: https\n  tls_config: {{ca_file: '{}'}}\n", ca.display());
        }
        if let Some(token) = target.token {
            config += &format!("  authorization: {{credentials_file: '{}'}}\n", token.display());
        }
        config += &format!("  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n", target.port);
        std::fs::write(folder.path().join("prometheus.yml"), config)?;
        let port = free_port()?;
        let mut command = Command::new(place::system_program("prometheus")?);
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--enable-feature={}", features.join(",")))
            .arg("--log.level=warn");
        let mut process = Guard::start(&mut command, &folder.path().join("log"), None)?;
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        wait::until("Prometheus to be ready", || {
            process.check_alive()?;
            let ready = || Connection::open(&address)?.ask(&Request::get("/-/ready").close());
            Ok(ready().ok().filter(|answer| answer.status == 200).map(|_| ()))
        })?;
        Ok(Self { process, address, folder })
    }

    /// What an expression gives now: each series' labels and value.
    ///
    /// # Errors
    /// When it does not answer, or refuses the expression.
    pub fn query(&self, expression: &str) -> Result<Vec<(BTreeMap<String, String>, f64)>> {
        let answer = self.api(&format!("query?query={}", encoded(expression)))?;
        let result = answer["data"]["result"].as_array().context("no result")?;
        result
            .iter()
            .map(|one| {
                let labels = serde_json::from_value(one["metric"].clone())?;
                let value = one["value"][1].as_str().and_then(|text| text.parse().ok());
                Ok((labels, value.with_context(|| format!("no value in {one}"))?))
            })
            .collect()
    }

    /// What its API answers to this path below `/api/v1/`.
    ///
    /// # Errors
    /// When it does not answer, or not with success.
    pub fn api(&self, path: &str) -> Result<serde_json::Value> {
        let request = Request::get(&format!("/api/v1/{path}")).close();
        let answer = Connection::open(&self.address)?.ask(&request)?;
        let value: serde_json::Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&answer.body)))?;
        if value["status"] != "success" {
            bail!("`{path}`: {value}");
        }
        Ok(value)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// All but letters and digits as `%XX`.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// One page by plain HTTP: status and body.
///
/// # Errors
/// When nobody answers.
pub fn page(port: u16, path: &str, headers: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("nobody listens")?;
    stream.set_read_timeout(Some(wait::PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).context("no text")?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

/// Every sample of a page in the text format, by its name with its labels.
///
/// # Errors
/// When a line is none.
pub fn samples(page: &str) -> Result<BTreeMap<String, f64>> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            Ok((name.to_owned(), value.parse().with_context(|| format!("no number: {line}"))?))
        })
        .collect()
}

/// What `promtool check metrics` has to say of a page; nothing when it is clean.
///
/// # Errors
/// When it is not installed.
pub fn checked(page: &str) -> Result<String> {
    let mut child = Command::new(place::system_program("promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start `promtool`")?;
    child.stdin.take().context("no stdin")?.write_all(page.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if !output.status.success() && said.is_empty() {
        bail!("`promtool check metrics` failed with {}", output.status);
    }
    Ok(said)
}
