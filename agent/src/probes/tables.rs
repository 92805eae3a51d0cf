//! The single return path: control that userspace writes into kernel maps. Never data.

use super::ProbeError;
use super::mapped::Mapped;
use aya::maps::{HashMap, MapData, MapError};
use pyapm_wire::connection::{Hint, hint_slot};
use pyapm_wire::count;
use pyapm_wire::event::{LoopTurns, NOT_KNOWN, Sleeper, SqliteLayout};
use pyapm_wire::exception::place_slot;
use pyapm_wire::scope::Contexts;
use pyapm_wire::target::Target;
use pyapm_wire::task::TaskSites;
use std::sync::atomic::Ordering;

/// Gives a wire struct to aya as plain data.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `bytemuck::Pod` promises exactly what `aya::Pod` asks for: any bytes are valid, no padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// The maps that userspace writes, and the counters that it reads.
pub struct Tables {
    pub(super) targets: HashMap<MapData, u32, Plain<Target>>,
    pub(super) stacks: HashMap<MapData, u64, u8>,
    /// Only ever emptied from here.
    pub(super) passing: HashMap<MapData, [u64; 2], [u64; 4]>,
    pub(super) sleepers: HashMap<MapData, u32, Plain<Sleeper>>,
    pub(super) loops: HashMap<MapData, u64, Plain<LoopTurns>>,
    pub(super) sqlite: HashMap<MapData, u64, Plain<SqliteLayout>>,
    pub(super) tasks: HashMap<MapData, u32, Plain<TaskSites>>,
    pub(super) hints: Mapped,
    /// Of places of exceptions.
    pub(super) quiet: Mapped,
    pub(super) counts: Mapped,
}

/// Slots of `pyapm_wire::count`, summed over CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts(pub [u64; count::SLOTS as usize]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; count::SLOTS as usize])
    }
}

impl Counts {
    #[must_use]
    pub fn get(&self, slot: u32) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }
}

impl Tables {
    /// Starts watching a process. `only_new` leaves an entry that the fork program made in the meantime.
    ///
    /// # Errors
    /// When the map is full.
    pub fn watch(&mut self, pid: u32, target: Target, only_new: bool) -> Result<(), ProbeError> {
        /// `BPF_NOEXIST` of the kernel's `include/uapi/linux/bpf.h`.
        const ONLY_NEW: u64 = 1;
        let result = self.targets.insert(pid, Plain(target), if only_new { ONLY_NEW } else { 0 });
        match result {
            Err(MapError::SyscallError(error))
                if only_new && error.io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            other => other.map_err(|source| ProbeError::Map { map: "TARGETS", source }),
        }
    }

    /// Says what is to be read of a watched process's contexts; `false` if it is not watched.
    ///
    /// Between reading the entry and writing it back the process may run another program: then it is followed with
    /// what was true of the one before, until userspace has heard of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_contexts(&mut self, pid: u32, contexts: Contexts) -> Result<bool, ProbeError> {
        /// `BPF_EXIST` of the kernel's `include/uapi/linux/bpf.h`.
        const ONLY_OLD: u64 = 2;
        let Ok(Plain(target)) = self.targets.get(&pid, 0) else { return Ok(false) };
        match self.targets.insert(pid, Plain(Target { contexts, ..target }), ONLY_OLD) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(false)
            }
            Err(source) => Err(ProbeError::Map { map: "TARGETS", source }),
        }
    }

    /// Stops watching a process; nothing happens if it was not watched.
    pub fn unwatch(&mut self, pid: u32) {
        let _absent_is_fine = self.targets.remove(&pid);
    }

    /// Says how much of a connection's bytes is wanted. A lost hint costs only copying.
    pub fn hint(&mut self, hint: Hint) {
        const WORDS: usize = size_of::<Hint>() / size_of::<u64>();
        let start = hint_slot(hint.connection) as usize * WORDS;
        let Some(slot) = self.hints.words().get(start..start + WORDS) else { return };
        let value: [u64; WORDS] = bytemuck::cast(hint);
        let ([id, rest @ ..], [new_id, new_rest @ ..]) = (slot, &value) else { return };
        // The id is gone while the rest is not whole.
        id.store(0, Ordering::SeqCst);
        for (word, new) in rest.iter().zip(new_rest) {
            word.store(*new, Ordering::SeqCst);
        }
        id.store(*new_id, Ordering::SeqCst);
    }

    /// Has fewer exceptions of a place sent, or as many as of others again.
    pub fn hush(&mut self, place: u64, quiet: bool) {
        let Some(row) = self.quiet.words().get(place_slot(place) as usize) else { return };
        if quiet {
            row.store(place, Ordering::Relaxed);
        } else {
            // Another place may have displaced it.
            let _not_its_own = row.compare_exchange(place, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Has the kernel send a stack's frames again when it next meets it.
    pub fn forget_stack(&mut self, stack: u64) {
        let _absent_is_fine = self.stacks.remove(&stack);
    }

    /// Has the kernel follow no exception any more that it follows now: what passed while nobody looked, would be
    /// missing in its traceback, and its addresses may be others' by now.
    pub fn forget_exceptions(&mut self) {
        let keys: Vec<[u64; 2]> = self.passing.keys().filter_map(Result::ok).collect();
        for key in keys {
            let _gone_is_fine = self.passing.remove(&key);
        }
    }

    /// Says what the build of SQLite is like in which a probe has this address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_sqlite(&mut self, probe: u64, layout: SqliteLayout) -> Result<(), ProbeError> {
        let unknown =
            SqliteLayout { text: NOT_KNOWN, database: NOT_KNOWN, code: NOT_KNOWN, changes: NOT_KNOWN };
        let layout = match self.sqlite.get(&probe, 0) {
            // Two processes have different builds at one address: which of them asks is not known there.
            Ok(Plain(known)) if known != layout => unknown,
            _ => layout,
        };
        self.sqlite
            .insert(probe, Plain(layout), 0)
            .map_err(|source| ProbeError::Map { map: "SQLITE_LAYOUTS", source })
    }

    /// Says where the variables of a process's tasks lie.
    ///
    /// # Errors
    /// When the map is full.
    pub fn set_tasks(&mut self, pid: u32, sites: TaskSites) -> Result<(), ProbeError> {
        let set = self.tasks.insert(pid, Plain(sites), 0);
        set.map_err(|source| ProbeError::Map { map: "TASK_SITES", source })
    }

    /// Nothing happens if nothing was said.
    pub fn forget_tasks(&mut self, pid: u32) {
        let _absent_is_fine = self.tasks.remove(&pid);
    }

    /// Threads of targets that the switch program has seen, by thread id. Exact once it is detached; while it runs,
    /// entries may be missed or be half of one moment and half of the next.
    #[must_use]
    pub fn sleepers(&self) -> Vec<(u32, Sleeper)> {
        self.sleepers.iter().filter_map(Result::ok).map(|(tid, Plain(sleeper))| (tid, sleeper)).collect()
    }

    /// How the time of a thread's event loop went so far; `None` when it turns none.
    #[must_use]
    pub fn turns(&self, pid: u32, tid: u32) -> Option<LoopTurns> {
        let key = u64::from(pid) << 32 | u64::from(tid);
        self.loops.get(&key, 0).ok().map(|Plain(turns)| turns)
    }

    /// One counter.
    #[must_use]
    pub fn count(&self, slot: u32) -> u64 {
        let rows = self.counts.words().chunks_exact(count::SLOTS as usize);
        rows.filter_map(|row| row.get(slot as usize)).map(|value| value.load(Ordering::Relaxed)).sum()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sums = Counts::default();
        for row in self.counts.words().chunks_exact(count::SLOTS as usize) {
            for (sum, value) in sums.0.iter_mut().zip(row) {
                *sum += value.load(Ordering::Relaxed);
            }
        }
        sums
    }
}
