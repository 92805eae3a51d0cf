//! How a thread's state is found from its fs base: the route that the kernel half follows. A route is
//! worked out from the interpreter and its C library, then confirmed against the threads that exist.
//!
//! It is always one that stays valid while the thread has released the GIL: the pthread key `autoTSSkey` up
//! to 3.14, the TLS variable `_Py_tss_gilstate` from 3.15 on. `_Py_tss_tstate` is null at such times.

use super::locate::Located;
use super::memory::{Memory, MemoryError};
use super::offsets::ObjectOffsets;
use super::threads::ThreadState;
use super::tls::{TlsAccess, returned_tls_word};
use crate::binaries::Mapping;
use pyapm_wire::python::route;

/// Which C library keeps the thread-specific data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Libc {
    Glibc,
    Musl,
}

impl Libc {
    /// musl's loader is its C library, and is mapped as `ld-musl-*`.
    pub(super) fn of(mappings: &[Mapping]) -> Self {
        let musl = mappings.iter().any(|mapping| {
            mapping.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-musl"))
        });
        if musl { Self::Musl } else { Self::Glibc }
    }
}

/// Offsets and form as [`pyapm_wire::python::Layout`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: u32,
    pub(super) first: i64,
    pub(super) second: i64,
}

impl Route {
    pub(super) const NONE: Self = Self { kind: route::NONE, first: 0, second: 0 };

    /// Follows the route from an fs base, exactly as the kernel half does.
    pub(super) fn follow(&self, memory: &dyn Memory, fsbase: u64) -> Result<u64, MemoryError> {
        let step = |base: u64, offset: i64| memory.read_u64(base.wrapping_add_signed(offset));
        match self.kind {
            route::DIRECT => step(fsbase, self.first),
            route::INDIRECT => step(step(fsbase, self.first)?, self.second),
            route::DTV => step(step(step(fsbase, 8)?, self.first)?, self.second),
            _ => Ok(0),
        }
    }

    pub(super) fn describe(&self) -> String {
        let signed = |offset: i64| {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:#x}", offset.unsigned_abs())
        };
        let (first, second) = (signed(self.first), signed(self.second));
        match self.kind {
            route::DIRECT => format!("`*(fs{first})`"),
            route::INDIRECT => format!("`*(*(fs{first}){second})`"),
            route::DTV => format!("`*(dtv[{first}]{second})` of the dynamic thread vector"),
            _ => "no route".to_owned(),
        }
    }
}

/// glibc's `struct pthread` on x86-64: `specific_1stblock[32]`, then `specific[32]`, each entry of a block
/// `{ uintptr_t seq; void *data; }` (`nptl/descr.h`; the same in 2.27 to 2.43).
const GLIBC_FIRST_BLOCK: i64 = 784;
const GLIBC_BLOCK_POINTERS: i64 = GLIBC_FIRST_BLOCK + 32 * 16;
const GLIBC_KEYS: u32 = 1024;
/// musl 1.2: `void **tsd` in its `struct pthread` (`src/internal/pthread_impl.h`).
const MUSL_TSD: i64 = 128;
const MUSL_KEYS: u32 = 128;

/// Route to a pthread key's value; `None` for a key that this C library cannot have given.
pub(super) fn of_pthread_key(libc: Libc, key: u32) -> Option<Route> {
    let index = i64::from(key);
    match libc {
        Libc::Glibc if key < 32 => {
            Some(Route { kind: route::DIRECT, first: GLIBC_FIRST_BLOCK + index * 16 + 8, second: 0 })
        }
        Libc::Glibc if key < GLIBC_KEYS => Some(Route {
            kind: route::INDIRECT,
            first: GLIBC_BLOCK_POINTERS + index / 32 * 8,
            second: index % 32 * 16 + 8,
        }),
        Libc::Musl if key < MUSL_KEYS => {
            Some(Route { kind: route::INDIRECT, first: MUSL_TSD, second: index * 8 })
        }
        _ => None,
    }
}

/// `Py_tss_t`: whether the key was created, and the key.
pub(super) fn auto_tss_key(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    runtime_address: u64,
) -> Result<Option<u32>, MemoryError> {
    let Some(offset) = offsets.runtime_auto_tss_key else { return Ok(None) };
    let address = runtime_address.wrapping_add(u64::from(offset));
    let created = memory.read_u32(address)? != 0;
    Ok(if created { Some(memory.read_u32(address.wrapping_add(4))?) } else { None })
}

/// Route to the TLS word that `PyGILState_GetThisThreadState` returns (3.15 on); `None` when the function
/// is not of a form that is known.
pub(super) fn of_gilstate_variable(memory: &dyn Memory, located: &Located, libc: Libc) -> Option<Route> {
    let function = located.image.exported("PyGILState_GetThisThreadState")?;
    let length = usize::try_from(function.size.clamp(16, 256)).ok()?;
    let code = located.image.bytes(function.address, length);
    match returned_tls_word(&code, function.address)? {
        TlsAccess::FsRelative { offset } => Some(Route { kind: route::DIRECT, first: offset, second: 0 }),
        TlsAccess::FsThroughGot { got } => {
            let offset = memory.read_u64(got.wrapping_add(located.bias)).ok()?;
            Some(Route { kind: route::DIRECT, first: offset.cast_signed(), second: 0 })
        }
        TlsAccess::TlsGetAddr { got, offset } => {
            let got = got.wrapping_add(located.bias);
            let module = memory.read_u64(got).ok().filter(|module| (1..=4096).contains(module))?;
            let within = memory.read_u64(got.wrapping_add(8)).ok()?;
            let entry = match libc {
                Libc::Glibc => 16,
                Libc::Musl => 8,
            };
            Some(Route {
                kind: route::DTV,
                first: i64::try_from(module * entry).ok()?,
                second: within.cast_signed().wrapping_add(offset),
            })
        }
    }
}

/// How many of the threads the route leads to their own state. A thread state that is not bound to its
/// thread (a second interpreter's on the same thread) does not agree, so one that agrees is proof enough.
pub(super) fn agreeing(memory: &dyn Memory, route: &Route, threads: &[ThreadState]) -> usize {
    threads.iter().filter(|thread| route.follow(memory, thread.thread_id) == Ok(thread.address)).count()
}

/// Looks for the slot in glibc's `struct pthread` when it is not where glibc up to 2.43 has it: the offset
/// of the first block at which every thread's own state is found, for a key below 32.
pub(super) fn search_first_block(memory: &dyn Memory, key: u32, threads: &[ThreadState]) -> Option<Route> {
    if key >= 32 || threads.is_empty() {
        return None;
    }
    let mut found = (0..4096).step_by(8).filter(|first| {
        let route = Route { kind: route::DIRECT, first: *first, second: 0 };
        agreeing(memory, &route, threads) == threads.len()
    });
    let first = found.next()?;
    // Two such slots would be a coincidence that nothing can decide.
    found.next().is_none().then_some(Route { kind: route::DIRECT, first, second: 0 })
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::*;

    #[test]
    fn keys_of_both_levels() {
        let direct = of_pthread_key(Libc::Glibc, 2).unwrap();
        assert_eq!(direct, Route { kind: route::DIRECT, first: 784 + 40, second: 0 });
        let last = of_pthread_key(Libc::Glibc, 31).unwrap();
        assert_eq!(last.first, 1288);
        let second = of_pthread_key(Libc::Glibc, 33).unwrap();
        assert_eq!(second, Route { kind: route::INDIRECT, first: 1304, second: 24 });
        assert_eq!(of_pthread_key(Libc::Glibc, 1024), None);
        let musl = of_pthread_key(Libc::Musl, 3).unwrap();
        assert_eq!(musl, Route { kind: route::INDIRECT, first: 128, second: 24 });
        assert_eq!(of_pthread_key(Libc::Musl, 128), None);
    }

    #[test]
    fn routes_are_followed() {
        let mut memory = BufferMemory::new();
        let word = |value: u64| value.to_le_bytes().to_vec();
        memory.add(0x1000 - 0x28, word(0xaaaa));
        memory.add(0x1008, word(0x2000));
        memory.add(0x2010, word(0x3000));
        memory.add(0x3028, word(0xbbbb));
        memory.add(0x1000 + 1304, word(0x4000));
        memory.add(0x4018, word(0xcccc));
        let follow = |kind, first, second| Route { kind, first, second }.follow(&memory, 0x1000).unwrap();
        assert_eq!(follow(route::DIRECT, -0x28, 0), 0xaaaa);
        assert_eq!(follow(route::DTV, 16, 0x28), 0xbbbb);
        assert_eq!(follow(route::INDIRECT, 1304, 24), 0xcccc);
        assert_eq!(follow(route::NONE, 0, 0), 0);
    }

    #[test]
    fn a_slot_that_moved_is_found_only_if_it_is_the_only_one() {
        let thread =
            ThreadState { address: 0x9000, interpreter: 1, thread_id: 0x1000, native_thread_id: None };
        let mut block = vec![0; 4096];
        block[840..848].copy_from_slice(&0x9000_u64.to_le_bytes());
        let mut memory = BufferMemory::new();
        memory.add(0x1000, block.clone());
        let found = search_first_block(&memory, 2, &[thread]).unwrap();
        assert_eq!((found.kind, found.first), (route::DIRECT, 840));
        block[1600..1608].copy_from_slice(&0x9000_u64.to_le_bytes());
        let mut memory = BufferMemory::new();
        memory.add(0x1000, block);
        assert_eq!(search_first_block(&memory, 2, &[thread]), None);
    }
}
