//! Whether a process hands work to those it forks through pipes, or is handed such work: Celery's pool of processes,
//! told by command lines. A title that setproctitle wrote tells it too.

use super::application::Server;
use super::invocation::Invocation;
use super::procfs::ProcFs;
use pyapm_wire::target::pipes;

/// Which pipes of a process matter: one of [`pipes`].
#[must_use]
pub fn pool_pipes(procfs: &ProcFs, pid: u32) -> u32 {
    if !is_worker(procfs, pid) {
        return pipes::NONE;
    }
    let parent = procfs.stat(pid).map(|stat| stat.ppid);
    match parent {
        Ok(parent) if is_worker(procfs, parent) => pipes::OWN,
        _ => pipes::CHILDREN,
    }
}

fn is_worker(procfs: &ProcFs, pid: u32) -> bool {
    let Ok(cmdline) = procfs.cmdline(pid) else { return false };
    Invocation::parse(&cmdline).and_then(|invocation| invocation.server()) == Some(Server::Celery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::live::Tree;

    /// A parent and a child as Celery's are, by their command lines.
    #[test]
    fn a_pool_is_told_from_others() {
        let program = "import os, sys, time\n\
            child = os.fork()\n\
            if child: print(os.getpid(), child, flush=True)\n\
            time.sleep(600)";
        let procfs = ProcFs::new();
        let roles = |name| {
            let tree = Tree::python(name, program);
            tree.pids.iter().map(|pid| pool_pipes(&procfs, *pid)).collect::<Vec<_>>()
        };
        assert_eq!(roles("celery"), [pipes::CHILDREN, pipes::OWN]);
        assert_eq!(roles("salad"), [pipes::NONE, pipes::NONE]);
        assert_eq!(pool_pipes(&procfs, u32::MAX), pipes::NONE);
    }
}
