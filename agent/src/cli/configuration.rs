//! `pyapm config`: the file as it would be with every default, and what is wrong with one that is there.

use crate::config;
use anyhow::Context;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the service looks when it is told nothing.
pub(super) const DEFAULT_PATH: &str = "/etc/pyapm/pyapm.toml";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConfigRequest {
    /// `None`: to stdout.
    Init(Option<PathBuf>),
    Check(PathBuf),
}

pub(super) fn run(request: &ConfigRequest, out: &mut impl Write) -> anyhow::Result<()> {
    match request {
        ConfigRequest::Init(None) => out.write_all(config::init().as_bytes())?,
        ConfigRequest::Init(Some(path)) => {
            // What somebody has written is not overwritten.
            let mut file = std::fs::File::create_new(path)
                .with_context(|| format!("cannot create `{}`", path.display()))?;
            file.write_all(config::init().as_bytes())
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        ConfigRequest::Check(path) => {
            config::load(path)?;
            writeln!(out, "{}: everything in it is valid", path.display())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The file to start with: what was named, else the usual one where it is there.
pub(super) fn to_start_with(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(|path| Path::exists(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_valid_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pyapm.toml");
        let init = ConfigRequest::Init(Some(path.clone()));
        run(&init, &mut Vec::new()).unwrap();
        assert!(run(&init, &mut Vec::new()).is_err());
        let mut said = Vec::new();
        run(&ConfigRequest::Check(path.clone()), &mut said).unwrap();
        assert!(String::from_utf8(said).unwrap().contains("valid"));
        std::fs::write(&path, "[service]\nsockt = 'x'\n").unwrap();
        let error = run(&ConfigRequest::Check(path.clone()), &mut Vec::new()).unwrap_err().to_string();
        let told = format!("{}:2:1: unknown key `sockt`; did you mean `socket`?", path.display());
        assert_eq!(error, told);
        assert!(run(&ConfigRequest::Check(folder.path().join("none")), &mut Vec::new()).is_err());
        assert_eq!(to_start_with(Some("x".into())), Some("x".into()));
    }
}
