//! What an interpreter's garbage collector has done since it began, as the interpreter counts it itself: the figures of
//! `gc.get_stats()`, read from outside. No probe, and nothing of the objects.
//!
//! Up to 3.14 each of the three generations has a `struct gc_generation_stats` of three words: `collections`, `collected`,
//! `uncollectable` (`Include/internal/pycore_pymem.h` of 3.8, `pycore_gc.h` of 3.9 to 3.13, `pycore_interp_structs.h` of
//! 3.14). They lie right before `collecting` in every one of them. From 3.15 on there is a ring of the latest runs for each
//! generation, every one with the totals up to it (`pycore_interp_structs.h`, `struct gc_stats`; `Python/gc.c`).

use super::memory::{Memory, MemoryError};
use super::runtime::Interpreter;

/// Generations that are counted, in every version; builds without the GIL have as many, and use them otherwise.
pub const GENERATIONS: usize = 3;

/// Interpreters of one process that are read: a list that is torn may be a circle.
const MAX_INTERPRETERS: usize = 64;
const WORD: usize = 8;
/// `struct gc_generation_stats` up to 3.14.
const PLAIN: usize = 3 * WORD;
/// The same from 3.15 on: two times, three counts, the candidates, the duration (a double), the size of the heap.
const TIMED: usize = 8 * WORD;
/// Positions in it, in words.
const COLLECTIONS: usize = 2;
const DURATION: usize = 6;
/// Runs that a ring holds, of the young generation and of each old one: with the GIL, and without.
const RINGS: [[u32; 2]; 2] = [[11, 3], [1, 1]];
/// `struct _gc_runtime_state` of any version is far smaller.
const MAX_STATE: u64 = 4096;

/// Where an interpreter keeps its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// At this offset in `_PyRuntimeState`: one for all interpreters (3.8).
    OfRuntime(u32),
    /// At this offset in `PyInterpreterState` (3.9 to 3.14).
    OfInterpreter(u32),
    /// There is a pointer at this offset in `PyInterpreterState`, to rings that hold so many runs (3.15 on).
    Rings { pointer: u32, young: u32, old: u32 },
}

/// What `_Py_DebugOffsets` says of it, word by word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// `sizeof(PyInterpreterState)`, and its member `gc`.
    pub(super) interpreter_size: u64,
    pub(super) gc: u64,
    /// `sizeof(struct _gc_runtime_state)`, and its member `collecting`.
    pub(super) gc_size: u64,
    pub(super) collecting: u64,
    /// `sizeof(struct gc_stats)`, and the member that points to one (3.15 on).
    pub(super) rings: Option<(u64, u64)>,
}

/// One generation's totals since the interpreter began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub collections: u64,
    /// Objects.
    pub collected: u64,
    /// Objects that were found to be garbage and could not be let go of.
    pub uncollectable: u64,
    /// Nanoseconds; `None` before 3.15, which does not measure it.
    pub pause_ns: Option<u64>,
}

/// One interpreter's collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collections {
    /// Address of its `PyInterpreterState`, or of `_PyRuntime` where all interpreters share one.
    pub owner: u64,
    pub generations: [Generation; GENERATIONS],
}

impl Collector {
    /// Where 3.`minor` has it, for versions that do not say so themselves.
    ///
    /// Source: `offsetof` on the headers of CPython 3.8.18, 3.9.18, 3.10.13, 3.11.7 and 3.12.1, x86-64.
    #[must_use]
    pub fn table(minor: u8) -> Option<Self> {
        match minor {
            8 => Some(Self::OfRuntime(472)),
            9 | 10 => Some(Self::OfInterpreter(744)),
            11 => Some(Self::OfInterpreter(776)),
            12 => Some(Self::OfInterpreter(240)),
            _ => None,
        }
    }

    /// From what the interpreter says of itself. It lies in its writable memory: what is not credible gives `None`.
    pub(super) fn said(words: &Words) -> Option<Self> {
        let Words { interpreter_size, gc, gc_size, collecting, rings } = *words;
        let within = gc.checked_add(gc_size).is_some_and(|end| end <= interpreter_size);
        if !within || gc_size > MAX_STATE || collecting.checked_add(4)? > gc_size {
            return None;
        }
        let place = |offset: u64| {
            let place = gc.checked_add(offset)?;
            u32::try_from(place).ok().filter(|place| place.is_multiple_of(8))
        };
        let Some((size, pointer)) = rings else {
            return place(collecting.checked_sub((GENERATIONS * PLAIN) as u64)?).map(Self::OfInterpreter);
        };
        if pointer.checked_add(8)? > gc_size {
            return None;
        }
        // Whether the rings are as they are known here, their size tells.
        let known = RINGS.into_iter().find(|[young, old]| {
            let rings = rings_size(*young, *old) as u64;
            // Releases have a count of updates behind them, which pre-releases had not.
            size == rings || size == rings + WORD as u64
        });
        known.and_then(|[young, old]| Some(Self::Rings { pointer: place(pointer)?, young, old }))
    }
}

/// Bytes of a ring: its runs, and which of them is the latest (a byte, padded).
fn ring_size(runs: u32) -> usize {
    runs as usize * TIMED + WORD
}

fn rings_size(young: u32, old: u32) -> usize {
    ring_size(young) + (GENERATIONS - 1) * ring_size(old)
}

/// What the collectors of all interpreters of a process have done; empty where its version does not say where that is.
///
/// # Errors
/// When it cannot be read, which is also what a list of interpreters that changes meanwhile can look like.
pub fn collections(memory: &dyn Memory, interpreter: &Interpreter) -> Result<Vec<Collections>, MemoryError> {
    let Some(collector) = interpreter.collector else { return Ok(Vec::new()) };
    let runtime = interpreter.runtime_address;
    let at = |base: u64, offset: u32| base.wrapping_add(u64::from(offset));
    if let Collector::OfRuntime(stats) = collector {
        return Ok(vec![Collections { owner: runtime, generations: plain(memory, at(runtime, stats))? }]);
    }
    let mut all = Vec::new();
    let mut owner = memory.read_u64(at(runtime, interpreter.offsets.runtime_interpreters_head))?;
    while owner != 0 && all.len() < MAX_INTERPRETERS {
        let generations = match collector {
            Collector::OfRuntime(stats) | Collector::OfInterpreter(stats) => plain(memory, at(owner, stats))?,
            Collector::Rings { pointer, young, old } => match memory.read_u64(at(owner, pointer))? {
                // Neither begun, nor ended for good.
                0 => [Generation { pause_ns: Some(0), ..Generation::default() }; GENERATIONS],
                rings => timed(memory, rings, young, old)?,
            },
        };
        all.push(Collections { owner, generations });
        owner = memory.read_u64(at(owner, interpreter.offsets.interpreter_next))?;
    }
    Ok(all)
}

fn plain(memory: &dyn Memory, address: u64) -> Result<[Generation; GENERATIONS], MemoryError> {
    let mut block = [0; GENERATIONS * PLAIN];
    memory.read(address, &mut block)?;
    let mut generations = [Generation::default(); GENERATIONS];
    for (generation, words) in generations.iter_mut().zip(block.chunks_exact(PLAIN)) {
        *generation = counts(words, 0);
    }
    Ok(generations)
}

fn timed(
    memory: &dyn Memory,
    address: u64,
    young: u32,
    old: u32,
) -> Result<[Generation; GENERATIONS], MemoryError> {
    let block = memory.read_bytes(address, rings_size(young, old))?;
    let mut rest = block.as_slice();
    let mut generations = [Generation::default(); GENERATIONS];
    for (generation, runs) in generations.iter_mut().zip([young, old, old]) {
        let (ring, behind) = rest.split_at_checked(ring_size(runs)).unwrap_or_default();
        rest = behind;
        generation.pause_ns = Some(0);
        // Totals only grow, so the largest of each is the latest, also while the next run is being written.
        for run in ring.chunks_exact(TIMED) {
            let told = counts(run, COLLECTIONS);
            generation.collections = generation.collections.max(told.collections);
            generation.collected = generation.collected.max(told.collected);
            generation.uncollectable = generation.uncollectable.max(told.uncollectable);
            generation.pause_ns = generation.pause_ns.max(nanoseconds(word(run, DURATION)));
        }
    }
    Ok(generations)
}

/// Three counts, from this word on. They are signed; below zero is nothing that can be counted.
fn counts(words: &[u8], from: usize) -> Generation {
    let count = |index: usize| u64::from_le_bytes(word(words, from + index)).min(i64::MAX as u64);
    Generation { collections: count(0), collected: count(1), uncollectable: count(2), pause_ns: None }
}

fn word(words: &[u8], index: usize) -> [u8; WORD] {
    words.as_chunks::<WORD>().0.get(index).copied().unwrap_or_default()
}

/// Seconds as a double; `None` for what no duration is.
fn nanoseconds(seconds: [u8; WORD]) -> Option<u64> {
    let seconds = f64::from_le_bytes(seconds);
    std::time::Duration::try_from_secs_f64(seconds).ok()?.as_nanos().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::memory::BufferMemory;

    const WORDS: Words =
        Words { interpreter_size: 200_000, gc: 7408, gc_size: 240, collecting: 192, rings: None };

    #[test]
    fn what_the_interpreter_says_is_checked() {
        assert_eq!(Collector::said(&WORDS), Some(Collector::OfInterpreter(7528)));
        let rings = Words { rings: Some((1120, 104)), ..WORDS };
        assert_eq!(Collector::said(&rings), Some(Collector::Rings { pointer: 7512, young: 11, old: 3 }));
        let single = Words { rings: Some((216, 104)), ..WORDS };
        assert_eq!(Collector::said(&single), Some(Collector::Rings { pointer: 7512, young: 1, old: 1 }));
        for wrong in [
            Words { collecting: 64, ..WORDS },
            Words { collecting: 237, ..WORDS },
            Words { collecting: 193, ..WORDS },
            Words { gc: u64::MAX, ..WORDS },
            Words { gc: 199_900, ..WORDS },
            Words { gc_size: 5_000, ..WORDS },
            Words { rings: Some((1104, 104)), ..WORDS },
            Words { rings: Some((1128, 104)), ..WORDS },
            Words { rings: Some((1112, 233)), ..WORDS },
            Words { rings: Some((1112, u64::MAX)), ..WORDS },
        ] {
            assert_eq!(Collector::said(&wrong), None, "{wrong:?}");
        }
    }

    fn words(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn three_words_a_generation() {
        let mut memory = BufferMemory::new();
        memory.add(0x1000, words([5, 70, 0, 4, 3, 2, 1, u64::MAX, 0]));
        let [young, middle, old] = plain(&memory, 0x1000).unwrap();
        assert_eq!((young.collections, young.collected, young.pause_ns), (5, 70, None));
        assert_eq!((middle.collections, middle.uncollectable), (4, 2));
        assert_eq!((old.collections, old.collected), (1, i64::MAX as u64));
        assert!(plain(&memory, 0x1008).is_err());
    }

    #[test]
    fn of_a_ring_the_largest_totals_count() {
        let run = |count: u64, seconds: f64| [9, 9, count, count * 10, 0, 9, seconds.to_bits(), 9];
        let mut ring: Vec<u64> = Vec::new();
        for (count, seconds) in [(12, 1.25), (13, 1.5), (11, f64::NAN)] {
            ring.extend(run(count, seconds));
        }
        ring.push(1);
        let nothing = vec![0; 25];
        let mut memory = BufferMemory::new();
        memory.add(0x1000, words([ring, nothing.clone(), nothing].concat()));
        let [young, old, _] = timed(&memory, 0x1000, 3, 3).unwrap();
        assert_eq!((young.collections, young.collected, young.pause_ns), (13, 130, Some(1_500_000_000)));
        assert_eq!(old, Generation { pause_ns: Some(0), ..Generation::default() });
        assert!(timed(&memory, 0x1000, 11, 3).is_err());
    }
}
