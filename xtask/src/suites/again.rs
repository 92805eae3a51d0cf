//! The tests that attach, and those of them that failed once more. They start real servers and load them on whatever
//! machine there is, in three quarters of an hour; a test that failed among all others and holds alone is unsteady, which
//! is told with its name at the end and not hidden: its failures stand in the output. One that fails three times fails the suite.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// With more failures than these the cause is not a test's own.
const MOST: usize = 6;
/// How often what failed is run by itself until it holds.
const CHANCES: usize = 2;

/// Runs the tests of `command` (which prints libtest's lines, passed on to `out`), and by `alone` those that failed. Gives out the
/// names of those that failed and held later.
///
/// # Errors
/// When a test fails each time, too many fail, or nothing says which have failed.
pub fn run(
    mut command: Command,
    alone: impl Fn(&[String]) -> Command,
    out: &mut impl Write,
) -> Result<Vec<String>> {
    let failed = watch(&mut command, out)?;
    if failed.is_empty() {
        return Ok(failed);
    }
    let mut still = failed.clone();
    for _ in 0..CHANCES {
        eprintln!("==> failed, and run again by themselves: {}", still.join(", "));
        still = watch(&mut alone(&still), out)?;
        if still.is_empty() {
            return Ok(failed);
        }
    }
    bail!("failed each time: {}", still.join(", "))
}

/// Passes its output on; the names of the tests that failed.
fn watch(command: &mut Command, out: &mut impl Write) -> Result<Vec<String>> {
    eprintln!("$ {command:?}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let output = child.stdout.take().context("no output")?;
    let mut failed = Vec::new();
    for line in BufReader::new(output).split(b'\n') {
        let mut line = line.context("cannot read what the tests print")?;
        failed.extend(failure(&String::from_utf8_lossy(&line)));
        line.push(b'\n');
        out.write_all(&line).context("cannot pass on what the tests print")?;
    }
    let status = child.wait().context("cannot wait for the tests")?;
    match (status.success(), failed.len()) {
        (true, 0) => Ok(failed),
        (false, 1..=MOST) => Ok(failed),
        (_, failures) => bail!("the tests ended with {status} and {failures} failures"),
    }
}

/// As libtest says it: `test room::name ... FAILED`.
fn failure(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_has_a_second_chance_and_a_name() {
        let once = "echo 'test a::b ... ok'; echo 'test c::d ... FAILED'; exit 101";
        let mut said = Vec::new();
        let alone = |names: &[String]| {
            assert_eq!(names, ["c::d"]);
            sh("echo 'test c::d ... ok'")
        };
        assert_eq!(run(sh(once), alone, &mut said).unwrap(), ["c::d"]);
        assert_eq!(
            String::from_utf8(said).unwrap(),
            "test a::b ... ok\ntest c::d ... FAILED\ntest c::d ... ok\n"
        );
        let twice = run(sh(once), |_| sh(once), &mut Vec::new()).unwrap_err();
        assert_eq!(twice.to_string(), "failed each time: c::d");
    }

    #[test]
    fn what_is_no_tests_failure_has_none() {
        let run = |script: &str| run(sh(script), |_| -> Command { panic!("run again") }, &mut Vec::new());
        assert_eq!(run("echo 'test a ... ok'").unwrap(), Vec::<String>::new());
        assert!(run("exit 101").is_err());
        assert!(run("for i in 1 2 3 4 5 6 7; do echo \"test $i ... FAILED\"; done; exit 101").is_err());
        assert!(run("echo 'test a ... FAILED'").is_err());
    }
}
