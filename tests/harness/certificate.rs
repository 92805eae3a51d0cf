//! Certificates for `localhost`, signed by themselves or by an authority, made anew for each test by the program `openssl`.

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
        request(&made, &["-newkey", "rsa:2048", "-subj", "/CN=localhost", "-addext", NAMES])?;
        Ok(made)
    }

    /// Makes `NAME.pem` and `NAME-key.pem` of an authority: what it signs is believed by who trusts it.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn authority(folder: &Path, name: &str) -> Result<Self> {
        let made = Self::named(folder, name);
        let subject = format!("/CN={name}");
        // Before an extension that `openssl` would add by itself.
        request(&made, &[&EC[..], &["-subj", &subject]].concat())?;
        Ok(made)
    }

    /// Makes `NAME.pem` and `NAME-key.pem`, signed by this authority, for a server at loopback and for a client.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn sign(&self, folder: &Path, name: &str) -> Result<Self> {
        let made = Self::named(folder, name);
        let (by, with) = (self.certificate.display().to_string(), self.key.display().to_string());
        let own =
            ["-subj", "/CN=localhost", "-addext", NAMES, "-addext", "basicConstraints=critical,CA:FALSE"];
        request(&made, &[&EC[..], &own, &["-CA", &by, "-CAkey", &with]].concat())?;
        Ok(made)
    }

    fn named(folder: &Path, name: &str) -> Self {
        Self { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}-key.pem")) }
    }
}

const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";
/// Quick to make.
const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

fn request(made: &Certificate, arguments: &[&str]) -> Result<()> {
    let output = Command::new(place::system_program("openssl")?)
        .args(["req", "-x509", "-nodes", "-days", "30"])
        .args(arguments)
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
    Ok(())
}
