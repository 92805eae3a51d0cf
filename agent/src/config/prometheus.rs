//! `[prometheus]`: the page that Prometheus scrapes.

use super::section::{Checked, Wrong, section};
use std::net::SocketAddr;
use std::path::PathBuf;

section! {
    /// Metrics for Prometheus, at the path `/metrics`.
    pub struct Prometheus {
        /// Address and port. An empty text: none. Not of this machine alone only if you say so.
        listen: String = "127.0.0.1:9464".into(),
        /// A file whose first line a scraper must send as its bearer token.
        token_file: Option<PathBuf> = None => "\"/etc/pyapm/token\"",
        /// Certificate chain in PEM; with it and its key, HTTPS alone is spoken.
        tls_certificate: Option<PathBuf> = None => "\"/etc/pyapm/cert.pem\"",
        /// The key of `tls_certificate`, in PEM.
        tls_key: Option<PathBuf> = None => "\"/etc/pyapm/key.pem\"",
        /// CPU, memory and transactions of each worker by its process id, too.
        worker_label: bool = false,
    }
}

impl Checked for Prometheus {
    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !self.listen.is_empty() && self.listen.parse::<SocketAddr>().is_err() {
            wrong.push(Wrong::key("listen", "not an address and port like `127.0.0.1:9464`"));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            wrong.push(Wrong::key("tls_certificate", "`tls_certificate` and `tls_key` go together"));
        }
        wrong
    }
}
