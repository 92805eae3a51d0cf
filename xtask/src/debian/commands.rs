//! Runs one host tool to its end. An error names the command and carries what it wrote on stderr; a tool
//! that is not there is named together with the Debian package that holds it.

use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Lines of stderr quoted in an error: enough for apt's explanation, not for a whole build log.
const QUOTED_LINES: usize = 20;

/// Tools that are not part of every Debian system, and the package of each.
const PACKAGES: &[(&str, &str)] = &[
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("dpkg-deb", "dpkg"),
    ("dpkg-source", "dpkg-dev"),
    ("gzip", "gzip"),
    ("ldd", "libc-bin"),
    ("make", "make"),
    ("mksquashfs", "squashfs-tools"),
    ("modprobe", "kmod"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// The full path of a tool. Looks in the sbin directories too, which an ordinary user's PATH lacks.
///
/// # Errors
/// The tool is in none of them; the message says which package has it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| missing(name))
}

fn missing(name: &str) -> String {
    match PACKAGES.iter().find(|(tool, _)| *tool == name) {
        Some((_, package)) => {
            format!(
                "`{name}` is not installed: it is in Debian's package `{package}` (try `cargo xtask setup`)"
            )
        }
        None => format!("`{name}` is not installed"),
    }
}

/// Runs the command with no stdin and returns its stdout.
///
/// # Errors
/// It cannot be started, or ends with anything but success.
pub fn stdout_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    checked(command, output)
}

/// As [`stdout_of`], for tools that write text.
pub fn text_of(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&stdout_of(command)?).into_owned())
}

/// Runs the command with `input` on its stdin and its stdout in the file `to`.
///
/// # Errors
/// It cannot be started, or ends with anything but success, or `to` cannot be created.
pub fn pipe_to_file(command: &mut Command, input: &[u8], to: &Path) -> Result<()> {
    let file = std::fs::File::create(to).with_context(|| format!("failed to create `{}`", to.display()))?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let stdin = child.stdin.take();
    let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output =
        child.wait_with_output().with_context(|| format!("failed to wait for `{}`", shown(command)))?;
    checked(command, output)?;
    // A tool that succeeds without reading everything is not an error of ours.
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).with_context(|| format!("failed to write to `{}`", shown(command)))
        }
        _ => Ok(()),
    }
}

fn cannot_start(command: &Command) -> String {
    format!("failed to start `{}`", shown(command))
}

/// The command as one would type it, without its environment and directory.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn checked(command: &Command, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let quoted = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n  ");
    bail!("`{}` ended with {}:\n  {quoted}", shown(command), output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        assert!(missing("mksquashfs").contains("`squashfs-tools`"));
        assert_eq!(missing("frobnicate"), "`frobnicate` is not installed");
    }

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let error =
            stdout_of(Command::new("sh").args(["-c", "echo no such suite >&2; exit 100"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("no such suite") && text.contains("100") && text.contains("`sh -c echo"),
            "{text}"
        );
    }

    #[test]
    fn a_command_is_fed_and_its_output_kept() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("out");
        pipe_to_file(&mut Command::new("cat"), b"some bytes", &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"some bytes");
    }
}
