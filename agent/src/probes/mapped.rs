//! An array map as memory, shared with the programs (`BPF_F_MMAPABLE`, Linux 5.5). The map's system calls are
//! not used while programs run: the kernel keeps tracing programs from running on a CPU that is inside one
//! (kernel `include/linux/bpf.h`, `bpf_disable_instrumentation`), and where kernels preempt, that can be long.

use aya::maps::MapData;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Words of the map, which live for as long as this does.
pub(super) struct Mapped {
    start: NonNull<AtomicU64>,
    words: usize,
    /// Programs that are loaded later name the map by its descriptor.
    _map: MapData,
}

// SAFETY: the memory is shared with the kernel anyway, and is only reached through atomics.
unsafe impl Send for Mapped {}

impl Mapped {
    /// `words` is the map's size in 8-byte words.
    pub(super) fn new(map: MapData, words: usize, writable: bool) -> io::Result<Self> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let bytes = NonZeroUsize::new(words * size_of::<u64>())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an empty map"))?;
        let access =
            if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0)? };
        Ok(Self { start: start.cast(), words, _map: map })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, holds that many words, is never unmapped while `self` lives,
        // and the kernel changes it only in whole words.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; nothing borrows from it any more. That it fails would
        // mean that it was not, and leaves nothing to do.
        let _unmapped = unsafe { nix::sys::mman::munmap(self.start.cast(), self.words * size_of::<u64>()) };
    }
}
