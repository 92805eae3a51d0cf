//! `AsyncioDebug`: what the module `_asyncio` says of its own structs from 3.14 on, in a section of the file that
//! holds it (`_Py_AsyncioModuleDebugOffsets` in `Modules/_asynciomodule.c` of CPython 3.14). It lies in the target's
//! writable memory: nothing is used before all of it has been checked.

use super::memory::Memory;
use crate::binaries::{FileId, Image, Mapping};
use std::collections::HashSet;

const SECTION: &str = ".AsyncioDebug";
/// Thirteen words: seven of the task, two of the interpreter state, four of the thread state.
const SIZE: u64 = 104;
/// Files of one process that are looked into.
const MAX_FILES: usize = 8;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncioOffsets {
    pub task_name: u32,
    /// A task or a set of tasks, by `task_awaited_by_is_set`.
    pub task_awaited_by: u32,
    pub task_awaited_by_is_set: u32,
    pub task_coro: u32,
    /// Its link in the list of tasks.
    pub task_node: u32,
    /// `_PyThreadStateImpl.asyncio_running_task`.
    pub thread_running_task: u32,
    /// `_PyThreadStateImpl.asyncio_tasks_head`.
    pub thread_tasks_head: u32,
}

impl AsyncioOffsets {
    /// Where the process keeps them, and what they are; `None` when it has not imported `asyncio`, is older than
    /// 3.14, or says something that cannot be.
    #[must_use]
    pub fn find(pid: u32, memory: &dyn Memory, mappings: &[Mapping]) -> Option<Self> {
        // The module is a library of this name, or built into the interpreter, which `python` is in the name of.
        let mut seen: HashSet<FileId> = HashSet::new();
        let files = mappings.iter().filter(|mapping| {
            let name = mapping.path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.contains("_asyncio") || name.contains("python"))
                && mapping.file.is_some_and(|file| seen.insert(file))
        });
        files.take(MAX_FILES).find_map(|mapping| {
            let image = Image::open(&mapping.reachable(pid)).ok()?;
            let section = image.section(SECTION).filter(|section| section.size >= SIZE)?;
            Self::read(memory, section.address.wrapping_add(image.bias(mapping)?))
        })
    }

    fn read(memory: &dyn Memory, address: u64) -> Option<Self> {
        let bytes = memory.read_bytes(address, usize::try_from(SIZE).ok()?).ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| words.get(index).map(|word| u64::from_le_bytes(*word));
        // An offset within its struct, whose size is the first word of its part.
        let within = |size: usize, most: u64, index: usize, width: u64| {
            let (size, offset) = (word(size)?, word(index)?);
            let fits = size <= most && offset.checked_add(width)? <= size && offset.is_multiple_of(width);
            u32::try_from(offset).ok().filter(|_| fits)
        };
        let task = |index, width| within(0, 1 << 12, index, width);
        let thread = |index| within(9, 1 << 16, index, 8);
        Some(Self {
            task_name: task(1, 8)?,
            task_awaited_by: task(2, 8)?,
            task_awaited_by_is_set: task(4, 1)?,
            task_coro: task(5, 8)?,
            task_node: task(6, 8)?,
            thread_running_task: thread(11)?,
            thread_tasks_head: thread(12)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::BufferMemory;
    use super::*;

    /// As CPython 3.14.10 has them.
    const WORDS: [u64; 13] = [168, 136, 96, 108, 109, 128, 152, 200_000, 10_880, 936, 864, 872, 880];

    fn read(words: &[u64]) -> Option<AsyncioOffsets> {
        let mut memory = BufferMemory::new();
        memory.add(0x1000, words.iter().flat_map(|word| word.to_le_bytes()).collect());
        AsyncioOffsets::read(&memory, 0x1000)
    }

    #[test]
    fn words_of_an_interpreter() {
        let offsets = read(&WORDS).unwrap();
        assert_eq!((offsets.task_name, offsets.task_coro, offsets.task_node), (136, 128, 152));
        assert_eq!((offsets.thread_running_task, offsets.thread_tasks_head), (872, 880));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for index in [0, 1, 2, 4, 5, 6, 9, 11, 12] {
            let mut words = WORDS;
            words[index] = u64::MAX;
            assert_eq!(read(&words), None, "{index}");
        }
        assert_eq!(read(&WORDS[..12]), None);
    }
}
