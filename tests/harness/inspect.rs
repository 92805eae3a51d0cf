//! A process as `/proc` shows it, for comparing it before, during and after. It reads and never writes.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// What must not change in a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Lines of `maps`: address, permissions, offset, device, inode and path.
    pub maps: Vec<String>,
    /// What each descriptor is.
    pub descriptors: BTreeMap<String, String>,
    pub environment: Vec<u8>,
    pub command_line: Vec<u8>,
    pub threads: usize,
    /// Pid of the tracer, which a debugger would be.
    pub tracer: u32,
}

impl Inspection {
    /// Looks at a process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            std::fs::read(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("could not read /proc/{pid}/{file}"))
        };
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap_or("0");
        Ok(Self {
            maps: String::from_utf8_lossy(&read("maps")?).lines().map(str::to_owned).collect(),
            descriptors: descriptors(pid)?,
            environment: read("environ")?,
            command_line: read("cmdline")?,
            threads: std::fs::read_dir(format!("/proc/{pid}/task"))
                .context("could not list threads")?
                .count(),
            tracer: tracer.trim().parse().context("no TracerPid")?,
        })
    }

    /// What is different in `later`, one sentence each.
    #[must_use]
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut lists = |what: &str, before: &[String], after: &[String]| {
            let gone =
                before.iter().filter(|line| !after.contains(line)).map(|line| format!("{what} gone: {line}"));
            let new =
                after.iter().filter(|line| !before.contains(line)).map(|line| format!("{what} new: {line}"));
            found.extend(gone.chain(new));
        };
        lists("mapping", &self.maps, &later.maps);
        let lines = |inspection: &Self| -> Vec<String> {
            inspection.descriptors.iter().map(|(number, target)| format!("{number} {target}")).collect()
        };
        lists("descriptor", &lines(self), &lines(later));
        for (what, same) in [
            ("environment", self.environment == later.environment),
            ("command line", self.command_line == later.command_line),
            ("number of threads", self.threads == later.threads),
            ("tracer", self.tracer == later.tracer),
        ] {
            if !same {
                found.push(format!("{what} differs"));
            }
        }
        found
    }

    /// The same without anonymous memory, which an interpreter at work takes and gives back as it likes.
    #[must_use]
    pub fn without_anonymous(mut self) -> Self {
        self.maps.retain(|line| line.contains('/') || line.contains("[uprobes]"));
        self
    }
}

/// What each descriptor of a process is.
///
/// # Errors
/// When the process is gone.
pub fn descriptors(pid: u32) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("no process {pid}"))? {
        let entry = entry.context("could not list descriptors")?;
        // One that has been closed since it was listed is none.
        if let Ok(target) = std::fs::read_link(entry.path()) {
            found.insert(entry.file_name().to_string_lossy().into_owned(), target.display().to_string());
        }
    }
    Ok(found)
}

/// A process's children, oldest first.
///
/// # Errors
/// When the process is gone.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .with_context(|| format!("no process {pid}"))?;
    Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// The code of a mapped library, as its file has it and as the process's memory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub file: Vec<u8>,
    pub memory: Vec<u8>,
}

impl Text {
    /// The first executable mapping whose path holds `name`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn of(pid: u32, name: &str) -> Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))
            .with_context(|| format!("no process {pid}"))?;
        let line = maps
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some("r-xp") && line.contains(name))
            .with_context(|| format!("process {pid} maps no code of `{name}`"))?;
        let mut words = line.split_whitespace();
        let range = words.next().unwrap_or_default();
        let offset = hex(words.nth(1).unwrap_or_default())?;
        let path = words.nth(2).context("a mapping without a path")?;
        let Some((start, end)) = range.split_once('-') else { bail!("`{range}` is no range") };
        let (start, end) = (hex(start)?, hex(end)?);
        let length = usize::try_from(end.saturating_sub(start)).context("a mapping too long")?;
        Ok(Self {
            file: bytes(&format!("/proc/{pid}/root{path}"), offset, length)?,
            memory: bytes(&format!("/proc/{pid}/mem"), start, length)?,
        })
    }

    /// Offsets at which memory differs from the file: where breakpoints are.
    #[must_use]
    pub fn differences(&self) -> Vec<usize> {
        let pairs = self.file.iter().zip(&self.memory).enumerate();
        pairs.filter(|(_, (file, memory))| file != memory).map(|(offset, _)| offset).collect()
    }
}

/// Fields of `/proc/PID/stat` that the benches need.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time together.
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
}

impl Usage {
    /// Of one process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("no process {pid}"))?;
        // The name is in parentheses and may hold anything; proc_pid_stat(5) counts fields from 1, `state` is 3.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field =
            |number: usize| rest.split_whitespace().nth(number - 3).and_then(|word| word.parse::<u64>().ok());
        let (Some(user), Some(system), Some(pages)) = (field(14), field(15), field(24)) else {
            bail!("/proc/{pid}/stat has too few fields")
        };
        // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
        let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        let page = u64::try_from(page).context("no page size")?;
        Ok(Self { cpu_seconds: (user + system) as f64 / ticks as f64, rss_bytes: pages * page })
    }
}

fn bytes(path: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("could not open `{path}`"))?;
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let read = file
            .read_at(&mut buffer[filled..], offset + filled as u64)
            .with_context(|| format!("could not read `{path}` at {offset:#x}"))?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    // The last page of a mapping may reach past the end of its file, and reads as zeros in memory.
    Ok(buffer)
}

fn hex(text: &str) -> Result<u64> {
    u64::from_str_radix(text, 16).with_context(|| format!("`{text}` is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_as_it_was_a_moment_ago() {
        let pid = std::process::id();
        let look = || Inspection::of(pid).unwrap().environment;
        assert_eq!(look(), look());
        assert_eq!(Inspection::of(pid).unwrap().tracer, 0);
    }

    #[test]
    fn a_new_descriptor_is_a_difference() {
        let before = Inspection::of(std::process::id()).unwrap();
        let mut after = before.clone();
        after.descriptors.insert("999".to_owned(), "/tmp/new".to_owned());
        after.threads += 1;
        assert_eq!(before.differences(&after), ["descriptor new: 999 /tmp/new", "number of threads differs"]);
    }

    #[test]
    fn nobody_has_changed_libc_in_this_process() {
        let text = Text::of(std::process::id(), "libc.so").unwrap();
        assert!(text.file.len() > 4096);
        assert!(text.differences().is_empty());
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::of(std::process::id()).unwrap().rss_bytes > 0);
    }
}
