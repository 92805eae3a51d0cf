//! The profilers that are compared: how each is called, and what each writes. It measures nothing.

use crate::setup::python;
use anyhow::{Context as _, Result};
use harness::place;
use std::path::Path;
use std::process::Command;

/// One profiler in one manner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Pyapm,
    /// Stops the program for each sample.
    PySpy,
    PySpyNonblocking,
    /// `profiling.sampling` of Python 3.15, run by the interpreter that the program runs under.
    Tachyon,
}

pub const ALL: [Contender; 4] =
    [Contender::Pyapm, Contender::PySpy, Contender::PySpyNonblocking, Contender::Tachyon];
/// Those whose stacks are whole, or meant to be: what the others cost is beside the point.
pub const WHOLE: [Contender; 3] = [Contender::Pyapm, Contender::PySpy, Contender::Tachyon];

/// A recording that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub pid: u32,
    pub rate_hz: u32,
    pub seconds: u32,
    /// The folder that is the program's `/tmp`.
    pub folder: &'a Path,
}

/// The file that is written, in [`Order::folder`].
pub const FILE: &str = "recording.folded";

impl Contender {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pyapm => "pyapm",
            Self::PySpy => "py-spy",
            Self::PySpyNonblocking => "py-spy --nonblocking",
            Self::Tachyon => "Tachyon (3.15)",
        }
    }

    /// What makes the recording.
    ///
    /// # Errors
    /// When the program is not here.
    pub fn command(self, order: Order<'_>) -> Result<Command> {
        let [pid, rate, seconds] = [order.pid, order.rate_hz, order.seconds].map(|number| number.to_string());
        let file = order.folder.join(FILE);
        let mut command = match self {
            Self::Pyapm => {
                let mut command = Command::new(place::binary()?);
                command.args(["record", "--pid", &pid, "-r", &rate, "-d", &seconds, "-o"]).arg(file);
                command
            }
            Self::PySpy | Self::PySpyNonblocking => {
                let mut command = Command::new(python::py_spy());
                command
                    .args(["record", "-p", &pid, "-r", &rate, "-d", &seconds, "-f", "raw", "-o"])
                    .arg(file);
                command
            }
            Self::Tachyon => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &pid, "--mount", "--root", "--wd", "/usr/bin/python3.15"]);
                command.args([
                    "-m",
                    "profiling.sampling",
                    "attach",
                    "-a",
                    "-r",
                    &rate,
                    "-d",
                    &seconds,
                    "--collapsed",
                ]);
                command.arg("-o").arg(Path::new("/tmp").join(FILE)).arg(&pid);
                command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
                command
            }
        };
        if self == Self::PySpyNonblocking {
            command.arg("--nonblocking");
        }
        Ok(command)
    }

    /// Whether it has begun, where it says so.
    #[must_use]
    pub fn has_begun(self, said: &str) -> bool {
        self != Self::Pyapm || said.contains("recording")
    }

    /// The functions of each stack that was written, outermost first, and how often it was seen.
    ///
    /// # Errors
    /// When a line is no folded stack.
    pub fn stacks(self, text: &str) -> Result<Vec<(Vec<String>, u64)>> {
        text.lines()
            .map(|line| {
                let (stack, count) = line.rsplit_once(' ').with_context(|| format!("no stack: `{line}`"))?;
                let count = count.parse().with_context(|| format!("no number of samples: `{line}`"))?;
                Ok((stack.split(';').filter_map(|frame| self.function(frame)).collect(), count))
            })
            .collect()
    }

    /// `None` for what is no frame.
    fn function(self, frame: &str) -> Option<String> {
        match self {
            Self::Tachyon if frame.starts_with("tid:") => None,
            // `file:function:line`
            Self::Tachyon => Some(frame.rsplit(':').nth(1).unwrap_or(frame).to_owned()),
            // `function (file:line)`
            _ => Some(frame.split(" (").next().unwrap_or(frame).to_owned()),
        }
    }

    /// Samples that were lost, by its own account.
    #[must_use]
    pub fn lost(self, said: &str) -> u64 {
        let after = match self {
            Self::Pyapm => "lost: ",
            Self::PySpy | Self::PySpyNonblocking => "Errors: ",
            Self::Tachyon => "missed ",
        };
        let number = said.split(after).nth(1).and_then(|rest| {
            rest.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|number| number.parse().ok())
        });
        number.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_write() {
        let functions = |contender: Contender, line: &str| contender.stacks(line).unwrap().remove(0);
        let expected = (vec!["<module>".to_owned(), "leaf".to_owned()], 7);
        assert_eq!(functions(Contender::PySpy, "<module> (a.py:1);leaf (a.py:2) 7"), expected);
        assert_eq!(functions(Contender::Pyapm, "<module> (mnt/a.py:1);leaf (mnt/a.py:2) 7"), expected);
        assert_eq!(functions(Contender::Tachyon, "tid:4;a.py:<module>:1;a.py:leaf:2 7"), expected);
        assert!(Contender::PySpy.stacks("nothing").is_err());
    }

    #[test]
    fn what_they_say_of_losses() {
        assert_eq!(Contender::Pyapm.lost("wrote a: 7 samples\nlost: 3 (ring_full 3)"), 3);
        assert_eq!(Contender::PySpy.lost("Samples: 1999 Errors: 12"), 12);
        assert_eq!(Contender::Tachyon.lost("Warning: missed 14 samples from the expected total of 2006"), 14);
        assert_eq!(Contender::Tachyon.lost("Error rate: 0.00"), 0);
    }
}
