//! What all processes that ever were part of an application have used up, together: sums that never go backwards,
//! whichever workers come and go. It keeps no rates, and knows no clock: when it began is handed in.
//!
//! A process that ends leaves what it used to the parent that waits for it: the kernel adds it to the parent's account
//! (`wait_task_zombie` in kernel/exit.c), so that nothing is lost between the last reading and the end.

use super::process::ProcessKey;
use super::procfs::{ProcFs, Stat};
use std::collections::{BTreeMap, HashMap};
use std::ops::{AddAssign, Sub};

/// Amounts that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Nanoseconds, in steps of the kernel's tick.
    pub user_ns: u64,
    pub system_ns: u64,
    /// Bytes that storage read.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    pub spent: Spent,
    /// `spent` has the bytes of storage: the kernel counts them.
    pub has_storage: bool,
    /// Of those that live, and could be read; `None` when none could.
    pub rss_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_files: Option<u64>,
}

/// The account of one application.
#[derive(Debug)]
pub struct Consumption {
    procfs: ProcFs,
    tick_ns: u64,
    page_bytes: u64,
    /// Since when it is kept, in clock ticks after boot: what was used before is not counted.
    since_ticks: u64,
    known: HashMap<ProcessKey, Known>,
    total: Spent,
    has_storage: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    parent: u32,
    /// With what it has inherited of children.
    spent: Spent,
}

impl Consumption {
    /// `since_ns` is `CLOCK_BOOTTIME`, as the start times of processes are.
    #[must_use]
    pub fn new(procfs: ProcFs, since_ns: u64) -> Self {
        let setting = |name, default| {
            let value = nix::unistd::sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
            value.filter(|value| *value > 0).unwrap_or(default)
        };
        let tick_ns = 1_000_000_000 / setting(nix::unistd::SysconfVar::CLK_TCK, 100);
        Self {
            procfs,
            tick_ns,
            page_bytes: setting(nix::unistd::SysconfVar::PAGE_SIZE, 4096),
            since_ticks: since_ns / tick_ns.max(1),
            known: HashMap::new(),
            total: Spent::default(),
            has_storage: false,
        }
    }

    /// Reads the application's processes.
    pub fn read(&mut self, pids: &[u32]) -> Consumed {
        // Who is gone must be known before any parent is read: a parent's account then has the whole of it.
        let before = std::mem::take(&mut self.known);
        let mut gone: BTreeMap<u32, Spent> = BTreeMap::new();
        let mut left: BTreeMap<u32, ProcessKey> = BTreeMap::new();
        for (key, known) in &before {
            match self.procfs.stat(key.pid) {
                // A zombie too: nobody has waited for it yet.
                Ok(stat) if stat.start_time == key.start_time => {
                    left.insert(key.pid, *key);
                }
                _ => *gone.entry(known.parent).or_default() += known.spent,
            }
        }
        let mut consumed = Consumed::default();
        let all: std::collections::BTreeSet<u32> = pids.iter().copied().chain(left.keys().copied()).collect();
        let mut stats: Vec<Stat> = all.iter().filter_map(|pid| self.procfs.stat(*pid).ok()).collect();
        // Parents first: a child that ends meanwhile is not in its parent's account yet, and is looked at next time.
        stats.sort_by_key(|stat| (stat.start_time, stat.pid));
        for stat in stats {
            let key = ProcessKey { pid: stat.pid, start_time: stat.start_time };
            let is_member = pids.contains(&stat.pid);
            if !is_member && left.get(&stat.pid) != Some(&key) {
                continue;
            }
            let Some((stat, spent)) = self.spent(&key) else {
                if let Some(known) = before.get(&key) {
                    self.known.insert(key, *known);
                }
                continue;
            };
            let mut since = match before.get(&key) {
                Some(known) => spent - known.spent,
                None if key.start_time < self.since_ticks => Spent::default(),
                None => spent,
            };
            if let Some(inherited) = gone.get(&stat.pid) {
                since = since.without(*inherited);
            }
            self.total += since;
            self.known.insert(key, Known { parent: stat.ppid, spent });
            if is_member && !stat.is_zombie() {
                add(&mut consumed.rss_bytes, Some(stat.rss_pages.saturating_mul(self.page_bytes)));
                add(&mut consumed.threads, Some(stat.threads));
                add(&mut consumed.open_files, self.procfs.open_files(stat.pid).ok());
            }
        }
        // Who ended between the two looks is still to be found in a parent's account.
        for key in left.into_values() {
            if let (false, Some(known)) = (self.known.contains_key(&key), before.get(&key)) {
                self.known.insert(key, *known);
            }
        }
        Consumed { spent: self.total, has_storage: self.has_storage, ..consumed }
    }

    fn spent(&mut self, key: &ProcessKey) -> Option<(Stat, Spent)> {
        let stat = self.procfs.stat(key.pid).ok().filter(|stat| stat.start_time == key.start_time)?;
        let storage = self.procfs.storage_bytes(key.pid).ok();
        self.has_storage |= storage.is_some();
        let (read_bytes, written_bytes) = storage.unwrap_or_default();
        let time = |own: u64, children: u64| own.saturating_add(children).saturating_mul(self.tick_ns);
        let spent = Spent {
            user_ns: time(stat.user_time, stat.children_user_time),
            system_ns: time(stat.system_time, stat.children_system_time),
            read_bytes,
            written_bytes,
        };
        Some((stat, spent))
    }
}

fn add(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

impl Spent {
    fn each(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            user_ns: combine(self.user_ns, other.user_ns),
            system_ns: combine(self.system_ns, other.system_ns),
            read_bytes: combine(self.read_bytes, other.read_bytes),
            written_bytes: combine(self.written_bytes, other.written_bytes),
        }
    }

    /// Takes out what children that were counted already have left to this one. One who ignores its children's end
    /// inherits nothing; its growth is then less than what they had, and is all its own.
    fn without(self, inherited: Self) -> Self {
        self.each(inherited, |grown, inherited| grown.checked_sub(inherited).unwrap_or(grown))
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        self.each(before, u64::saturating_sub)
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, more: Self) {
        *self = self.each(more, u64::saturating_add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TICK_NS: u64 = 10_000_000;

    /// A process with user time of its own and of children, in ticks, and bytes read.
    fn process(root: &Path, pid: u32, parent: u32, state: char, times: (u64, u64), start: u64, read: u64) {
        let folder = root.join(pid.to_string());
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        std::fs::write(folder.join("fd/0"), "").unwrap();
        let (own, children) = times;
        let line = format!(
            "{pid} (w) {state} {parent} 0 0 0 -1 0 0 0 0 0 {own} 0 {children} 0 20 0 3 0 {start} 1000 25 0 1 1 1 {}",
            "0 ".repeat(24)
        );
        std::fs::write(folder.join("stat"), line).unwrap();
        std::fs::write(folder.join("io"), format!("rchar: 9\nread_bytes: {read}\nwrite_bytes: 7\n")).unwrap();
    }

    fn ticks(consumed: Consumed) -> u64 {
        consumed.spent.user_ns / TICK_NS
    }

    fn account(root: &Path) -> Consumption {
        let consumption = Consumption::new(ProcFs::at(root), 50 * TICK_NS);
        assert_eq!(consumption.tick_ns, TICK_NS);
        consumption
    }

    #[test]
    fn workers_come_and_go_and_nothing_is_lost_or_counted_twice() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut account = account(root);
        // The master is older than the account, and so is one worker.
        process(root, 1, 0, 'S', (100, 40), 10, 1000);
        process(root, 2, 1, 'S', (30, 0), 20, 500);
        let first = account.read(&[1, 2]);
        assert_eq!((ticks(first), first.spent.read_bytes, first.has_storage), (0, 0, true));
        assert_eq!((first.threads, first.open_files), (Some(6), Some(2)));
        // Ten more, and a new worker with five.
        process(root, 2, 1, 'S', (40, 0), 20, 600);
        process(root, 3, 1, 'S', (5, 0), 60, 50);
        let second = account.read(&[1, 2, 3]);
        assert_eq!((ticks(second), second.spent.read_bytes), (15, 150));
        // The old one has ended with two more, and is a zombie that the registry has let go.
        process(root, 2, 1, 'Z', (42, 0), 20, 600);
        assert_eq!(ticks(account.read(&[1, 3])), 17);
        assert_eq!(ticks(account.read(&[1, 3])), 17);
        // Waited for, after one more tick that nobody read; a short-lived one in between had seven.
        std::fs::remove_dir_all(root.join("2")).unwrap();
        process(root, 1, 0, 'S', (100, 40 + 43 + 7), 10, 1000 + 600);
        let last = account.read(&[1, 3]);
        assert_eq!((ticks(last), last.spent.read_bytes), (17 + 1 + 7, 150));
        // The pid is another's now, with its own account.
        process(root, 2, 1, 'S', (4, 0), 99, 0);
        assert_eq!(ticks(account.read(&[1, 2, 3])), 29);
    }

    #[test]
    fn a_master_that_ignores_its_children_inherits_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut account = account(root);
        process(root, 1, 0, 'S', (0, 0), 10, 0);
        process(root, 2, 1, 'S', (30, 0), 60, 0);
        assert_eq!(ticks(account.read(&[1, 2])), 30);
        std::fs::remove_dir_all(root.join("2")).unwrap();
        process(root, 1, 0, 'S', (3, 0), 10, 0);
        assert_eq!(ticks(account.read(&[1])), 33);
        std::fs::remove_dir_all(root.join("1")).unwrap();
        let end = account.read(&[]);
        assert_eq!((ticks(end), end.rss_bytes, end.threads), (33, None, None));
        assert!(account.known.is_empty());
    }

    #[test]
    fn this_process_spends() {
        let mut consumption = Consumption::new(ProcFs::new(), 0);
        let pid = std::process::id();
        let first = consumption.read(&[pid]);
        assert!(first.rss_bytes.is_some_and(|bytes| bytes > 100_000) && first.open_files >= Some(3));
        let second = consumption.read(&[pid]);
        assert!(second.spent.user_ns >= first.spent.user_ns);
    }
}
