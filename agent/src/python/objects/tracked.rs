//! Objects that no name leads to, by the lists of the garbage collector: an application that only its server holds.
//!
//! The lists are read while the program runs and changes them. Whoever walks on an object that goes just then ends up
//! anywhere: every step is bounded, and what is found is asked again before it is believed.

use super::layout::Objects;
use crate::python::Collector;
use crate::python::strings::ObjectError;

/// Offsets in `PyInterpreterState` at which the lists of the collector may begin: they prove themselves.
///
/// Up to 3.12, `gc.generations`: `offsetof` on the headers of CPython 3.9.18, 3.10.13, 3.11.7 and 3.12.1. From 3.13 on the
/// interpreter says where its collector counts. Right before that stands the list of what `gc.freeze` took out, and before
/// it the three others, whatever they are called (`pycore_gc.h` of 3.13, `pycore_interp_structs.h` of 3.14 and 3.15), with
/// a pointer in between or without. Debian's 3.13.5 has them at a multiple of four that is none of eight.
fn lists_at(minor: u8, collector: Option<Collector>) -> Vec<u64> {
    let counts = match (minor, collector) {
        (9 | 10, _) => return vec![640],
        (11, _) => return vec![672],
        (12, _) => return vec![136],
        (13.., Some(Collector::OfInterpreter(counts) | Collector::Rings { pointer: counts, .. })) => counts,
        _ => return Vec::new(),
    };
    let last = u64::from(counts).saturating_sub((LISTS + 1) * LIST_SIZE);
    (0..=4).map(|steps| last.saturating_sub(4 * steps)).collect()
}

/// Generations, or what 3.14 has in their place. What `gc.freeze` has taken out of them is not looked at.
const LISTS: u64 = 3;
/// `struct gc_generation`: a head and two numbers.
const LIST_SIZE: u64 = 24;
/// `PyGC_Head`, before every object that is in a list.
const HEAD_SIZE: u64 = 16;
/// Bits of the pointer to the next one that mean something else.
const POINTER: u64 = !3;
/// Objects that are looked at.
const MAX_OBJECTS: u32 = 300_000;

impl Objects<'_> {
    /// The objects in the lists of the collector whose class is accepted, at most `most`; none where the lists are not
    /// where they should be.
    ///
    /// # Errors
    /// When what is linked cannot be read: the program has changed a list just then.
    pub fn tracked(
        &self,
        interpreter: u64,
        collector: Option<Collector>,
        most: usize,
        mut is_wanted: impl FnMut(u64) -> bool,
    ) -> Result<Vec<u64>, ObjectError> {
        let mut found = Vec::new();
        let places = lists_at(self.minor, collector).into_iter().map(|lists| interpreter.wrapping_add(lists));
        let heads = |lists: u64| (0..LISTS).map(move |list| lists.wrapping_add(list * LIST_SIZE));
        let Some(lists) = places.into_iter().find(|lists| heads(*lists).all(|head| self.is_list(head)))
        else {
            return Ok(found);
        };
        let mut looked_at = 0;
        for head in heads(lists) {
            let [mut at, _last] = self.words(head)?;
            while at & POINTER != head && looked_at < MAX_OBJECTS && found.len() < most {
                looked_at += 1;
                let [next, _previous, _references, class] = self.words(at & POINTER)?;
                if is_wanted(class) {
                    found.push((at & POINTER).wrapping_add(HEAD_SIZE));
                }
                at = next;
            }
        }
        Ok(found)
    }

    /// A list leads back to its head, both ways.
    fn is_list(&self, head: u64) -> bool {
        let leads_back = || {
            let [next, last] = self.words(head)?;
            let [_, before] = self.words(next & POINTER)?;
            let [behind] = self.words(last & POINTER)?;
            Ok::<bool, ObjectError>(before & POINTER == head && behind & POINTER == head)
        };
        leads_back().unwrap_or(false)
    }

    fn words<const COUNT: usize>(&self, address: u64) -> Result<[u64; COUNT], ObjectError> {
        let mut words = [0_u64; COUNT];
        self.memory.read(address, bytemuck::cast_slice_mut(&mut words))?;
        Ok(words.map(u64::from_le))
    }
}
