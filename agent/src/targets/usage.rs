//! What processes use: CPU, memory, threads. Two readings make a rate; one alone gives none.

use super::process::ProcessKey;
use super::procfs::ProcFs;
use std::collections::HashMap;

/// One reading of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// CPU since the last reading, 1.0 = one core; `None` at the first.
    pub cpu_cores: Option<f64>,
    pub rss_bytes: u64,
    pub threads: u64,
}

/// Remembers the last reading of each process.
#[derive(Debug)]
pub struct UsageMeter {
    procfs: ProcFs,
    ticks_per_second: f64,
    page_bytes: u64,
    last: HashMap<ProcessKey, Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at_ns: u64,
    ticks: u64,
}

impl Default for UsageMeter {
    fn default() -> Self {
        Self::new(ProcFs::new())
    }
}

impl UsageMeter {
    #[must_use]
    pub fn new(procfs: ProcFs) -> Self {
        let setting = |name| nix::unistd::sysconf(name).ok().flatten().unwrap_or(0);
        // Both are fixed on x86-64 Linux (USER_HZ, PAGE_SIZE); a libc that does not tell changes nothing.
        let ticks = u32::try_from(setting(nix::unistd::SysconfVar::CLK_TCK)).unwrap_or(0);
        let page = u64::try_from(setting(nix::unistd::SysconfVar::PAGE_SIZE)).unwrap_or(0);
        Self {
            procfs,
            ticks_per_second: f64::from(if ticks == 0 { 100 } else { ticks }),
            page_bytes: if page == 0 { 4096 } else { page },
            last: HashMap::new(),
        }
    }

    /// Reads each of these processes; the ended are left out, and forgotten. `now_ns` is any clock that
    /// runs steadily.
    pub fn read(&mut self, pids: &[u32], now_ns: u64) -> Vec<(u32, Usage)> {
        let mut last = HashMap::with_capacity(pids.len());
        let mut usages = Vec::with_capacity(pids.len());
        for pid in pids {
            let Ok(stat) = self.procfs.stat(*pid) else { continue };
            if stat.is_zombie() {
                continue;
            }
            let key = ProcessKey { pid: *pid, start_time: stat.start_time };
            let ticks = stat.user_time.saturating_add(stat.system_time);
            let cpu_cores = self.last.get(&key).and_then(|before| {
                let elapsed_ns = now_ns.checked_sub(before.at_ns).filter(|elapsed| *elapsed > 0)?;
                let used = ticks.saturating_sub(before.ticks) as f64 / self.ticks_per_second;
                Some(used / (elapsed_ns as f64 / 1e9))
            });
            last.insert(key, Reading { at_ns: now_ns, ticks });
            usages.push((
                *pid,
                Usage {
                    cpu_cores,
                    rss_bytes: stat.rss_pages.saturating_mul(self.page_bytes),
                    threads: stat.threads,
                },
            ));
        }
        self.last = last;
        usages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &std::path::Path, pid: u32, user: u64, start: u64, state: char) {
        let process = root.join(pid.to_string());
        std::fs::create_dir_all(&process).unwrap();
        let line = format!(
            "{pid} (w) {state} 1 0 0 0 -1 0 0 0 0 0 {user} 50 0 0 20 0 3 0 {start} 1000 25 0 1 1 1 {}",
            "0 ".repeat(24)
        );
        std::fs::write(process.join("stat"), line).unwrap();
    }

    #[test]
    fn two_readings_make_a_rate() {
        let root = tempfile::tempdir().unwrap();
        let mut meter = UsageMeter::new(ProcFs::at(root.path()));
        write(root.path(), 7, 100, 1, 'S');
        let first = meter.read(&[7, 8], 1_000_000_000);
        let expected = Usage { cpu_cores: None, rss_bytes: 25 * meter.page_bytes, threads: 3 };
        assert_eq!(first, [(7, expected)]);
        // 150 ticks of 10 ms in one second.
        write(root.path(), 7, 250, 1, 'S');
        assert_eq!(meter.read(&[7], 2_000_000_000)[0].1.cpu_cores, Some(1.5));
        // The pid is another process now.
        write(root.path(), 7, 300, 99, 'S');
        assert_eq!(meter.read(&[7], 3_000_000_000)[0].1.cpu_cores, None);
        // The clock stood still.
        assert_eq!(meter.read(&[7], 3_000_000_000)[0].1.cpu_cores, None);
        write(root.path(), 7, 300, 99, 'Z');
        assert_eq!(meter.read(&[7], 4_000_000_000), []);
    }

    #[test]
    fn this_process() {
        let pid = std::process::id();
        let usage = UsageMeter::default().read(&[pid], 1)[0].1;
        assert!(usage.rss_bytes > 100_000 && usage.threads >= 1);
    }
}
