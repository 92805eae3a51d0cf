//! A certificate for `localhost`, signed by itself, made anew for each test by the program `openssl`.

use crate::place;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the two files are.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Also what a client has to trust.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// Makes `cert.pem` and `key.pem` in the folder.
    ///
    /// # Errors
    /// When `openssl` is not installed or fails.
    pub fn make(folder: &Path) -> Result<Self> {
        let made = Self { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        let output = Command::new(place::system_program("openssl")?)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .arg("-keyout")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate)
            .stdin(Stdio::null())
            .output()
            .context("could not start `openssl`")?;
        if !output.status.success() {
            bail!("`openssl req` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(made)
    }
}
