//! The single return path: control that userspace writes into kernel maps. Never data.

use super::ProbeError;
use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use pyapm_wire::connection::{Hint, Key};
use pyapm_wire::count;
use pyapm_wire::target::Target;

/// Gives a wire struct to aya as plain data.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `bytemuck::Pod` promises exactly what `aya::Pod` asks for: any bytes are valid, no padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// The maps that userspace writes, and the counters that it reads.
pub struct Tables {
    targets: HashMap<MapData, u32, Plain<Target>>,
    hints: HashMap<MapData, Plain<Key>, Plain<Hint>>,
    stacks: HashMap<MapData, u64, u8>,
    counts: PerCpuArray<MapData, u64>,
}

/// Slots of `pyapm_wire::count`, summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; count::SLOTS as usize]);

impl Counts {
    #[must_use]
    pub fn get(&self, slot: u32) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }
}

impl Tables {
    pub(super) fn new(
        targets: HashMap<MapData, u32, Plain<Target>>,
        hints: HashMap<MapData, Plain<Key>, Plain<Hint>>,
        stacks: HashMap<MapData, u64, u8>,
        counts: PerCpuArray<MapData, u64>,
    ) -> Self {
        Self { targets, hints, stacks, counts }
    }

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

    /// Stops watching a process; nothing happens if it was not watched.
    pub fn unwatch(&mut self, pid: u32) {
        let _absent_is_fine = self.targets.remove(&pid);
    }

    /// Says how much of a connection's bytes is wanted. A lost hint costs only copying.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn hint(&mut self, pid: u32, fd: u32, hint: Hint) -> Result<(), ProbeError> {
        self.hints
            .insert(Plain(Key { tgid: pid, fd }), Plain(hint), 0)
            .map_err(|source| ProbeError::Map { map: "HINTS", source })
    }

    /// Has the kernel send a stack's frames again when it next meets it.
    pub fn forget_stack(&mut self, stack: u64) {
        let _absent_is_fine = self.stacks.remove(&stack);
    }

    /// # Errors
    /// When the map cannot be read.
    pub fn counts(&self) -> Result<Counts, ProbeError> {
        let mut sums = Counts::default();
        for (slot, sum) in (0..count::SLOTS).zip(&mut sums.0) {
            let values =
                self.counts.get(&slot, 0).map_err(|source| ProbeError::Map { map: "COUNTS", source })?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }
}
