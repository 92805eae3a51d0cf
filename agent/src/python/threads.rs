//! The interpreters of a process and their thread states, as the lists in `_PyRuntime` have them. The lists
//! are read while the process may change them: what comes out is checked by whoever uses it.

use super::memory::{Memory, MemoryError};
use super::offsets::ObjectOffsets;
use std::collections::HashMap;

/// `tid` in glibc's `struct pthread` on x86-64 (`nptl/descr.h`, the same in 2.27 to 2.43).
pub(super) const GLIBC_TID: u64 = 720;

/// Lists longer than these are cut: a torn list may be a circle.
const MAX_INTERPRETERS: usize = 256;
const MAX_THREADS: usize = 16_384;

/// One `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    pub address: u64,
    /// Address of its `PyInterpreterState`.
    pub interpreter: u64,
    /// `pthread_self()`: the thread's fs base.
    pub thread_id: u64,
    /// `gettid()` as the process sees it, in its own pid namespace; `None` before 3.11.
    pub native_thread_id: Option<u64>,
}

/// All thread states of all interpreters; those of the main interpreter last.
///
/// # Errors
/// When a list cannot be read, which is also what a list that changes meanwhile can look like.
pub fn thread_states(
    memory: &dyn Memory,
    offsets: &ObjectOffsets,
    runtime_address: u64,
) -> Result<Vec<ThreadState>, MemoryError> {
    let at = |base: u64, offset: u32| base.wrapping_add(u64::from(offset));
    let mut threads = Vec::new();
    let mut visited = 0;
    let mut interpreter = memory.read_u64(at(runtime_address, offsets.runtime_interpreters_head))?;
    for _ in 0..MAX_INTERPRETERS {
        if interpreter == 0 {
            break;
        }
        let mut address = memory.read_u64(at(interpreter, offsets.interpreter_threads_head))?;
        while address != 0 && visited < MAX_THREADS {
            visited += 1;
            let owner = memory.read_u64(at(address, offsets.tstate_interpreter))?;
            if owner == interpreter {
                threads.push(ThreadState {
                    address,
                    interpreter,
                    thread_id: memory.read_u64(at(address, offsets.tstate_thread_id))?,
                    native_thread_id: match offsets.tstate_native_thread_id {
                        Some(offset) => Some(memory.read_u64(at(address, offset))?),
                        None => None,
                    },
                });
            }
            address = memory.read_u64(at(address, offsets.tstate_next))?;
        }
        interpreter = memory.read_u64(at(interpreter, offsets.interpreter_next))?;
    }
    Ok(threads)
}

/// Thread states by the tid of their thread as the process sees it: by `native_thread_id` (3.11 on), else by
/// what glibc keeps behind the thread's fs base. Of a thread with states in several interpreters, one of them.
#[must_use]
pub fn by_tid(memory: &dyn Memory, threads: &[ThreadState]) -> HashMap<u64, ThreadState> {
    let kept_by_glibc = |thread: &ThreadState| {
        memory.read_u32(thread.thread_id.wrapping_add(GLIBC_TID)).ok().map(|tid| (u64::from(tid), *thread))
    };
    let mut found: HashMap<u64, ThreadState> = threads.iter().filter_map(kept_by_glibc).collect();
    found.extend(threads.iter().filter_map(|thread| Some((thread.native_thread_id?, *thread))));
    found
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::super::offsets::table;
    use super::*;

    /// A thread state whose `next` is itself, in an interpreter whose `next` is itself.
    #[test]
    fn circles_end() {
        let offsets = table(11).unwrap();
        let mut runtime = vec![0; 4096];
        runtime[40..48].copy_from_slice(&0x1_0000_u64.to_le_bytes());
        let mut interpreter = vec![0; 4096];
        interpreter[0..8].copy_from_slice(&0x1_0000_u64.to_le_bytes());
        interpreter[16..24].copy_from_slice(&0x2_0000_u64.to_le_bytes());
        let mut thread = vec![0; 4096];
        thread[8..16].copy_from_slice(&0x2_0000_u64.to_le_bytes());
        thread[16..24].copy_from_slice(&0x1_0000_u64.to_le_bytes());
        let mut memory = BufferMemory::new();
        memory.add(0x1000, runtime);
        memory.add(0x1_0000, interpreter);
        memory.add(0x2_0000, thread);
        assert_eq!(thread_states(&memory, offsets, 0x1000).unwrap().len(), MAX_THREADS);
    }
}
