//! How a failure is told: `error:` with the chain of its reasons, `hint:` with what to try, and which exit
//! code it gives.

use crate::config::ConfigError;
use crate::exports::socket::ConnectionError;
use crate::host::Obstacles;
use crate::targets::TargetError;
use std::io::{self, Write};

/// Whether the reader of our output has gone away: an end like any other (`pyapm ps | head -1`).
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|cause| cause.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}

/// One line for what failed and why, one for each hint. Control characters, which a process may have put into
/// its own name, are not passed on to the terminal.
pub(super) fn write_failure(error: &anyhow::Error, out: &mut dyn Write) -> io::Result<()> {
    for cause in error.chain() {
        if let Some(ConfigError::Wrong { path, problems }) = cause.downcast_ref() {
            for problem in problems {
                writeln!(out, "error: {}", tame(&format!("{}:{problem}", path.display())))?;
            }
            return Ok(());
        }
    }
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors repeat their source in their own text.
        if !parts.last().is_some_and(|last| last.ends_with(&cause)) {
            parts.push(cause);
        }
    }
    writeln!(out, "error: {}", tame(&parts.join(": ")))?;
    for hint in hints(error) {
        writeln!(out, "hint: {}", tame(&hint))?;
    }
    Ok(())
}

pub(super) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn hints(error: &anyhow::Error) -> Vec<String> {
    let mut hints = Vec::new();
    for cause in error.chain() {
        if let Some(hint) = cause.downcast_ref::<TargetError>().and_then(TargetError::hint) {
            hints.push(hint);
        }
        if let Some(Obstacles(obstacles)) = cause.downcast_ref() {
            hints.extend(obstacles.iter().map(|obstacle| obstacle.remedy.to_owned()));
        }
        if let Some(ConnectionError::Connect { .. }) = cause.downcast_ref() {
            hints.push(
                "start it with `systemctl start pyapm`, or look at one application with `pyapm attach`"
                    .to_owned(),
            );
        }
        if let Some(Advice { hint, .. }) = cause.downcast_ref() {
            hints.push(hint.clone());
        }
    }
    hints.dedup();
    hints
}

/// An error that carries its own hint, for what has no type of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Advice {
    pub what: String,
    /// What to try, as one sentence.
    pub hint: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Obstacle;

    fn told(error: &anyhow::Error) -> String {
        let mut out = Vec::new();
        write_failure(error, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn chain_and_hint() {
        let denied = TargetError::Denied { pid: 7, source: io::ErrorKind::PermissionDenied.into() };
        assert_eq!(
            told(&anyhow::Error::new(denied).context("cannot attach to process 7")),
            "error: cannot attach to process 7: not permitted to read process 7: permission denied\n\
             hint: run it as root, for example with `sudo`; a process that holds more capabilities than pyapm is \
             closed even to root\n"
        );
        let advice = Advice { what: "it is late".to_owned(), hint: "sleep".to_owned() };
        assert_eq!(told(&advice.into()), "error: it is late\nhint: sleep\n");
        assert_eq!(told(&anyhow::anyhow!("a\u{1b}[2Jb\nc")), "error: a [2Jb c\n");
    }

    #[test]
    fn every_obstacle_has_its_hint() {
        let obstacle = |what: &str, remedy| Obstacle { what: what.to_owned(), why: "reasons", remedy };
        let error = Obstacles(vec![obstacle("no root", "sudo"), obstacle("no BTF", "upgrade")]);
        assert_eq!(
            told(&error.into()),
            "error: cannot attach: no root: reasons; no BTF: reasons\nhint: sudo\nhint: upgrade\n"
        );
    }

    #[test]
    fn each_problem_of_a_configuration_has_its_line() {
        let problems = crate::config::parse("[service]\nx = 1\ny = 2\n").unwrap_err();
        let error = ConfigError::Wrong { path: "/a.toml".into(), problems };
        let told = told(&anyhow::Error::new(error));
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("error: /a.toml:2:1: unknown key `x`"), "{told}");
        assert!(lines.len() == 2 && lines[1].starts_with("error: /a.toml:3:1: unknown key `y`"), "{told}");
    }

    #[test]
    fn broken_pipes() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::new(pipe).context("cannot write")));
        let pipe = serde_json::Error::io(io::ErrorKind::BrokenPipe.into());
        assert!(is_broken_pipe(&pipe.into()));
        assert!(!is_broken_pipe(&anyhow::anyhow!("x")));
    }
}
