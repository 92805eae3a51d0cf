//! Garbage collections of one application: sums over all interpreters that there ever were, which never go backwards,
//! and how often each worker collects. What an interpreter did before it was watched is not counted, nor what a process
//! did between the last reading and its end.

use crate::python::{self, GENERATIONS, Generation};
use pyapm_model::definition;
use pyapm_model::metric::Family;
use std::collections::HashMap;

/// Processes that are followed at once.
const MOST_PROCESSES: usize = 4_096;
/// No generation is collected so often between two readings: a process that ends may be read while its memory is
/// somebody else's.
const MOST_FRESH: u64 = 1 << 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Collections {
    /// `None` until an interpreter has been read.
    sums: Option<[Generation; GENERATIONS]>,
    processes: HashMap<u32, Process>,
}

#[derive(Debug, Default)]
struct Process {
    /// By address.
    interpreters: HashMap<u64, [Generation; GENERATIONS]>,
    read_ns: Option<u64>,
    per_second: Option<f64>,
}

impl Collections {
    /// A process begins with an interpreter of its own: everything that it will collect counts.
    pub fn begins(&mut self, pid: u32) {
        if self.processes.len() < MOST_PROCESSES {
            self.processes.insert(pid, Process::default());
        }
    }

    /// A process has ended, or runs another program.
    pub fn exited(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// How far a process's interpreters have come. The first time, for one that has not [begun](Self::begins) here, it
    /// only says where to count from: what it has come to then may be what its parent did, before it was forked.
    pub fn read(&mut self, pid: u32, now_ns: u64, interpreters: &[python::Collections]) {
        if interpreters.is_empty() {
            return;
        }
        let sums = self.sums.get_or_insert_default();
        let is_first = !self.processes.contains_key(&pid);
        if is_first && self.processes.len() >= MOST_PROCESSES {
            return;
        }
        let process = self.processes.entry(pid).or_default();
        let mut more = [Generation::default(); GENERATIONS];
        for one in interpreters.iter().filter(|_| !is_first) {
            // An interpreter that was not there at the last reading is new, as is one that begins again at its address.
            let before = process.interpreters.get(&one.owner).copied();
            let before = before.filter(|before| is_behind(before, &one.generations)).unwrap_or_default();
            for ((more, now), before) in more.iter_mut().zip(&one.generations).zip(&before) {
                add(more, &since(now, before));
            }
        }
        let fresh: u64 = more.iter().map(|more| more.collections.min(MOST_FRESH + 1)).sum();
        if fresh > MOST_FRESH {
            return;
        }
        for (sum, more) in sums.iter_mut().zip(&more) {
            add(sum, more);
        }
        process.interpreters = interpreters.iter().map(|one| (one.owner, one.generations)).collect();
        process.per_second = process.read_ns.and_then(|read_ns| {
            let elapsed_ns = now_ns.checked_sub(read_ns).filter(|elapsed_ns| *elapsed_ns > 0)?;
            Some(fresh as f64 * 1e9 / elapsed_ns as f64)
        });
        process.read_ns = Some(now_ns);
    }

    /// Collections a second of one process, between the last two readings.
    #[must_use]
    pub fn per_second(&self, pid: u32) -> Option<f64> {
        self.processes.get(&pid)?.per_second
    }

    /// Totals; without points as long as nothing could be read.
    #[must_use]
    pub fn families(&self) -> [Family; 4] {
        let mut families = [
            definition::COLLECTIONS.family(),
            definition::COLLECTED.family(),
            definition::UNCOLLECTABLE.family(),
            definition::COLLECTION_TIME.family(),
        ];
        for (generation, sum) in self.sums.iter().flatten().enumerate() {
            let attributes = [("cpython.gc.generation", generation.to_string())];
            let attributes = attributes.each_ref().map(|(name, value)| (*name, value.as_str()));
            let [collections, collected, uncollectable, pauses] = families;
            families = [
                collections.with(&attributes, sum.collections as f64),
                collected.with(&attributes, sum.collected as f64),
                uncollectable.with(&attributes, sum.uncollectable as f64),
                match sum.pause_ns {
                    Some(pause_ns) => pauses.with(&attributes, pause_ns as f64 / 1e9),
                    None => pauses,
                },
            ];
        }
        families
    }
}

/// Whether every count may have grown from `before` to `now`.
fn is_behind(before: &[Generation; GENERATIONS], now: &[Generation; GENERATIONS]) -> bool {
    before.iter().zip(now).all(|(before, now)| before.collections <= now.collections)
}

fn since(now: &Generation, before: &Generation) -> Generation {
    Generation {
        collections: now.collections.saturating_sub(before.collections),
        collected: now.collected.saturating_sub(before.collected),
        uncollectable: now.uncollectable.saturating_sub(before.uncollectable),
        pause_ns: now.pause_ns.map(|now| now.saturating_sub(before.pause_ns.unwrap_or(0))),
    }
}

fn add(sum: &mut Generation, more: &Generation) {
    sum.collections = sum.collections.saturating_add(more.collections);
    sum.collected = sum.collected.saturating_add(more.collected);
    sum.uncollectable = sum.uncollectable.saturating_add(more.uncollectable);
    if let Some(more_ns) = more.pause_ns {
        sum.pause_ns = Some(sum.pause_ns.unwrap_or(0).saturating_add(more_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(owner: u64, collections: u64, pause_ns: Option<u64>) -> python::Collections {
        let one = Generation { collections, collected: collections * 3, uncollectable: 1, pause_ns };
        python::Collections { owner, generations: [one, Generation::default(), Generation::default()] }
    }

    fn young(collections: &Collections) -> Option<Generation> {
        collections.sums.map(|[young, ..]| young)
    }

    #[test]
    fn it_counts_from_the_first_reading_and_never_goes_backwards() {
        let mut all = Collections::default();
        assert!(all.families().iter().all(|family| family.points.is_empty()));
        all.read(1, 0, &[]);
        assert_eq!(young(&all), None);
        all.read(1, SECOND, &[at(7, 100, None)]);
        assert_eq!((young(&all), all.per_second(1)), (Some(Generation::default()), None));
        all.read(1, 3 * SECOND, &[at(7, 110, None)]);
        assert_eq!(young(&all).map(|young| (young.collections, young.collected)), Some((10, 30)));
        assert_eq!(all.per_second(1), Some(5.0));
        // A child that was forked has what its parent had.
        all.read(2, 3 * SECOND, &[at(7, 110, None)]);
        all.read(2, 4 * SECOND, &[at(7, 111, None)]);
        assert_eq!(young(&all).map(|young| young.collections), Some(11));
        // Gone; and its pid is another's.
        all.exited(2);
        all.read(2, 5 * SECOND, &[at(7, 3, None)]);
        assert_eq!((young(&all).map(|young| young.collections), all.per_second(2)), (Some(11), None));
        let points = all.families().map(|family| family.points.len());
        assert_eq!(points, [3, 3, 3, 0]);
    }

    #[test]
    fn interpreters_that_begin_meanwhile_count_from_their_beginning() {
        let mut all = Collections::default();
        all.begins(1);
        all.read(1, SECOND, &[at(7, 5, Some(50))]);
        assert_eq!(young(&all).map(|young| (young.collections, young.pause_ns)), Some((5, Some(50))));
        all.read(1, 2 * SECOND, &[at(7, 6, Some(60)), at(8, 2, Some(9))]);
        assert_eq!(young(&all).map(|young| (young.collections, young.pause_ns)), Some((8, Some(69))));
        // One has ended, and another begun where it was.
        all.read(1, 3 * SECOND, &[at(7, 6, Some(60)), at(8, 1, Some(4))]);
        assert_eq!(young(&all).map(|young| (young.collections, young.pause_ns)), Some((9, Some(73))));
        assert_eq!(all.families().map(|family| family.points.len()), [3, 3, 3, 1]);
    }
}
