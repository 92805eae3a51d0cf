//! Which application a process belongs to, kept up to date by the kernel's fork, exec and exit events. Pure:
//! it reads no `/proc` and no clock, and an event's own time decides when events of two threads arrive in
//! the wrong order.

use foldhash::HashMap;
use pyapm_model::line::{Worker, WorkerEvent};
use std::collections::VecDeque;

/// Ended processes that are remembered, for events of theirs that arrive late.
const MAX_DEPARTED: usize = 1024;

/// One application among those that are watched: the index that the kernel's target map carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationId(pub u32);

/// A process that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub application: ApplicationId,
    pub is_master: bool,
    /// `CLOCK_MONOTONIC` nanoseconds of its fork; 0 when it was there before us.
    pub since_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Departed {
    pid: u32,
    watched: Watched,
    until_ns: u64,
}

/// The watched processes. A process enters by [`add`](Self::add) or as the child of a watched one, and
/// leaves by exit or exec: what a program becomes by exec is a new question, for
/// [`Discovery::belongs`](super::Discovery::belongs).
#[derive(Debug, Default)]
pub struct Registry {
    live: HashMap<u32, Watched>,
    departed: VecDeque<Departed>,
}

impl Registry {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A process found by discovery, or found to belong still after an exec. `since_ns` is 0 when it was
    /// there before us. Gives a notice only if it was not known.
    pub fn add(
        &mut self,
        application: ApplicationId,
        pid: u32,
        is_master: bool,
        since_ns: u64,
    ) -> Option<Worker> {
        let watched = Watched { application, is_master, since_ns };
        let before = self.live.insert(pid, watched);
        before.is_none().then_some(Worker { event: WorkerEvent::Started, pid })
    }

    /// A child of a watched process. A pid that is still thought alive has been used again: its exit was
    /// lost, and is reported first. A parent that is not known gives nothing.
    pub fn fork(&mut self, parent: u32, child: u32, time_ns: u64) -> Vec<Worker> {
        let Some(application) = self.application_at(parent, time_ns) else { return Vec::new() };
        let mut notices = Vec::new();
        match self.live.get(&child) {
            // Discovery read the child from `/proc` before this event was drained, or the event came twice.
            Some(known)
                if known.application == application && (known.since_ns == 0 || known.since_ns >= time_ns) =>
            {
                if let Some(known) = self.live.get_mut(&child) {
                    known.since_ns = known.since_ns.max(time_ns);
                }
                return notices;
            }
            Some(_) => notices.extend(self.leave(child, time_ns)),
            None => {}
        }
        self.live.insert(child, Watched { application, is_master: false, since_ns: time_ns });
        notices.push(Worker { event: WorkerEvent::Started, pid: child });
        notices
    }

    /// The process is another program now. It leaves; if it is found to belong still, [`add`](Self::add)
    /// brings it back.
    pub fn exec(&mut self, pid: u32, time_ns: u64) -> Option<Worker> {
        self.leave(pid, time_ns)
    }

    /// The last thread of the process has ended.
    pub fn exit(&mut self, pid: u32, time_ns: u64) -> Option<Worker> {
        self.leave(pid, time_ns)
    }

    /// An event older than the process speaks of the pid's last owner, and is not meant for this one.
    fn leave(&mut self, pid: u32, time_ns: u64) -> Option<Worker> {
        let watched = *self.live.get(&pid)?;
        if watched.since_ns > time_ns {
            return None;
        }
        self.live.remove(&pid);
        if self.departed.len() == MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(Departed { pid, watched, until_ns: time_ns });
        Some(Worker { event: WorkerEvent::Exited, pid })
    }

    /// As of now.
    #[must_use]
    pub fn get(&self, pid: u32) -> Option<Watched> {
        self.live.get(&pid).copied()
    }

    /// Whose process this was at that time: also for those that ended a while ago.
    #[must_use]
    pub fn application_at(&self, pid: u32, time_ns: u64) -> Option<ApplicationId> {
        if let Some(watched) = self.live.get(&pid)
            && watched.since_ns <= time_ns
        {
            return Some(watched.application);
        }
        self.departed
            .iter()
            .rev()
            .find(|old| old.pid == pid && old.watched.since_ns <= time_ns && time_ns <= old.until_ns)
            .map(|old| old.watched.application)
    }

    /// Pids of an application, ascending.
    #[must_use]
    pub fn members(&self, application: ApplicationId) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .live
            .iter()
            .filter(|(_, watched)| watched.application == application)
            .map(|(pid, _)| *pid)
            .collect();
        pids.sort_unstable();
        pids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: ApplicationId = ApplicationId(1);
    const BLOG: ApplicationId = ApplicationId(2);

    fn started(pid: u32) -> Worker {
        Worker { event: WorkerEvent::Started, pid }
    }

    fn exited(pid: u32) -> Worker {
        Worker { event: WorkerEvent::Exited, pid }
    }

    fn shop() -> Registry {
        let mut registry = Registry::new();
        assert_eq!(registry.add(SHOP, 100, true, 0), Some(started(100)));
        assert_eq!(registry.add(SHOP, 101, false, 0), Some(started(101)));
        registry
    }

    #[test]
    fn worker_is_replaced() {
        let mut registry = shop();
        assert_eq!(registry.fork(100, 102, 10), [started(102)]);
        assert_eq!(registry.exit(101, 20), Some(exited(101)));
        assert_eq!(registry.exit(101, 21), None);
        assert_eq!(registry.members(SHOP), [100, 102]);
        assert_eq!(registry.get(102), Some(Watched { application: SHOP, is_master: false, since_ns: 10 }));
        // What the dead worker still had in the ring is attributed to it.
        assert_eq!(registry.application_at(101, 19), Some(SHOP));
        assert_eq!(registry.application_at(101, 21), None);
    }

    #[test]
    fn helper_leaves_at_exec() {
        let mut registry = shop();
        assert_eq!(registry.fork(101, 200, 10), [started(200)]);
        assert_eq!(registry.exec(200, 11), Some(exited(200)));
        assert_eq!(registry.exit(200, 12), None);
        // `sh` forking on is no business of ours.
        assert_eq!(registry.fork(200, 201, 13), []);
    }

    #[test]
    fn comes_back_after_exec() {
        let mut registry = shop();
        registry.fork(100, 200, 10);
        registry.exec(200, 11);
        assert_eq!(registry.add(SHOP, 200, false, 11), Some(started(200)));
        assert_eq!(registry.application_at(200, 12), Some(SHOP));
        assert_eq!(registry.fork(200, 201, 13), [started(201)]);
    }

    #[test]
    fn pid_used_again_after_lost_exit() {
        let mut registry = shop();
        registry.add(BLOG, 300, true, 0);
        registry.fork(100, 400, 10);
        assert_eq!(registry.fork(300, 400, 50), [exited(400), started(400)]);
        assert_eq!(registry.application_at(400, 30), Some(SHOP));
        assert_eq!(registry.application_at(400, 50), Some(BLOG));
    }

    #[test]
    fn late_exit_of_the_former_owner() {
        let mut registry = shop();
        registry.fork(100, 400, 10);
        registry.fork(100, 400, 50);
        assert_eq!(registry.exit(400, 40), None);
        assert!(registry.get(400).is_some());
    }

    #[test]
    fn fork_drained_after_the_parents_exit() {
        let mut registry = shop();
        registry.exit(101, 20);
        assert_eq!(registry.fork(101, 500, 19), [started(500)]);
    }

    #[test]
    fn discovered_before_its_fork_event_was_drained() {
        let mut registry = shop();
        registry.add(SHOP, 600, false, 0);
        assert_eq!(registry.fork(100, 600, 5), []);
        assert_eq!(registry.exit(600, 4), None);
        assert_eq!(registry.exit(600, 6), Some(exited(600)));
    }

    #[test]
    fn pid_of_one_application_used_again_by_another() {
        let mut registry = shop();
        registry.add(BLOG, 300, true, 0);
        assert_eq!(registry.fork(300, 101, 5), [exited(101), started(101)]);
        assert_eq!(registry.members(BLOG), [101, 300]);
    }

    #[test]
    fn memory_of_the_departed_is_bounded() {
        let mut registry = shop();
        for time in 1..5_000_u64 {
            let pid = 1000 + u32::try_from(time).unwrap();
            registry.fork(100, pid, time);
            registry.exit(pid, time);
        }
        assert_eq!(registry.departed.len(), MAX_DEPARTED);
        assert_eq!(registry.members(SHOP), [100, 101]);
    }
}
